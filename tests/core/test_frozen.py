"""Hold quickly made values against those that the dataclass itself makes."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from saga._core.envelope import Message
from saga._core.frozen import builder, changer, replace
from tests.core.wire_examples import messages

MESSAGE = messages()["event"]
make = builder(Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError(self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    numbers: list[int] = field(default_factory=list[int])


@dataclass
class Open:
    number: int


def test_a_built_value_is_the_same_value() -> None:
    made = make(topic=MESSAGE.topic, key=MESSAGE.key, value=MESSAGE.value, headers=MESSAGE.headers)
    assert type(made) is Message
    assert (made, hash(made), repr(made)) == (MESSAGE, hash(MESSAGE), repr(MESSAGE))
    assert pickle.loads(pickle.dumps(made)) == MESSAGE


def test_a_default_is_filled_in_and_what_has_none_is_asked_for() -> None:
    assert make(topic="t", key=b"k", value=None) == Message(topic="t", key=b"k", value=None)
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'value'"):
        make(topic="t", key=b"k")  # type: ignore[call-arg]


@pytest.mark.parametrize("made", [make(topic="t", key=b"k", value=None), replace(MESSAGE, topic="t")])
def test_a_value_is_frozen_however_it_was_made(made: Message) -> None:
    with pytest.raises(FrozenInstanceError):
        made.topic = "u"  # type: ignore[misc]


def test_a_copy_differs_in_what_is_changed() -> None:
    changed = replace(MESSAGE, topic="t", value=None)
    assert changed == dataclasses.replace(MESSAGE, topic="t", value=None)
    assert messages()["event"] == MESSAGE


def test_a_field_that_there_is_not_cannot_be_changed() -> None:
    with pytest.raises((TypeError, AttributeError), match="nothing"):
        replace(MESSAGE, nothing=1)  # type: ignore[call-arg]


def test_a_copy_is_the_same_where_the_changed_fields_are_known_beforehand() -> None:
    changed = changer(Message, "topic", "value")(MESSAGE, topic="t", value=None)
    assert type(changed) is Message
    assert changed == dataclasses.replace(MESSAGE, topic="t", value=None)
    with pytest.raises(FrozenInstanceError):
        changed.topic = "u"  # type: ignore[misc]


@pytest.mark.parametrize(("kind", "name"), [(Message, "nothing"), (Checked, "number"), (Open, "number")])
def test_a_change_that_cannot_be_made_quickly_is_refused(kind: type, name: str) -> None:
    with pytest.raises(TypeError, match="plain fields"):
        changer(kind, name)


def test_other_dataclasses_are_copied_as_ever() -> None:
    with pytest.raises(ValueError, match="-1"):
        replace(Checked(number=1), number=-1)
    assert replace(Listed(numbers=[1]), numbers=[2]) == Listed(numbers=[2])
    assert replace(Open(number=1), number=2) == Open(number=2)


@pytest.mark.parametrize("kind", [Checked, Listed, Open, int])
def test_what_cannot_be_built_quickly_is_refused(kind: type) -> None:
    with pytest.raises(TypeError, match="not a frozen dataclass"):
        builder(kind)
