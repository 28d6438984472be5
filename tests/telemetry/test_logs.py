"""What is logged of sagas, and how it looks as JSON."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

import pytest
import trio.testing
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel, ValidationError

from saga.telemetry.logs import JsonFormatter, TextFormatter, configure_logging
from tests.telemetry.metric_world import CANARY, Trip, TripAsked, travelling

TRANSITIONS = "saga.transitions"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def lines(caplog: pytest.LogCaptureFixture, level: int, how: str) -> list[logging.LogRecord]:
    trip = Trip()
    with caplog.at_level(level, "saga"):
        async with travelling(trip, None):
            handle = await trip.ask(TripAsked(how=how))
            await handle.outcome(timeout_seconds=30)
    return [record for record in caplog.records if getattr(record, "saga_id", "") == handle.saga_id]


def told(records: list[logging.LogRecord]) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage().replace(record.__dict__["saga_id"], "ID")) for record in records]


@pytest.mark.anyio
async def test_a_saga_that_goes_straight_through_is_told_at_debug_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert Counter(told(await lines(caplog, logging.DEBUG, "well"))) == {
        ("DEBUG", "saga ID (trip v1): started"): 1,
        ("DEBUG", "hotel.book_room of ID: done"): 1,
        ("DEBUG", "flights.book_seat of ID: done"): 1,
        ("DEBUG", "saga ID (trip v1): completed"): 1,
    }
    caplog.clear()
    assert told(await lines(caplog, logging.INFO, "well")) == []


@pytest.mark.anyio
async def test_a_refused_saga_is_one_line_for_each_transition(caplog: pytest.LogCaptureFixture) -> None:
    found = told(await lines(caplog, logging.INFO, "no seat"))
    assert found == [
        ("INFO", "flights.book_seat of ID: refused: flight.full.v1"),
        ("INFO", "saga ID (trip v1): closing: refused flight.full.v1"),
        ("INFO", "hotel.book_room of ID: undone"),
        ("INFO", "saga ID (trip v1): compensated: refused flight.full.v1"),
    ]


@pytest.mark.anyio
async def test_a_repeated_attempt_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    ((level, text),) = told(await lines(caplog, logging.INFO, "flaky"))
    assert level == "WARNING"
    assert text.startswith("hotel.book_room of ID: attempt 1 failed, again in ")


@pytest.mark.anyio
async def test_what_needs_a_person_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    errors = [text for level, text in told(await lines(caplog, logging.INFO, "stuck")) if level == "ERROR"]
    why = "ValueError: cannot cancel for <secret>"
    assert errors == [
        f"hotel.book_room of ID: undo_failed and needs a person, after attempt 1: {why}",
        "saga ID (trip v1): stuck: undo_failed flight.full.v1",
    ]


# --- JSON -------------------------------------------------------------------------------------------------------


def as_json(message: str, *args: object, extra: dict[str, Any] | None = None, exc_info: Any = None) -> dict[str, Any]:
    record = logging.getLogger("shop").makeRecord(
        "shop", logging.WARNING, "file.py", 1, message, args, exc_info, extra=extra
    )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_record_is_an_object_with_its_time_level_logger_and_message() -> None:
    found = as_json("%s is %s", "a", "b")
    assert found.pop("time").endswith("+00:00")
    assert found == {"level": "WARNING", "logger": "shop", "message": "a is b"}


def test_a_record_about_a_saga_names_it_and_its_trace() -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    told = {"saga_id": "7", "saga_name": "trip", "saga_step": "hotel.book_room", "traceparent": traceparent}
    found = as_json("x", extra=told)
    assert {name: found[name] for name in ("saga_id", "saga", "step", "trace_id", "span_id")} == {
        "saga_id": "7",
        "saga": "trip",
        "step": "hotel.book_room",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
    }
    assert "extra" not in found


def test_a_line_of_a_handlers_has_the_saga_of_the_open_span() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("process x", attributes={"saga.id": "7", "saga.step": "hotel.book_room"}) as span:
        found = as_json("charged")
    assert (found["saga_id"], found["step"]) == ("7", "hotel.book_room")
    assert found["trace_id"] == f"{span.get_span_context().trace_id:032x}"


def test_whatever_else_was_given_is_there_and_nothing_breaks_the_line() -> None:
    itself: list[object] = []
    itself.append(itself)
    found = as_json("x", extra={"order": 7, "at": {1: object()}})
    assert found["extra"]["order"] == 7
    assert as_json("two\nlines")["message"] == "two\nlines"
    assert as_json("half \ud800 a pair")["message"].startswith("half")
    assert "level" in as_json("x", extra={"itself": itself})


class Card(BaseModel):
    number: int


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_error_of_somebody_elses_model_is_shown_without_its_values(formatter: logging.Formatter) -> None:
    error = RuntimeError("no card")
    with pytest.raises(ValidationError) as misfit:
        Card.model_validate({"number": CANARY})
    error.__cause__ = misfit.value
    raised = (RuntimeError, error, None)
    text = formatter.format(logging.getLogger("shop").makeRecord("shop", logging.ERROR, "f", 1, "x", (), raised))
    assert CANARY not in text
    assert "no card" in text
    assert "payload does not fit Card: number" in text
    assert "test_logs.py" in text


def test_logging_is_configured_for_a_whole_process(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        configure_logging("warning", "json")
        logging.getLogger("shop").warning("heard")
        logging.getLogger("shop").info("not heard")
        (line,) = capsys.readouterr().err.splitlines()
        assert json.loads(line)["message"] == "heard"
        with pytest.raises(ValueError, match="LOUD"):
            configure_logging("loud")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
