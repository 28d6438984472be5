"""Merge what other repositories have exported: files, folders, and exports of another time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.shop import FLOW, MAILER
from tests.cli.test_commands import Change, cwd, fresh_modules, saga, shop

__all__ = ["cwd", "fresh_modules", "shop"]


@pytest.fixture(autouse=True)
def exported(shop: Change) -> Path:
    """Have manifests of two repositories in a folder: `mailer` and `rooms`."""
    del shop
    folder = Path("manifests")
    folder.mkdir()
    Path("mailer.py").write_text(MAILER)
    assert saga("manifest", "mailer:mailer", "-o", "manifests/mailer.json").code == 0
    assert saga("manifest", "shop:rooms", "-o", "manifests/rooms.json").code == 0
    Path("mailer.py").unlink()
    return folder


def test_code_a_file_and_a_folder_make_one_plan(exported: Path) -> None:
    (exported / "notes.txt").write_text("not read")
    (exported / "old.plan.json").write_text("not read")
    one = saga("plan", "shop:desk", "manifests", "-o", "one")
    other = saga("plan", "manifests/rooms.json", "shop:desk", "manifests/mailer.json", "-o", "other")
    assert (one.code, one.out.splitlines()[1], one.err) == (0, f"  {FLOW} -> mailer.mail", "")
    assert other.code == 0
    assert Path("one/booking.v1.plan.json").read_bytes() == Path("other/booking.v1.plan.json").read_bytes()
    assert saga("check", "shop:desk", "manifests", "one").code == 0
    assert saga("check", "shop:desk", "manifests", "--plans", "one").code == 0


def test_the_same_manifest_twice_is_one() -> None:
    assert saga("plan", "shop:desk", "shop:rooms", "manifests").code == 0


def test_two_manifests_of_one_service_name_where_they_are(shop: Change) -> None:
    shop("seconds=5", "seconds=7")
    saga("manifest", "shop:services", "-o", "manifests/shop.json")
    said = saga("plan", "manifests", "-o", "plans")
    where = "manifests/rooms.json and manifests/shop.json"
    assert said.code == 1
    assert said.err.startswith(f"error: service rooms: {where} declare different things; name only the newest")
    assert not Path("plans").exists()


@pytest.mark.parametrize(
    ("format_", "sentence"),
    [
        (2, "was exported by a newer saga (format 2, this one reads 1); update saga here"),
        (0, "was exported by an older saga (format 0, this one reads 1); update saga in that repository"),
        ("1", "this is nothing that `saga manifest` exports; export it again"),
        (None, "this is nothing that `saga manifest` exports; export it again"),
    ],
)
def test_an_export_of_another_time_says_who_must_move(exported: Path, format_: object, sentence: str) -> None:
    file = exported / "rooms.json"
    body = json.loads(file.read_text())
    assert body["format"] == 1
    # Whatever else a newer export holds: its format speaks first.
    file.write_text(json.dumps({**body, "format": format_, "manifests": [{"unheard": "of"}]}))
    said = saga("plan", "shop:desk", "manifests")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert said.err.startswith(f"error: manifests/rooms.json: {sentence}")


EDITS: list[tuple[dict[str, object], str]] = [
    ({"manifests": "rooms"}, "its manifests are no list; export it again"),
    ({"manifests": [{"service": "rooms"}]}, "the manifest: sagas missing; write the file again"),
    (
        {"manifests": [{"service": "rooms", "sagas": [], "zones": []}]},
        "the manifest: zones not known to this version of saga; update saga, or remove it",
    ),
]


@pytest.mark.parametrize(("change", "sentence"), EDITS)
def test_an_export_edited_by_hand_says_where(exported: Path, change: dict[str, object], sentence: str) -> None:
    file = exported / "rooms.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    said = saga("plan", "shop:desk", "manifests")
    assert (said.code, said.err.startswith(f"error: manifests/rooms.json: {sentence}")) == (1, True), said.err


def test_a_plan_is_no_manifest() -> None:
    saga("plan", "shop:desk", "manifests")
    said = saga("plan", "plans/booking.v1.plan.json")
    assert (said.code, "this is a plan, not a manifest; name the services' code" in said.err) == (1, True)
