from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from outbox.urls import open_coordination_store, open_store
from saga._core.bodies import UndoFailed
from saga._core.instance import Instance
from saga._core.planning import plan_hash, plan_to_json
from saga._core.rows import CoordinatorChanges, InstanceRow, PlanRow
from saga._core.stored_instance import instance_row
from saga._core.words import RunStatus
from tests.cli.test_dlq import SIGNED, Said, saga
from tests.core.protocol_examples import NOW, PLAIN, RESERVED, START, a_fact, closed, ran, told

PLAN = replace(PLAIN.plan, hash=plan_hash(PLAIN.plan))
URL = "sqlite:///one.db"


def row(saga_id: str, instance: Instance) -> InstanceRow:
    return instance_row(
        replace(instance, saga_id=saga_id),
        saga=PLAN.saga,
        version=1,
        plan=PLAN.hash,
        tenant="",
        partition=0,
        revision=0,
        started_at=NOW,
    )


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill a coordinator's database: two sagas are stuck, one runs."""
    monkeypatch.chdir(tmp_path)
    failed = a_fact("ship.send", RunStatus.FAILED, cause="stock.reserve")
    inputs = (ran(START), ran(RESERVED), ran(failed), closed("stock", RESERVED), closed("ship", failed))
    stuck = told(PLAIN, *inputs, UndoFailed(step="stock.reserve", reason="boom")).instance
    running = told(PLAIN, ran(START)).instance

    async def fill() -> None:
        async with open_store(URL) as store, open_coordination_store(URL) as coordination:
            await store.migrate()
            await coordination.migrate()
            body = plan_to_json(PLAN)
            plan = PlanRow(saga=PLAN.saga, version=1, revision=1, hash=PLAN.hash, body=body)
            await coordination.put_plans([plan])
            instances = (row("s1", stuck), row("s2", stuck), row("s3", running))
            await coordination.write(CoordinatorChanges(instances=instances))

    anyio.run(fill)


def acts(*arguments: str) -> list[Any]:
    return saga(*arguments, *SIGNED, "--json").lines


def test_one_saga_is_retried_and_the_trail_says_who() -> None:
    said = saga("retry", "s1", *SIGNED)
    told_it = "s1: done: retry stock.reserve; stuck -> closing; sends retry to stock\n"
    assert said == Said(code=0, out=told_it, err="")
    (act,) = saga("history", "s1", "--json").lines
    assert (act["who"], act["why"], act["verb"], act["target"]) == ("ann", "mended", "retry", "stock.reserve")
    assert (act["before"]["stuck"], act["after"]["phase"]) == ("stock.reserve: boom", "closing")


def test_a_refused_verb_exits_1_with_the_reason() -> None:
    said = saga("skip", "s1", "ship.send", *SIGNED)
    assert (said.code, said.out) == (1, "")
    assert "only what is to be undone can" in said.err
    assert saga("retry", "s9", *SIGNED).code == 1
    assert saga("history", "s1").code == 1, "nothing was written"


def test_a_dry_run_does_nothing() -> None:
    said = saga("cancel", "s3", *SIGNED, "--dry-run")
    assert said.out == "s3: would be done: cancel; running -> closing; sends close to ship, close to stock\n"
    (acted,) = saga("hold", "s3", *SIGNED, "--dry-run", "--json").lines
    assert (acted["saga_id"], acted["result"], acted["dry_run"]) == ("s3", "done", True)
    assert saga("history", "s3").code == 1


def test_all_that_is_stuck_is_retried_and_then_nothing_is() -> None:
    assert [(act["saga_id"], act["result"]) for act in acts("retry", "--all-stuck")] == [("s2", "done"), ("s1", "done")]
    assert saga("retry", "--all-stuck", *SIGNED).code == 1


def test_in_bulk_the_one_name_is_the_step_and_refusals_are_counted() -> None:
    said = saga("skip", "stock.reserve", "--saga", "checkout", *SIGNED, "--json")
    assert said.code == 1
    assert [act["result"] for act in said.lines] == ["refused", "done", "done"]
    assert "1 of 3 sagas refused" in said.err
    limited = saga("hold", "--saga", "checkout", "--limit", "1", *SIGNED, "--json")
    assert ([act["saga_id"] for act in limited.lines], limited.code) == (["s3"], 0)
    assert "--limit" in limited.err
    assert [act["result"] for act in acts("hold", "--phase", "running")] == ["unchanged"]
    assert saga("release", "s3", *SIGNED).code == 0


