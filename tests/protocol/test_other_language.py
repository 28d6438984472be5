"""Prove docs/protocol.md: a participant written by it alone runs, closes and undoes in a fleet of ours."""

from __future__ import annotations

import ast
import sqlite3
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json import loads
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
import trio.testing

from saga import NOTHING, Ending, Event, Refusal, Run, Saga, Service
from tests.protocol import participant
from tests.protocol.foreign import Foreign, Together, together, write_plan
from tests.protocol.participant import Refused, Step
from tests.runtime.world import OutOfStock, Placed, VirtualClock, World, make_tables
from transports import MemoryTransport, open_transport

pytestmark = pytest.mark.anyio
Json = dict[str, Any]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def test_the_participant_knows_nothing_of_ours() -> None:
    tree = ast.parse(Path(participant.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


# --- a step between ours ------------------------------------------------------------------------------------


@dataclass
class Stock:
    """Reserve stock in a table of its own, as its order says."""

    database: str
    broken: bool = False
    stuck: bool = False

    def __post_init__(self) -> None:
        with sqlite3.connect(self.database) as db:
            db.execute("create table stock (place text primary key, goods text)")

    def reserve(self, db: sqlite3.Connection, order: Json) -> tuple[str, Json]:
        db.execute("insert into stock values (?, ?)", (order["order"], "one"))
        if order["reserve"] == "refuse":
            raise Refused("stock.out.v1", {"order": order["order"]})
        if self.broken:
            raise RuntimeError("no such shelf")
        return "stock.reserved.v1", {"order": order["order"], "capture": order["capture"], "ship": order["ship"]}

    def release(self, db: sqlite3.Connection, result: Json | list[Json] | None) -> None:
        assert isinstance(result, dict)
        if self.stuck:
            raise RuntimeError("the shelf is locked")
        db.execute("delete from stock where place = ?", (result["order"],))

    @property
    def places(self) -> list[str]:
        with sqlite3.connect(self.database) as db:
            return [place for (place,) in db.execute("select place from stock order by place")]

    @property
    def gates(self) -> list[tuple[int, int]]:
        with sqlite3.connect(self.database) as db:
            return [(held, number) for held, number in db.execute("select held, number from gate")]

    @property
    def runs(self) -> list[tuple[str, str]]:
        with sqlite3.connect(self.database) as db:
            found = db.execute("select json_extract(fact, '$.status'), undo from run").fetchall()
        return [(str(status), str(undo)) for status, undo in found]


@asynccontextmanager
async def shop(tmp_path: Path, world: World, stock: Stock, bootstrap: str = "") -> AsyncGenerator[Together]:
    """Run the world, its inventory in another language."""
    plans = write_plan(tmp_path / "plans", "checkout", world.services)
    ours = [service for service in world.services if service.name != "inventory"]
    clock = VirtualClock()
    steps = {"inventory.reserve": Step(action=stock.reserve, undo=stock.release)}
    foreign = Foreign(
        service="inventory",
        steps=steps,
        database=stock.database,
        now=(lambda: datetime.now(UTC)) if bootstrap else clock.now,
    )
    url = f"kafka://{bootstrap}?prefix={uuid4().hex[:8]}."
    async with (
        open_transport(url) if bootstrap else MemoryTransport() as transport,
        together(transport, ours, foreign, plans, make_tables, virtual=not bootstrap) as up,
    ):
        yield up


@pytest.fixture
def stock(tmp_path: Path) -> Stock:
    return Stock(database=str(tmp_path / "inventory.db"))


async def test_a_saga_goes_through_it(tmp_path: Path, stock: Stock) -> None:
    world = World()
    async with shop(tmp_path, world, stock):
        handle = await world.place(Placed(order="1"), key="1")
        assert (await handle.outcome(30)).ending is Ending.COMPLETED
    assert stock.places == ["1"]
    assert stock.runs == [("done", "none")]


async def test_it_is_closed_and_undone(tmp_path: Path, stock: Stock) -> None:
    world = World()
    async with shop(tmp_path, world, stock):
        handle = await world.place(Placed(order="1", capture="refuse"), key="1")
        ended = await handle.outcome(30)
        assert ended.ending is Ending.COMPENSATED
    assert stock.places == []
    assert stock.runs == [("done", "done")]


async def test_its_refusal_undoes_the_saga_and_is_told(tmp_path: Path, stock: Stock) -> None:
    world = World()
    async with shop(tmp_path, world, stock):
        handle = await world.place(Placed(order="7", reserve="refuse"), key="1")
        assert (await handle.outcome(30)).ending is Ending.COMPENSATED
        (end,) = world.endings
        assert end.refused_with(OutOfStock) == OutOfStock(order="7")
    assert stock.places == [], "what a refused step has written is gone"
    assert stock.runs == [("refused", "none")]


async def test_its_failure_undoes_the_saga(tmp_path: Path, stock: Stock) -> None:
    stock.broken = True
    world = World()
    async with shop(tmp_path, world, stock):
        handle = await world.place(Placed(order="1"), key="1")
        assert (await handle.outcome(30)).ending is Ending.COMPENSATED
        (end,) = world.endings
        assert "RuntimeError: no such shelf" in end.detail
    assert stock.runs == [("failed", "none")]


async def test_an_undo_that_fails_is_tried_again_when_a_person_says_so(tmp_path: Path, stock: Stock) -> None:
    stock.stuck = True
    world = World()
    async with shop(tmp_path, world, stock) as up, up.app.desk() as desk:
        handle = await world.place(Placed(order="1", capture="refuse"), key="1")
        assert (await handle.outcome(30)).ending is Ending.STUCK
        stock.stuck = False
        await desk.retry(handle.saga_id, "inventory.reserve", who="ann", why="the shelf is open")
        await until(lambda: stock.runs == [("done", "done")])
        await until(lambda: [end.ending for end in world.endings] == [Ending.STUCK, Ending.COMPENSATED])
    assert stock.places == []


async def test_it_holds_and_goes_on(tmp_path: Path, stock: Stock) -> None:
    world, go_on = World(), anyio.Event()
    world.behaviour["capture"] = lambda _: go_on.wait()
    async with shop(tmp_path, world, stock) as up, up.app.desk() as desk:
        handle = await world.place(Placed(order="1", capture="refuse"), key="1")
        await until(lambda: ("capture", handle.saga_id) in world.seen)
        await desk.hold(handle.saga_id, who="ann", why="wait")
        await until(lambda: stock.gates == [(1, 1)])
        go_on.set()
        await anyio.sleep(5)
        assert stock.places == ["1"], "nothing is undone while it is held"
        await desk.release(handle.saga_id, who="ann", why="go on")
        assert (await handle.outcome(60)).ending is Ending.COMPENSATED
    assert stock.gates == [(0, 2)]
    assert stock.places == []


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1200):
        if true():
            return
        await anyio.sleep(0.05)
    pytest.fail("it did not come to be")


@pytest.mark.kafka
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("capture", ["ok", "refuse"])
async def test_the_same_over_kafka(tmp_path: Path, stock: Stock, kafka: Any, capture: str) -> None:
    world = World()
    async with shop(tmp_path, world, stock, kafka.bootstrap):
        handle = await world.place(Placed(order="1", capture=capture), key="1")
        ended = await handle.outcome(60)
    assert ended.ending is (Ending.COMPLETED if capture == "ok" else Ending.COMPENSATED)
    assert stock.runs == [("done", "none" if capture == "ok" else "done")]


# --- branches -----------------------------------------------------------------------------------------------

delivery = Saga("delivery", version=1, timeout=timedelta(minutes=5))
desk_, depot, scales = map(Service, ("desk", "depot", "scales"))


class Ordered(Event, name="order.made", version=1):
    parcels: int
    heavy: int = 0


class Wanted(Event, name="parcel.wanted", version=1):
    number: int


class Weighed(Event, name="parcel.weighed", version=1):
    number: int


class Labelled(Event, name="parcel.labelled", version=1):
    number: int


class TooHeavy(Refusal, name="truck.full", version=1):
    parcels: int


make = desk_.starts(delivery, Ordered)


@depot.step(delivery)
async def split(order: Ordered, run: Run) -> list[Wanted]:
    raise NotImplementedError  # it runs elsewhere


@split.compensation
async def unsplit(parcels: list[Wanted], run: Run) -> None: ...


@scales.step(delivery, compensation=NOTHING)
async def weigh(parcel: Wanted, run: Run) -> Weighed:
    return Weighed(number=parcel.number)


@depot.step(delivery)
async def label(parcel: Weighed, run: Run) -> Labelled:
    raise NotImplementedError


@label.compensation
async def unlabel(labelled: Labelled, run: Run) -> None: ...


@depot.step(delivery)
async def wrap(parcel: Wanted, run: Run) -> None:
    raise NotImplementedError


@wrap.compensation
async def unwrap(parcel: Wanted, run: Run) -> None: ...


@scales.join(delivery, compensation=NOTHING)
async def load(parcels: list[Labelled], run: Run) -> TooHeavy | None:
    return TooHeavy(parcels=len(parcels)) if len(parcels) > 2 else None


def split_there(db: sqlite3.Connection, order: Json) -> tuple[str, list[Json]]:
    db.execute("insert into label values ('split')")
    return "parcel.wanted.v1", [{"number": n} for n in range(1, order["parcels"] + 1)]


def unsplit_there(db: sqlite3.Connection, result: Json | list[Json] | None) -> None:
    assert isinstance(result, list)
    assert [row for (row,) in db.execute("select name from label")] == ["split"], "all that was built on it is undone"
    db.execute("delete from label")


def label_there(db: sqlite3.Connection, parcel: Json) -> tuple[str, Json]:
    db.execute("insert into label values (?)", (str(parcel["number"]),))
    return "parcel.labelled.v1", {"number": parcel["number"]}


def wrap_there(db: sqlite3.Connection, parcel: Json) -> None:
    db.execute("insert into label values (?)", (f"paper {parcel['number']}",))


def unwrap_there(db: sqlite3.Connection, result: Json | list[Json] | None) -> None:
    assert result is None
    db.execute("delete from label where rowid = (select max(rowid) from label where name like 'paper%')")


def unlabel_there(db: sqlite3.Connection, result: Json | list[Json] | None) -> None:
    assert isinstance(result, dict)
    db.execute("delete from label where name = ?", (str(result["number"]),))


@pytest.mark.parametrize(
    ("parcels", "ending", "left"),
    [
        (2, Ending.COMPLETED, ["1", "2", "paper 1", "paper 2", "split"]),
        (0, Ending.COMPLETED, ["split"]),
        (3, Ending.COMPENSATED, []),
    ],
)
async def test_it_fans_out_and_its_branches_are_undone(
    tmp_path: Path, parcels: int, ending: Ending, left: list[str]
) -> None:
    database = str(tmp_path / "depot.db")
    with sqlite3.connect(database) as db:
        db.execute("create table label (name text)")
    steps = {
        "depot.split": Step(action=split_there, undo=unsplit_there),
        "depot.label": Step(action=label_there, undo=unlabel_there),
        "depot.wrap": Step(action=wrap_there, undo=unwrap_there),
    }
    foreign = Foreign(service="depot", steps=steps, database=database, now=VirtualClock().now)
    plans = write_plan(tmp_path / "plans", "delivery", [desk_, depot, scales])
    async with (
        MemoryTransport() as transport,
        together(transport, [desk_, scales], foreign, plans, make_tables, virtual=True),
    ):
        handle = await make(Ordered(parcels=parcels), key=f"{parcels}")
        assert (await handle.outcome(60)).ending is ending
    with sqlite3.connect(database) as db:
        assert [name for (name,) in db.execute("select name from label order by name")] == left
        found = {
            str(run["run"]): run["causes"] for (fact,) in db.execute("select fact from run") for run in [loads(fact)]
        }
    branches = [f"{n}of{parcels}" for n in range(1, parcels + 1)]
    assert found == (
        {"depot.split": ["desk.start"]}
        | {f"depot.wrap/{branch}": ["depot.split"] for branch in branches}
        | {f"depot.label/{branch}": [f"scales.weigh/{branch}"] for branch in branches}
    )
