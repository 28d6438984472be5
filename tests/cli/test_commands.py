from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from saga.cli.commands import app
from tests.cli.shop import FLOW, MAILER, SERVICES
from tests.core import checkout

PLAN = Path("plans/booking.v1.plan.json")
CHECKOUT = f"{checkout.__name__}:SERVICES"


@dataclass(frozen=True, kw_only=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def fresh_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Import the shop anew in every test, and again when a test has changed it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    forget()


def forget() -> None:
    for name in ("shop", "mailer", "broken"):
        sys.modules.pop(name, None)


def saga(*arguments: str) -> Said:
    forget()
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return Said(code=result.exit_code, out=result.stdout, err=result.stderr)


@pytest.fixture
def shop() -> Callable[[str, str], None]:
    """Write the shop; the returned function changes its code."""
    source = Path("shop.py")
    source.write_text(SERVICES)

    def change(before: str, after: str) -> None:
        text = source.read_text()
        assert before in text
        source.write_text(text.replace(before, after))

    return change


Change = Callable[[str, str], None]


def revision() -> int:
    found = json.loads(PLAN.read_text())["revision"]
    assert isinstance(found, int)
    return found


def test_plan_check_change_check_plan(shop: Change) -> None:
    assert saga("plan", "shop:services") == Said(
        code=0, out=f"plans/booking.v1.plan.json: new, revision 1\n  {FLOW}\n", err=""
    )
    assert saga("check", "shop:services") == Said(code=0, out="booking v1: code and plan agree\n", err="")

    shop("seconds=5", "seconds=7")
    checked = saga("check", "shop:services", "plans")
    assert checked.code == 1
    assert checked.err == (
        "error: plans/booking.v1.plan.json: rooms.book: timeout_ms was 5000, is 7000 in the code; "
        "run `saga plan` and commit what it writes\n"
    )

    planned = saga("plan", "shop:services")
    assert planned.out == (
        f"plans/booking.v1.plan.json: changed, revision 2\n  {FLOW}\n  rooms.book: timeout_ms was 5000, is 7000\n"
    )
    assert revision() == 2
    assert saga("check", "shop:services", "--plans", "plans").code == 0


def test_the_same_in_a_process_of_its_own(shop: Change) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "saga.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        return done.returncode, done.stdout + done.stderr

    assert run("plan", "shop:services", "-o", "deploy")[0] == 0
    assert run("check", "shop:services", "deploy") == (0, "booking v1: code and plan agree\n")
    shop("seconds=5", "seconds=7")
    code, said = run("check", "shop:services", "deploy")
    assert (code, said.count("\n"), "Traceback" in said) == (1, 1, False)
    assert run()[0] == 2


@pytest.mark.usefixtures("shop")
def test_an_unchanged_plan_keeps_file_and_revision() -> None:
    saga("plan", "shop:services")
    before = PLAN.stat().st_mtime_ns
    assert saga("plan", "shop:services").out.startswith("plans/booking.v1.plan.json: unchanged, revision 1\n")
    assert PLAN.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("before", "after", "phrase"),
    [
        ("Booked | Full", "Booked", "rooms.book: refuses was rooms.full.v1, is nothing"),
        ("async def book(", "async def reserve(", "rooms.book is gone"),
        ("async def book(", "async def reserve(", "rooms.reserve is new"),
        ('Saga("booking", version=1)', 'Saga("booking", version=1, timeout=timedelta(1))', "timeout_ms was 300000, is"),
        ('"room.asked", version=1', '"room.asked", version=2', "start_event was room.asked.v1, is room.asked.v2"),
    ],
)
def test_every_change_is_told(shop: Change, before: str, after: str, phrase: str) -> None:
    saga("plan", "shop:services")
    shop(before, after)
    assert phrase in saga("check", "shop:services").err
    assert phrase in saga("plan", "shop:services").out
    assert revision() == 2


def test_another_limit_of_attempts_is_no_new_revision_and_must_be_written(shop: Change) -> None:
    saga("plan", "shop:services")
    shop('Saga("booking", version=1', 'Saga("booking", version=1, attempts=9')
    assert "attempts was 0, is 9 in the code" in saga("check", "shop:services").err
    assert saga("plan", "shop:services").out.startswith("plans/booking.v1.plan.json: rewritten, revision 1\n")
    assert saga("check", "shop:services").code == 0


@pytest.mark.usefixtures("shop")
def test_check_misses_a_plan_and_finds_a_stale_one() -> None:
    missing = saga("check", "shop:services")
    assert (missing.code, missing.err) == (
        1,
        "error: plans/booking.v1.plan.json: is missing; run `saga plan` and commit what it writes\n",
    )
    saga("plan", "shop:services", CHECKOUT)
    others = ", ".join(sorted(service.name for service in checkout.SERVICES))
    assert saga("check", "shop:services") == Said(
        code=0, out=f"booking v1: code and plan agree\ncheckout v1: not looked at: {others}\n", err=""
    )
    for before, after in (("checkout.v1", "checkout.v2"), ("booking.v1", "other.v1")):
        (PLAN.parent / f"{after}.plan.json").write_bytes((PLAN.parent / f"{before}.plan.json").read_bytes())
    stale = saga("check", "shop:services")
    assert stale.code == 1
    assert "plans/other.v1.plan.json: it holds booking v1" in stale.err
    for after in ("checkout.v2", "other.v1"):
        (PLAN.parent / f"{after}.plan.json").unlink()
    assert saga("check", "shop:services", CHECKOUT).code == 0


