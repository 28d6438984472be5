"""Read the signature of a step that takes a whole batch as that of one that takes one event."""

from __future__ import annotations

import typing
from typing import Any

from saga._core.batch import Batch, Runs
from saga._core.definition import Dependency
from saga._core.function import Parameter, Signature, options_of
from saga._core.run import Run
from saga._core.words import Handles
from saga.errors import DeclarationError

_SHAPE = "`async def name(events: Batch[OrderPlaced], runs: Runs) -> Batch[StockReserved | OutOfStock]`"


def one_by_one(signature: Signature, calls: Dependency | None, where: str) -> tuple[Signature, Handles]:
    """Return what a step does with each event, and whether it is handed one event or a batch of them.

    Raises DeclarationError for a step that is half of either.
    """
    options = [option for parameter in signature.parameters for option in parameter.options] + list(signature.returns)
    if not any(_is_batch(option) or option is Runs for option in options):
        return signature, Handles.ONE
    events = signature.parameters[0] if signature.parameters else None
    rest = signature.parameters[1:]
    shaped = (
        events is not None
        and _only_batch(events.options)
        and [parameter.options for parameter in rest] == [(Runs,)]
        and _only_batch(signature.returns)
    )
    if events is None or not shaped:
        msg = f"{where}: a step that takes a batch takes its runs and returns a batch; write {_SHAPE}"
        raise DeclarationError(msg)
    if calls is not None:
        msg = (
            f"{where}: a call outside is made for one saga at a time, under its own idempotency key; take one event "
            f"instead of a Batch, or leave out calls="
        )
        raise DeclarationError(msg)
    taken, returned = _inside(events.options[0]), _inside(signature.returns[0])
    if any(typing.get_origin(option) is list for option in returned):
        msg = f"{where}: a step that takes a batch cannot fan out; take one event, and return its list"
        raise DeclarationError(msg)
    parameters = (Parameter(name=events.name, options=taken), Parameter(name=rest[0].name, options=(Run,)))
    return Signature(parameters=parameters, returns=returned), Handles.BATCH


def _is_batch(option: Any) -> bool:
    return option is Batch or typing.get_origin(option) is Batch


def _only_batch(options: tuple[Any, ...]) -> bool:
    return len(options) == 1 and typing.get_origin(options[0]) is Batch


def _inside(option: Any) -> tuple[Any, ...]:
    (inside,) = typing.get_args(option)
    return options_of(inside)
