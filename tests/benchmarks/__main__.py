"""Measure this project beside the same saga written by hand: `python -m tests.benchmarks [--quick]`.

One Kafka and one PostgreSQL serve all programs, one after another: each runs as a process of its own with databases and
topics of its own, in several rounds, and what is printed is the median of the rounds. A line of JSON for each case and
program, then two lines of ratios, of Python's processor time (steadier on a machine that does other things) and of
sagas a second: each the worst of 16 and 128 open and of the flood.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing as ending
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from statistics import median

import asyncpg

from tests.benchmarks.cases import RATED, Group, closed, groups
from tests.benchmarks.place import SITTING, Kind, Load, Place, Sitting
from tests.testbed.finding import ThisMachine, find
from tests.testbed.running import open_kafka, open_postgres
from tests.testbed.server import LocalServer, run_apart
from tests.testbed.services import Kafka, Postgres, Service

Line = dict[str, object]
SITTING_SECONDS = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Give each program a place of its own on the same servers."""

    kafka: Kafka
    postgres: Postgres
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def place(self, program: str) -> Place:
        """Create empty databases; what the program before has left to be written is written now."""
        run_apart(self._checkpoint)
        return Place(
            kafka=self.kafka.bootstrap,
            services=self.postgres.create_database_now("services"),
            coordinator=self.postgres.create_database_now("coordinator"),
            prefix=f"{program}-{next(self.numbers)}.",
            kafka_pid=pid_of(self.kafka),
            postgres_pid=pid_of(self.postgres),
        )

    async def _checkpoint(self) -> None:
        connection = await asyncpg.connect(self.postgres.url)
        try:
            await connection.execute("checkpoint", timeout=300)
        finally:
            await connection.close()


def pid_of(service: Service) -> int:
    """Return the server's process ID, or 0 where it is not a process of this machine that we started."""
    return service.control.pid if isinstance(service.control, LocalServer) else 0


def sit(servers: Servers, group: Group, program: str, warm_seconds: float) -> list[Line]:
    """Run a group's loads in a process of the program and return its lines."""
    sitting = Sitting(
        place=servers.place(program),
        shape=group.shape,
        warm_seconds=warm_seconds,
        loads=tuple(group.loads),
        options=group.options,
    )
    command = [sys.executable, "-m", f"tests.benchmarks.programs.{program}", SITTING.dump_json(sitting).decode()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SITTING_SECONDS, check=False)
    except subprocess.TimeoutExpired as late:
        lines, error = (late.stdout or b"").decode(), f"not done after {SITTING_SECONDS} s"
    else:
        lines, error = done.stdout, done.stderr[-2000:] if done.returncode else ""
    found: list[Line] = [{"program": program, "group": group.name, **json.loads(line)} for line in lines.splitlines()]
    return [*found, {"program": program, "group": group.name, "case": "", "failed": error}] if error else found


def warm(servers: Servers) -> None:
    """Let the servers do some work that is not measured: whoever comes first would meet them cold."""
    loads = [closed(16, 1.0), Load(case="flood", kind=Kind.FLOOD, sagas=2_000)]
    sit(servers, Group(name="warm", programs=["limit"], loads=loads), "limit", 0.0)


def missing(program: str) -> str:
    """Return why a program cannot run, or nothing."""
    return str(getattr(import_module(f"tests.benchmarks.programs.{program}"), "MISSING", ""))


def middle(lines: Sequence[Line]) -> Line:
    """Return the median of each number of the same case in several rounds."""
    found: Line = dict(lines[0])
    for name in lines[0]:
        values = [value for line in lines if isinstance(value := line.get(name), int | float)]
        if values:
            found[name] = round(median(values), 3)
    return found


def ratios(rates: Mapping[tuple[str, str], float], what: str = "") -> str:
    """Return a line of ratios: the worst of the rated cases, for each way to write steps."""
    words: list[str] = []
    for program, suffix in (("product", ""), ("product_sets", "_sets")):
        for name, other in (("ratio_naive", "naive"), ("ratio_tuned", "tuned"), ("share_of_limit", "limit")):
            pairs = [(rates.get((case, program)), rates.get((case, other))) for case in RATED]
            found = [mine / theirs for mine, theirs in pairs if mine and theirs]
            if found:
                words.append(f"{what}{name}{suffix}={min(found):.3f}")
    return " ".join(words)


def run_group(servers: Servers, group: Group, rounds: int, warm_seconds: float) -> Iterator[Line]:
    """Run a group's programs in turn, round after round; return a line for each case and program."""
    absent = {program: why for program in group.programs if (why := missing(program))}
    taken: dict[tuple[str, str], list[Line]] = {}
    for _ in range(rounds):
        for program in group.programs:
            for line in sit(servers, group, program, warm_seconds) if program not in absent else ():
                taken.setdefault((str(line["case"]), program), []).append(line)
    for _, lines in sorted(taken.items(), key=lambda item: item[0][0]):
        yield middle(lines)
    for program, why in absent.items():
        yield {"program": program, "group": group.name, "case": "", "skipped": why}


def measure(servers: Servers, chosen: Sequence[Group], rounds: int, warm_seconds: float) -> bool:
    """Run all groups, print their lines and the ratios; return whether all went well."""
    rates: dict[tuple[str, str], float] = {}
    thrift: dict[tuple[str, str], float] = {}
    well = True
    for group in chosen:
        for line in run_group(servers, group, rounds, warm_seconds):
            say(json.dumps(line))
            well = well and "failed" not in line
            key = str(line["case"]), str(line["program"])
            if isinstance(rate := line.get("sagas_per_second"), int | float):
                rates[key] = rate
            if isinstance(spent := line.get("python_ms_per_saga"), int | float) and spent:
                thrift[key] = 1 / spent
    for closing in (ratios(thrift, "cpu_"), ratios(rates)):
        if closing:
            say(closing)
    return well


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Start the servers and measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of the rated cases, under 50 s")
    parser.add_argument("--cases", nargs="+", default=["main"], help="cases or groups by name, `main`, or `all`")
    parser.add_argument("--programs", nargs="+", help="only these programs")
    parser.add_argument(
        "--rounds", type=int, help="how often everything runs; the median is told (3, or 1 with --quick)"
    )
    given = parser.parse_args()
    chosen = [group for one in groups(quick=given.quick) if (group := one.of(given.cases))]
    if given.programs:
        chosen = [group.only(given.programs) for group in chosen]
    if not chosen:
        parser.error(f"no such case; there are: {', '.join(names(quick=given.quick))}")
    rounds = given.rounds or (1 if given.quick else 3)
    with (
        ending(open_kafka(find("kafka", os.environ, ThisMachine()))) as kafka,
        ending(open_postgres(find("postgres", os.environ, ThisMachine()))) as postgres,
    ):
        servers = Servers(kafka=kafka, postgres=postgres)
        warm(servers)
        well = measure(servers, chosen, rounds, 1.0 if given.quick else 2.0)
    sys.exit(0 if well else 1)


def names(*, quick: bool) -> list[str]:
    """Return what --cases takes."""
    return [name for group in groups(quick=quick) for name in (group.name, *(load.case for load in group.loads))]


if __name__ == "__main__":
    main()
