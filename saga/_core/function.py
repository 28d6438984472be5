"""Read what a handler's annotations say, also those written as text or inside another function."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from saga.errors import DeclarationError

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """Be a declared function with the names that its annotations may need and its module does not have."""

    handler: Callable[..., Any]
    names: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Be one parameter and the classes its annotation allows."""

    name: str
    options: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Be what a function takes and returns; unions are spread out, `None` is `NoneType`."""

    parameters: tuple[Parameter, ...]
    returns: tuple[Any, ...]


def declared_function(function: Any, where: str) -> Function:
    """Take a function as its decorator gets it; raise DeclarationError unless it is a plain `async def`.

    Must be called while the functions around it still run, because their local classes are kept here.
    """
    if not inspect.isfunction(function):
        msg = f"{where}: {function!r} is not a plain function; decorate an `async def`, one decorator for each"
        raise DeclarationError(msg)
    if not inspect.iscoroutinefunction(function):
        msg = f"{where}: {function.__name__} is not async; write `async def {function.__name__}(...)`"
        raise DeclarationError(msg)
    return Function(handler=function, names=_names_around(function))


def declared_rule(function: Any, where: str) -> Function:
    """Take a pure function as its decorator gets it; raise DeclarationError unless it is a plain `def`."""
    if not inspect.isfunction(function):
        msg = f"{where}: {function!r} is not a plain function; decorate a `def`"
        raise DeclarationError(msg)
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        name = function.__name__
        msg = f"{where}: {name} must return its result at once; write a plain `def {name}(...)`"
        raise DeclarationError(msg)
    return Function(handler=function, names=_names_around(function))


def read_signature(function: Function, where: str) -> Signature:
    """Resolve all annotations; raise DeclarationError for missing, unknown and keyword-only ones."""
    handler = function.handler
    try:
        hints = typing.get_type_hints(handler, localns=dict(function.names))
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        msg = (
            f"{where}: an annotation cannot be read ({error}); define the class before the "
            "app is built, and import "
            f"it for real, not only under `if TYPE_CHECKING:`"
        )
        raise DeclarationError(msg) from error
    signature = inspect.signature(handler)
    parameters: list[Parameter] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            msg = f"{where}: parameter {str(parameter)!r} is not positional; handlers are called with plain positions"
            raise DeclarationError(msg)
        if name not in hints:
            msg = f"{where}: parameter {name!r} has no annotation; the signature is the contract, so write its class"
            raise DeclarationError(msg)
        parameters.append(Parameter(name=name, options=options_of(hints[name])))
    if "return" not in hints:
        msg = f"{where}: the return type has no annotation; write `-> Event class`, or `-> None` for nothing"
        raise DeclarationError(msg)
    return Signature(parameters=tuple(parameters), returns=options_of(hints["return"]))


def options_of(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation alone."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _names_around(function: Callable[..., Any]) -> dict[str, Any]:
    """Return what text annotations name in the functions around `function`, where `typing` does not look."""
    function = inspect.unwrap(function)
    texts = [text for text in function.__annotations__.values() if isinstance(text, str)]
    wanted = {word for text in texts for word in _WORD.findall(text)}
    closed = inspect.getclosurevars(function).nonlocals
    found = {name: value for name, value in closed.items() if name in wanted}
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        around = function.__qualname__.startswith(f"{code.co_qualname}.")
        if around and code.co_filename == function.__code__.co_filename:
            for name in wanted & frame.f_locals.keys():
                found.setdefault(name, frame.f_locals[name])
        frame = frame.f_back
    return found