def test_a_result_goes_with_its_type() -> None:
    given = ("--result-type", "reserved.v1", "--result", '{"sku":"x"}')
    assert acts("skip", "s3", "stock.reserve", *given)[0]["result"] == "done"
    assert saga("skip", "s3", "stock.reserve", "--result", "{}", *SIGNED).code == 2
    assert saga("skip", "s3", "stock.reserve", *SIGNED).code == 1
    said = saga("resolve", "s3", "stock.reserve", "--verdict", "happened", *given, *SIGNED)
    assert (said.code, "calls nothing outside" in said.err) == (1, True)


CODE = """
from pydantic import Field
from saga import NOTHING, Event, Run, Saga, Service
checkout = Saga("checkout", version=1)
stock = Service("stock")
class Asked(Event, name="asked", version=1):
    pass
class Reserved(Event, name="reserved", version=1):
    sku: str
    number: int = Field(default=1, ge=1)
class Other(Event, name="other", version=1):
    pass
@stock.step(checkout, compensation=NOTHING)
async def reserve(asked: Asked, run: Run) -> Reserved:
    return Reserved(sku="x")
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the target of a module that declares the step, unlike any other test's."""
    name = f"code_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    return f"{name}:stock"


def skip(result: str, *arguments: str) -> Said:
    given = ("--result-type", "reserved.v1", "--result", result)
    return saga("skip", "s3", "stock.reserve", *given, *SIGNED, *arguments)


def test_a_dry_run_holds_a_result_against_the_code(code: str) -> None:
    said = skip('{"number": 0, "secret": "7b"}', "--code", code, "--dry-run")
    assert said.code == 1
    assert "the result does not fit reserved.v1: sku: Field required; number: " in said.err
    assert "7b" not in said.err
    said = skip('{"sku": "x"}', "--code", code, "--dry-run")
    assert (said.code, "checks it when it gets it" in said.out) == (0, False)
    assert skip("{}", "--code", code).code == 1, "nor is it sent"
    assert saga("history", "s3").code == 1
    assert skip('{"sku": "x"}', "--code", code).code == 0
    assert skip('{"sku": "x"}', "--code", "nowhere:stock").code == 2
    assert skip('{"sku": "x"}', "--code", "a file").code == 2


def test_without_the_code_a_dry_run_says_who_checks_a_result() -> None:
    said = skip("{}", "--dry-run")
    assert said.code == 0
    assert said.out.endswith(
        "; whether the result fits reserved.v1 is not known here: stock checks it when it gets it\n"
    )
    assert "checks it" not in skip("{}").out
    assert "checks it" not in saga("cancel", "s3", *SIGNED, "--dry-run").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("hold",),
        ("retry",),
        ("skip", "s1"),
        ("skip", "--all-stuck"),
        ("hold", "s1", "--all-stuck"),
        ("retry", "s1", "a.b", "--saga", "checkout"),
        ("retry", "s1", "a.b", "c.d"),
        ("cancel", "--phase", "stick"),
        ("cancel", "--phase", "stuck", "--all-stuck"),
        ("resolve", "s1", "stock.reserve"),
        ("resolve", "s1", "stock.reserve", "--verdict", "maybe"),
    ],
)
def test_what_is_used_wrongly_exits_2(arguments: tuple[str, ...]) -> None:
    assert saga(*arguments, *SIGNED).code == 2


def test_who_and_why_are_asked_for_and_what_cannot_be_opened_is_told_apart() -> None:
    assert saga("hold", "s1").code == 2
    assert saga("hold", "s1", "--who", "ann", "--why", " ").code == 2
    assert saga("hold", "s1", *SIGNED, store="sqlite:///typo.db").code == 2
    assert saga("hold", "s1", *SIGNED, store="postgresql://u:secret@127.0.0.1:1/none").code == 3


@pytest.mark.parametrize("verb", ["retry", "skip", "resolve", "cancel", "hold", "release"])
def test_every_verb_explains_itself(verb: str) -> None:
    said = saga(verb, "--help")
    assert said.code == 0
    assert "--dry-run" in said.out