@pytest.mark.usefixtures("shop")
def test_a_plan_edited_by_hand_is_found_and_written_again() -> None:
    saga("plan", "shop:services")
    sound = PLAN.read_text()
    PLAN.write_text(sound.replace(FLOW, "desk.start -> elsewhere"))
    assert "flow or layout was edited by hand" in saga("check", "shop:services").err
    assert saga("plan", "shop:services").out.startswith("plans/booking.v1.plan.json: rewritten, revision 1\n")
    assert PLAN.read_text() == sound

    PLAN.write_text(sound.replace("5000", "7000"))
    assert "do not edit plans by hand" in saga("check", "shop:services").err
    assert "the file was not sound" in saga("plan", "shop:services").out
    assert revision() == 2


@pytest.mark.usefixtures("shop")
def test_a_file_without_a_revision_is_left_alone() -> None:
    PLAN.parent.mkdir()
    PLAN.write_text("<<<<<<< HEAD")
    said = saga("plan", "shop:services", CHECKOUT)
    assert said.code == 1
    assert "take the committed file back" in said.err
    assert [path.name for path in PLAN.parent.iterdir()] == [PLAN.name]


@pytest.mark.usefixtures("shop")
def test_a_plan_with_a_problem_is_told_and_nothing_is_written() -> None:
    said = saga("plan", "shop:rooms", CHECKOUT)
    assert said.code == 1
    assert "booking v1: no service starts it" in said.err
    assert not PLAN.parent.exists()


@pytest.mark.usefixtures("shop")
def test_the_manifest_of_another_repository_is_merged(cwd: Path) -> None:
    (cwd / "mailer.py").write_text(MAILER)
    assert saga("manifest", "mailer:mailer", "-o", "mailer.json").code == 0
    (cwd / "mailer.py").unlink()
    said = saga("plan", "shop:services", "mailer.json")
    assert (said.code, said.out.splitlines()[1]) == (0, f"  {FLOW} -> mailer.mail")
    assert saga("check", "shop:services", "mailer.json", "plans").code == 0
    checked = saga("check", "shop:services")
    assert (checked.code, checked.out) == (0, "booking v1: code and plan agree\nbooking v1: not looked at: mailer\n")


@pytest.mark.usefixtures("shop")
def test_a_service_of_a_fleet_is_checked_by_itself(shop: Change) -> None:
    saga("plan", "shop:services")
    for one, other in (("rooms", "desk"), ("desk", "rooms")):
        said = saga("check", f"shop:{one}", "--plans", "plans")
        assert (said.code, said.err) == (0, "")
        assert said.out == f"booking v1: code and plan agree\nbooking v1: not looked at: {other}\n"
    shop("seconds=5", "seconds=7")
    said = saga("check", "shop:rooms")
    assert (said.code, "rooms.book: timeout_ms was 5000, is 7000 in the code" in said.err) == (1, True)
    assert saga("check", "shop:desk").code == 0


def test_a_service_that_left_its_saga_is_found(shop: Change) -> None:
    saga("plan", "shop:services")
    saga("manifest", "shop:rooms", "-o", "rooms.json")
    found = json.loads(Path("rooms.json").read_text())
    found["manifests"][0]["sagas"] = []
    Path("gone.json").write_text(json.dumps(found))
    said = saga("check", "shop:desk", "gone.json")
    assert (said.code, "booking v1: no service declares a step of it" in said.err) == (1, True)
    shop('Saga("booking", version=1)', 'Saga("booking", version=2)')
    assert "plans/booking.v1.plan.json: no target takes part in this saga version" in saga("check", "shop:services").err


@pytest.mark.usefixtures("shop")
def test_a_whole_service_is_not_dropped_from_a_plan_unasked(cwd: Path) -> None:
    (cwd / "mailer.py").write_text(MAILER)
    saga("manifest", "mailer:mailer", "-o", "mailer.json")
    assert saga("plan", "shop:services", "mailer.json").code == 0
    before = PLAN.read_bytes()
    said = saga("plan", "shop:services")
    assert (said.code, said.out) == (1, "")
    assert said.err == (
        "error: plan booking v1 has steps of mailer, and neither a target nor a manifest of mailer was given: name its "
        "code, or its manifest (`saga manifest mailer:services -o mailer.json`), or --drop mailer if it is gone\n"
    )
    assert PLAN.read_bytes() == before
    PLAN.write_bytes(before.replace(b'"hash": "', b'"hash": "0'))
    assert saga("plan", "shop:services").code == 1, "nor from one that is not sound"
    PLAN.write_bytes(before)
    dropped = saga("plan", "shop:services", "--drop", "mailer")
    assert (dropped.code, "mailer.mail is gone" in dropped.out, revision()) == (0, True, 2)


