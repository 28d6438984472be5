"""Start servers for a benchmark or by hand: `python -m tests.testbed kafka postgres`.

Prints one `SAGA_TEST_...=address` line each, which the test suite understands, and waits until it is ended.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from types import FrameType

from tests.testbed.broker import LocalKafka
from tests.testbed.cluster import LocalPostgres
from tests.testbed.finding import NAMES, VARIABLES, Name
from tests.testbed.jaeger import OTLP_VARIABLE, LocalJaeger
from tests.testbed.server import ServerFailed


def main() -> None:
    """Start what is named on the command line and stop it at SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    parser.add_argument("services", nargs="+", choices=[name for name in NAMES if name != "browser"])
    parser.add_argument("--kafka-port", type=int, help="listen here instead of on a free port")
    parser.add_argument("--postgres-port", type=int, help="listen here instead of on a free port")
    options = parser.parse_args()
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with contextlib.ExitStack() as stack:
        try:
            for service in dict.fromkeys(options.services):
                for line in start(service, options, stack):
                    sys.stdout.write(f"{line}\n")
                    sys.stdout.flush()
        except ServerFailed as error:
            sys.exit(str(error))
        ended.wait()


def start(service: Name, options: argparse.Namespace, stack: contextlib.ExitStack) -> list[str]:
    """Start one server and return its `KEY=value` lines."""
    if service == "kafka":
        kafka = stack.enter_context(contextlib.closing(LocalKafka(options.kafka_port)))
        kafka.start()
        return [f"{VARIABLES[service]}={kafka.bootstrap}"]
    if service == "postgres":
        postgres = stack.enter_context(contextlib.closing(LocalPostgres(options.postgres_port)))
        postgres.start()
        return [f"{VARIABLES[service]}={postgres.url}"]
    jaeger = stack.enter_context(contextlib.closing(LocalJaeger()))
    jaeger.start()
    return [f"{VARIABLES[service]}={jaeger.query}", f"{OTLP_VARIABLE}={jaeger.otlp}"]


if __name__ == "__main__":
    main()
