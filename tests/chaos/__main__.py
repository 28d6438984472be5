"""Kill everything at random: `python -m tests.chaos --sagas 2000 --kills 60 --restarts 3 --seed 1`.

Starts its own Kafka and PostgreSQL (or uses those of SAGA_TEST_KAFKA and SAGA_TEST_POSTGRES) and exits
non-zero with a sentence for everything that was lost, doubled, stuck or does not add up.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import anyio

from tests.chaos.chaos import Options, run_chaos
from tests.chaos.summary import lines_of
from tests.testbed.finding import ThisMachine, find
from tests.testbed.running import open_kafka, open_postgres


def options(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--sagas", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--restarts", type=int, default=3, help="how often PostgreSQL crashes")
    parser.add_argument("--broker-crashes", type=int, default=0, help="how often Kafka crashes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gap", type=float, default=4.0, help="mean seconds between two kills")
    parser.add_argument("--end", type=float, default=240.0, help="seconds every saga has after the chaos")
    parser.add_argument("--logs", type=Path, help="where the logs go; a temporary directory by default")
    given = parser.parse_args(arguments)
    return Options(
        sagas=given.sagas,
        kills=given.kills,
        restarts=given.restarts,
        broker_crashes=given.broker_crashes,
        seed=given.seed,
        gap_seconds=given.gap,
        end_seconds=given.end,
        logs=given.logs or Path(tempfile.mkdtemp(prefix="saga-chaos-")),
    )


def main() -> int:
    """Run it and print the ledger; return the exit code."""
    given = options()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # both end the processes on the way out
    with (
        closing(open_kafka(find("kafka", os.environ, ThisMachine()))) as kafka,
        closing(open_postgres(find("postgres", os.environ, ThisMachine()))) as postgres,
    ):
        report = anyio.run(run_chaos, kafka, postgres, given)
    sys.stdout.write("\n".join(lines_of(report)) + "\n")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
