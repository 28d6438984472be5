"""Take the result that a person gives for a step, and the code it is checked by."""

from __future__ import annotations

from typing import Annotated

import typer

from saga._core.events import Event, Refusal
from saga._core.resolve import resolve_all
from saga._runtime.given import classes_of
from saga.cli.saying import Exit, fail
from saga.cli.targets import BadTarget, services_at
from saga.desk import Given

ResultType = Annotated[str, typer.Option("--result-type", metavar="TYPE", help="Such as payment.captured.v1.")]
ResultJson = Annotated[str, typer.Option("--result", metavar="JSON", help="The result itself, a JSON object.")]
Code = Annotated[
    list[str] | None,
    typer.Option(
        "--code",
        metavar="TARGET",
        show_default=False,
        help="The step's service, such as shop.payment:payment: then the result is checked before anything is sent. "
        "May stand several times.",
    ),
]


def given_of(result_type: str, result: str) -> Given:
    """Return what was given; exits 2 for a result without its type."""
    if result and not result_type:
        fail(["--result needs its --result-type, such as payment.captured.v1"], Exit.USAGE)
    return Given(type=result_type, payload=result.encode())


def classes_at(targets: list[str] | None) -> frozenset[type[Event | Refusal]]:
    """Return the classes of all results in the code that was named; exits 2 for what names none."""
    services = {}
    try:
        services = {id(service): service for target in targets or () for service in services_at(target)}
    except BadTarget as error:
        fail([str(error)], Exit.USAGE)
    return classes_of(resolve_all(services.values()))