@pytest.mark.usefixtures("shop")
def test_several_services_are_exported_to_one_file_and_to_standard_output() -> None:
    saga("manifest", "shop:services", "-o", "all.json")
    assert saga("manifest", "shop:services").out == Path("all.json").read_text()
    assert saga("plan", "all.json").code == 0
    assert saga("check", "all.json", "shop:services").code == 0


@pytest.mark.usefixtures("shop")
def test_two_manifests_of_one_service_are_refused(shop: Change) -> None:
    saga("manifest", "shop:rooms", "-o", "old.json")
    shop("seconds=5", "seconds=7")
    said = saga("plan", "shop:services", "old.json")
    assert said.code == 1
    assert said.err.startswith("error: service rooms: shop:services and old.json declare different things; name only")


def test_an_app_is_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(app=SimpleNamespace(services=checkout.SERVICES), __name__="shop")
    monkeypatch.setitem(sys.modules, "running", module)
    assert saga("plan", "running:app", "running:app.services").code == 0


@pytest.mark.usefixtures("shop")
def test_show_tells_a_plan_in_words() -> None:
    saga("plan", "shop:services")
    said = saga("show", str(PLAN))
    assert said.out.startswith(
        "booking v1, revision 1\n"
        "desk.start\n"
        "└── room.asked.v1 -> rooms.book (undo: nothing to do, may refuse: rooms.full.v1)\n"
        "    └── room.booked.v1\n"
        "\n"
    )
    assert (
        "rooms.book (step) reacts to room.asked.v1, emits room.booked.v1, refuses with rooms.full.v1, "
        "nothing to undo, an attempt within 0:00:05\n"
    ) in said.out


@pytest.mark.parametrize(
    ("target", "code", "sentence"),
    [
        ("shop", 2, "'shop' is no file and names no code; write module:attribute"),
        ("nowhere.json", 2, "'nowhere.json' is no file"),
        ("nowhere:services", 2, "there is no module nowhere; run from the folder it lies in"),
        ("shop.sub:services", 2, "there is no module shop.sub"),
        ("shop:service", 2, "shop has no service; it could be shop:desk, shop:rooms, shop:services"),
        ("shop:number", 2, "shop:number is a int, not a Service, a list of Services, or an App"),
        ("json:dumps", 2, "nothing in json is a Service"),
        ("broken:services", 1, "broken:services: importing broken raised ZeroDivisionError: division by zero"),
        ("shop.py", 1, "shop.py: the file is not JSON"),
        (".", 2, ".: no *.json in it; export manifests into it with `saga manifest -o`"),
    ],
)
@pytest.mark.usefixtures("shop")
def test_a_bad_target_is_one_clear_sentence(target: str, code: int, sentence: str) -> None:
    Path("broken.py").write_text("1 / 0")
    said = saga("plan", target)
    assert (said.code, said.out) == (code, "")
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_a_declaration_that_cannot_work_is_told(shop: Change) -> None:
    shop("asked: Asked,", "asked: int,")
    said = saga("plan", "shop:services")
    assert (said.code, said.err.startswith("error: ")) == (1, True)
    assert "rooms.book" in said.err


def test_a_manifest_cannot_name_a_path(shop: Change) -> None:
    del shop
    saga("manifest", "shop:services", "-o", "all.json")
    Path("all.json").write_text(Path("all.json").read_text().replace('"booking"', '"../booking"'))
    assert saga("plan", "all.json").code == 1
    assert not Path("booking.v1.plan.json").exists()


@pytest.mark.parametrize("arguments", [(), ("plan",), ("check",), ("plan", "--nope"), ("nope",), ("show", "nope.json")])
def test_wrong_use_exits_2(arguments: tuple[str, ...]) -> None:
    assert saga(*arguments).code == 2


@pytest.mark.parametrize("command", ["plan", "check", "manifest", "show"])
def test_help_explains(command: str) -> None:
    assert command in saga("--help").out
    assert saga(command, "--help").code == 0


def test_a_slow_way_is_warned_of(shop: Change, cwd: Path) -> None:
    hurried = 'Saga("booking", version=1, timeout=timedelta(seconds=5))'
    shop('Saga("booking", version=1)', hurried)
    mailer = MAILER.replace('Saga("booking", version=1)', hurried).replace(
        "retriable(booking,", "retriable(booking, timeout=timedelta(seconds=1),"
    )
    (cwd / "mailer.py").write_text(mailer)
    saga("manifest", "mailer:mailer", "-o", "mailer.json")
    said = saga("plan", "shop:services", "mailer.json")
    assert (said.code, said.err.startswith("warning: booking v1: the timeouts on the way")) == (0, True)


def test_without_the_extra_the_command_names_it() -> None:
    program = "import sys; sys.modules['typer'] = None; from saga.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the command `saga` needs the extra [cli]: pip install 'saga-choreography[cli]'\n"
