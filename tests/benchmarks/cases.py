"""List the cases: which programs run which loads, with sagas of which shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from tests.benchmarks.place import Kind, Load, Shape

ALL = ("naive", "tuned", "limit", "product", "product_sets")
RATED = ("16", "128", "flood")
"""The cases by which the ratios are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Be loads that one process of a program runs one after another."""

    name: str
    programs: Sequence[str]
    loads: Sequence[Load] = ()
    shape: Shape = field(default_factory=Shape)
    options: dict[str, str] = field(default_factory=dict[str, str])
    is_main: bool = False

    def of(self, names: Sequence[str]) -> Group | None:
        """Return the group with the loads that are named: by themselves, by the group, or by its first word."""
        words = {self.name, self.name.partition("-")[0], "all", *(["main"] if self.is_main else [])}
        if words & set(names):
            return self
        loads = [load for load in self.loads if load.case in names]
        return replace(self, loads=loads) if loads else None

    def only(self, programs: Sequence[str]) -> Group:
        """Return the group with fewer programs."""
        return replace(self, programs=[program for program in self.programs if program in programs])


def closed(at_once: int, seconds: float, case: str = "") -> Load:
    """Return a closed loop."""
    return Load(case=case or str(at_once), kind=Kind.CLOSED, open=at_once, seconds=seconds)


def groups(*, quick: bool) -> Iterator[Group]:
    """Return all groups, in the order in which they run."""
    seconds = 1.0 if quick else 8.0
    sagas = 2_000 if quick else 20_000
    flood = Load(case="flood", kind=Kind.FLOOD, sagas=sagas)
    main = [closed(128, seconds), closed(16, seconds), flood]
    if not quick:
        main = [closed(1, seconds, "alone"), *main[:2], closed(1024, seconds), flood]
    yield Group(name="race", programs=ALL, loads=main, is_main=True)
    if quick:
        return
    rates = [Load(case=f"poisson-{rate}", kind=Kind.POISSON, per_second=rate, seconds=10) for rate in (200, 1000, 2000)]
    yield Group(name="poisson", programs=("tuned", "product"), loads=rates, is_main=True)
    yield from shapes()
    yield from variants()


def shapes() -> Iterator[Group]:
    """Return races of other lengths and with larger events."""
    programs = ("naive", "tuned", "limit", "product_legs")
    for steps in (2, 4, 8):
        loads = [closed(128, 6.0, f"steps-{steps}")]
        yield Group(name=f"steps-{steps}", programs=programs, loads=loads, shape=Shape(steps=steps))
    for size in (300, 3_000, 30_000):
        loads = [closed(64, 6.0, f"payload-{size}")]
        yield Group(name=f"payload-{size}", programs=programs, loads=loads, shape=Shape(payload_bytes=size))


def variants() -> Iterator[Group]:
    """Return what only this project is measured at."""
    for processes in (1, 2, 3, 4):
        yield variant(f"processes-{processes}", "product_processes", processes=str(processes))
    yield variant("embedded", "product_legs", store="sqlite")
    for rows in (100, 1000):
        yield variant(f"hot-{rows}", "product_legs", hot_rows=str(rows))
        yield variant(f"hot-{rows}-cap-1", "product_legs", hot_rows=str(rows), batch_cap="1")
    for refusing in ("before", "after"):
        yield variant(f"refused-{refusing}", "product_legs", refusing=refusing)
    for tracing in ("off", "idle", "0.01", "1.0"):
        yield variant(f"tracing-{tracing}", "product_legs", tracing=tracing)
    yield from alone()
    yield from aged()


def alone() -> Iterator[Group]:
    """Return the parts of this project by themselves."""
    yield Group(name="coordinator-alone", programs=("coordinator_alone",), options={"sagas": "20000"})
    for way in ("handed", "swept"):
        case = f"relay-{way}"
        yield Group(name=case, programs=("relay_alone",), options={"case": case, "way": way, "rows": "50000"})
    yield Group(name="commit-to-kafka", programs=("commit_to_kafka",), options={"sagas": "300"})


def aged() -> Iterator[Group]:
    """Return what happens after long, or with very much of something."""
    for finished in (0, 1_000_000):
        yield variant(f"finished-{finished}", "product_aged", finished=str(finished))
    options = {"case": "backlog", "way": "swept", "rows": "1000000"}
    yield Group(name="backlog", programs=("relay_alone",), options=options)
    for pinned in ("no", "yes"):
        loads = [closed(128, 10.0, f"pinned-{pinned}-{seconds}-s") for seconds in (10, 20, 30)]
        yield Group(name=f"pinned-{pinned}", programs=("product_aged",), loads=loads, options={"pinned": pinned})
    waiting = {"delay_seconds": "3600", "timeout_seconds": "7200"}
    yield Group(name="open-sagas", programs=("open_sagas",), options={**waiting, "processes": "2", "sagas": "100000"})
    overdue = {"delay_seconds": "3600", "timeout_seconds": "7200", "pending": "100000", "per_second": "50"}
    yield Group(name="deadlines", programs=("deadlines",), options=overdue)


def variant(name: str, program: str, **options: str) -> Group:
    """Return a case of one program, named like its group."""
    return Group(name=name, programs=(program,), loads=[closed(128, 6.0, name)], options=options)
