"""Keep marked fields out of everything that is printed: events, errors, logs and tracebacks."""

from __future__ import annotations

import logging
import traceback
from datetime import date
from typing import Annotated

import pytest
from pydantic import BaseModel, ValidationError

from saga import PII, Event, Refusal, Secret
from saga._runtime.trouble import HandlerTrouble

CANARY = "canary-91bc"


class Address(BaseModel):
    street: str


class Registered(Event, name="customer.registered", version=1):
    customer: int
    name: Annotated[str, PII]
    card: Annotated[str | None, Secret] = None
    born: Annotated[date, PII] = date(2000, 1, 1)
    home: Annotated[Address | None, PII] = None
    plain: str = "plain"


class Rejected(Refusal, name="customer.rejected", version=1):
    name: Annotated[str, PII]


EVENT = Registered(customer=7, name=CANARY, card=CANARY, home=Address(street=CANARY))


@pytest.mark.parametrize("printed", [repr(EVENT), str(EVENT), f"{EVENT}", f"{EVENT!r}", f"{[EVENT]}", f"{(EVENT,)}"])
def test_a_marked_field_is_not_printed_and_the_others_are(printed: str) -> None:
    assert CANARY not in printed
    assert "2000" not in printed
    assert "customer=7" in printed
    assert "plain='plain'" in printed
    assert printed.count("<PII>") == 3
    assert printed.count("<secret>") == 1


def test_a_refusal_hides_its_fields_too() -> None:
    assert str(Rejected(name=CANARY)) == "name=<PII>"


def test_what_is_marked_travels_and_compares_as_before() -> None:
    again = Registered.model_validate_json(EVENT.model_dump_json(by_alias=True))
    assert again == EVENT
    assert again.name == CANARY
    assert CANARY in EVENT.model_dump_json()


def test_an_error_about_an_event_names_the_field_and_not_the_value() -> None:
    with pytest.raises(ValidationError) as raised:
        Registered.model_validate({"customer": CANARY, "name": 5})
    text = "".join(traceback.format_exception(raised.value))
    assert CANARY not in str(raised.value)
    assert CANARY not in text.split("ValidationError", 1)[1]
    assert "customer" in str(raised.value)


def test_an_error_of_somebody_elses_model_is_stored_without_values() -> None:
    with pytest.raises(ValidationError) as raised:
        Address.model_validate({"street": [CANARY]})
    assert CANARY in str(raised.value)
    trouble = HandlerTrouble(raised.value)
    assert CANARY not in str(trouble)
    assert "street" in str(trouble)


def test_a_log_line_hides_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("%s and %r", EVENT, EVENT)
    assert CANARY not in caplog.text
    assert "<PII>" in caplog.text
