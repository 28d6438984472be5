"""Find what a TARGET names: services in code, or manifests in a file."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

import orjson

from saga._core.declare import Service
from saga._core.manifest import Manifest, manifest_from_json, manifest_of, manifest_to_json
from saga._core.resolve import resolve_all
from saga.errors import DeclarationError, PlanError, SagaError

_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_CODE = re.compile(rf"({_DOTTED}):({_DOTTED})")
_FORMS = "write module:attribute, such as shop.services:services, or the path of a manifest file"


class BadTarget(SagaError):
    """Report an argument that names nothing usable; the command was used wrongly."""


def manifests_at(targets: Sequence[str]) -> tuple[Manifest, ...]:
    """Return the manifests of all targets, services in code first; equal ones once.

    Raises BadTarget, DeclarationError, PlanError.
    """
    services: list[Service] = []
    read: list[Manifest] = []
    for target in targets:
        if match := _CODE.fullmatch(target):
            services += _services(target, match[1], match[2])
        elif (path := Path(target)).is_file():
            read += _read(path)
        else:
            raise BadTarget(f"{target!r} is no file and names no code; {_FORMS}")
    coded = [manifest_of(definition) for definition in resolve_all({id(s): s for s in services}.values())]
    return tuple({manifest_to_json(manifest): manifest for manifest in (*coded, *read)}.values())


def export(manifests: Sequence[Manifest]) -> bytes:
    """Return manifests as a file for `manifests_at`: one as itself, several as a list."""
    if len(manifests) == 1:
        return manifest_to_json(manifests[0])
    bodies = [orjson.loads(manifest_to_json(manifest)) for manifest in manifests]
    return orjson.dumps(bodies, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _read(path: Path) -> list[Manifest]:
    body = path.read_bytes()
    try:
        found = orjson.loads(body)
        bodies = [orjson.dumps(item) for item in cast("list[object]", found)] if isinstance(found, list) else [body]
    except orjson.JSONDecodeError:
        bodies = [body]
    try:
        return [manifest_from_json(each) for each in bodies]
    except PlanError as error:
        raise PlanError([f"{path}: {problem}" for problem in error.problems]) from error


def _services(target: str, module_name: str, attribute: str) -> tuple[Service, ...]:
    module = _module(target, module_name)
    value: object = module
    for name in attribute.split("."):
        if not hasattr(value, name):
            raise BadTarget(f"{target}: {module_name} has no {attribute}; {_offer(module)}")
        value = getattr(value, name)
    if found := _services_in(value):
        return found
    kind = type(value).__name__
    raise BadTarget(f"{target} is a {kind}, not a Service, a list of Services, or an App; {_offer(module)}")


def _module(target: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except SagaError as error:
        raise DeclarationError(f"{target}: {error}") from error
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            raise BadTarget(f"{target}: there is no module {missing}; run from the folder it lies in") from error
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise DeclarationError(f"{target}: importing {name} raised {said}") from error


def _services_in(value: object) -> tuple[Service, ...]:
    """Return the services of a Service, of a list of them, or of whatever has `services`, such as an App."""
    if isinstance(value, Service):
        return (value,)
    if not isinstance(value, list | tuple):
        value = getattr(value, "services", ())
    items = tuple(cast("Iterable[object]", value)) if isinstance(value, list | tuple) else ()
    found = tuple(item for item in items if isinstance(item, Service))
    return found if len(found) == len(items) else ()


def _offer(module: ModuleType) -> str:
    names = sorted(n for n, value in vars(module).items() if not n.startswith("_") and _services_in(value))
    if not names:
        return f"nothing in {module.__name__} is a Service, a list of Services, or an App"
    return f"it could be {', '.join(f'{module.__name__}:{name}' for name in names)}"
