"""One suite for the Keys port; every adapter runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from saga.ports.sealing import Key, Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysBench:
    """Hold the adapter under test, and open it anew as another process would."""

    keys: Keys
    again: Callable[[], Keys]


class KeysContract:
    """What every place for keys promises."""

    async def test_a_key_is_made_once_and_known_to_everybody(self, keys: KeysBench) -> None:
        key = await keys.keys.key_for("acme", "ann")
        assert len(key.secret) == 32
        other = keys.again()
        assert await other.key_for("acme", "ann") == key
        assert await other.find(key.id) == key

    async def test_tenants_and_subjects_have_keys_of_their_own(self, keys: KeysBench) -> None:
        whose = [("", ""), ("acme", ""), ("acme", "ann"), ("", "ann"), ("a", "cmeann"), ("acmea", "nn")]
        found = [await keys.keys.key_for(*each) for each in whose]
        assert len({key.id for key in found}) == len({key.secret for key in found}) == len(whose)

    async def test_many_who_ask_first_at_once_get_the_same_key(self, keys: KeysBench) -> None:
        found: list[Key] = []

        async def ask() -> None:
            found.append(await keys.again().key_for("acme", "ann"))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ask)
        assert len({key.id for key in found}) == 1
        assert await keys.keys.find(found[0].id) == found[0]

    async def test_what_is_erased_is_gone_for_everybody_at_once_and_the_others_stay(self, keys: KeysBench) -> None:
        key, other = await keys.keys.key_for("acme", "ann"), await keys.keys.key_for("acme", "ben")
        elsewhere = keys.again()
        assert await elsewhere.find(key.id) == key
        assert await keys.keys.erase("acme", "ann") is True
        assert await elsewhere.find(key.id) is None
        assert await keys.keys.find(key.id) is None
        assert await elsewhere.find(other.id) == other
        assert await keys.keys.erase("acme", "ann") is False

    async def test_whoever_comes_back_has_a_new_key_and_not_the_old(self, keys: KeysBench) -> None:
        old = await keys.keys.key_for("acme", "ann")
        await keys.keys.erase("acme", "ann")
        new = await keys.again().key_for("acme", "ann")
        assert new.id != old.id
        assert new.secret != old.secret
        assert await keys.keys.find(old.id) is None
        assert await keys.keys.find(new.id) == new

    async def test_an_id_that_never_was_finds_nothing(self, keys: KeysBench) -> None:
        await keys.keys.key_for("acme", "ann")
        for key_id in ("", "x", "..", "../owners", "0" * 32, "/etc/passwd", "\x00"):
            assert await keys.keys.find(key_id) is None

    async def test_any_text_can_name_a_tenant_or_a_subject(self, keys: KeysBench) -> None:
        for name in ("../../x", "ü / \\", "a" * 10_000, "\n"):
            key = await keys.keys.key_for(name, name)
            assert await keys.again().key_for(name, name) == key
            assert set(key.id) <= set("0123456789abcdef-")

    async def test_the_secret_is_not_printed(self, keys: KeysBench) -> None:
        key = await keys.keys.key_for("acme", "ann")
        assert repr(key.secret) not in repr(key)
        assert key.secret.hex() not in repr(key)
