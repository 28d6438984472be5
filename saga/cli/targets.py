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
from saga._core.definition import ServiceDefinition
from saga._core.manifest import Manifest, manifest_from_json, manifest_of, manifest_to_json
from saga._core.resolve import resolve_all
from saga._core.strict_json import load, refuse
from saga.errors import DeclarationError, PlanError, SagaError

_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_CODE = re.compile(rf"({_DOTTED}):({_DOTTED})")
_FORMS = "write module:attribute, such as shop.services:services, or the path of a manifest file or a folder of them"
FORMAT = 1
"""Of an exported file; it grows when older files cannot be read any more."""


class BadTarget(SagaError):
    """Report an argument that names nothing usable; the command was used wrongly."""


def manifests_at(targets: Sequence[str]) -> tuple[Manifest, ...]:
    """Return the manifests of all targets, services in code first; equal ones once.

    Raises BadTarget, DeclarationError, PlanError naming who declares one service in two ways.
    """
    services: dict[int, Service] = {}
    where: dict[str, str] = {}
    read: list[tuple[str, Manifest]] = []
    for target in targets:
        if match := _CODE.fullmatch(target):
            for service in _services(target, match[1], match[2]):
                services[id(service)] = service
                where.setdefault(service.name, target)
        elif (path := Path(target)).is_file():
            read += _read(path)
        elif path.is_dir():
            read += _read_folder(path)
        else:
            raise BadTarget(f"{target!r} is no file and names no code; {_FORMS}")
    coded = [(where[d.name], manifest_of(d)) for d in resolve_all(services.values())]
    return _one_each([*coded, *read])


def definitions_at(targets: Sequence[str]) -> tuple[ServiceDefinition, ...]:
    """Return what those targets declare that are code; files of manifests are passed over.

    Raises BadTarget, DeclarationError.
    """
    matches = [(target, match) for target in targets if (match := _CODE.fullmatch(target))]
    found = {id(each): each for target, match in matches for each in _services(target, match[1], match[2])}
    return resolve_all(found.values())


def runs_at(targets: Sequence[str]) -> dict[str, str]:
    """Return for each service of those targets that are code the target that is this service alone.

    Where no attribute of the module is it, the target says so: `module:<the attribute of name>`, quoted for a shell.
    """
    runs: dict[str, str] = {}
    for target, match in ((target, match) for target in targets if (match := _CODE.fullmatch(target))):
        attributes = vars(_module(target, match[1]))
        for service in _services(target, match[1], match[2]):
            alone = [name for name, value in attributes.items() if value is service]
            unknown = f"'{match[1]}:<the attribute of {service.name}>'"
            runs[service.name] = f"{match[1]}:{alone[0]}" if alone else unknown
    return runs


def _one_each(given: Sequence[tuple[str, Manifest]]) -> tuple[Manifest, ...]:
    """Return each service's one manifest; raises PlanError where two targets say different things about a service."""
    found: dict[str, tuple[str, Manifest]] = {}
    problems: list[str] = []
    for source, manifest in given:
        first, known = found.setdefault(manifest.service, (source, manifest))
        if manifest_to_json(known) != manifest_to_json(manifest):
            problems.append(
                f"service {manifest.service}: {first} and {source} declare different things; name only the newest, "
                "or export it again with `saga manifest`"
            )
    if problems:
        raise PlanError(problems)
    return tuple(manifest for _, manifest in found.values())


def export(manifests: Sequence[Manifest]) -> bytes:
    """Return manifests as a file for `manifests_at`."""
    bodies = [orjson.loads(manifest_to_json(manifest)) for manifest in manifests]
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps({"format": FORMAT, "manifests": bodies}, option=options)


def _read_folder(folder: Path) -> list[tuple[str, Manifest]]:
    files = [path for path in sorted(folder.glob("*.json")) if not path.name.endswith(".plan.json")]
    if not files:
        raise BadTarget(f"{folder}: no *.json in it; export manifests into it with `saga manifest -o`")
    return [found for path in files for found in _read(path)]


def _read(path: Path) -> list[tuple[str, Manifest]]:
    try:
        bodies = _bodies(load(path.read_bytes(), "the file"))
        return [(str(path), manifest_from_json(orjson.dumps(body))) for body in bodies]
    except PlanError as error:
        raise PlanError([f"{path}: {problem}" for problem in error.problems]) from error


def _bodies(value: object) -> list[object]:
    """Return the manifests in an exported file; the format is looked at first, since all else depends on it."""
    found = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    written = found.get("format")
    if "flow" in found and "steps" in found:
        refuse("this is a plan, not a manifest; name the services' code, or what `saga manifest` has exported")
    if type(written) is not int or "manifests" not in found:
        refuse("this is nothing that `saga manifest` exports; export it again")
    if written > FORMAT:
        refuse(
            f"was exported by a newer saga (format {written}, this one reads {FORMAT}); update saga here, or export "
            "it again with the version in use here"
        )
    if written < FORMAT:
        refuse(
            f"was exported by an older saga (format {written}, this one reads {FORMAT}); update saga in that "
            "repository and export it again"
        )
    bodies = found["manifests"]
    if not isinstance(bodies, list):
        refuse("its manifests are no list; export it again")
    return cast("list[object]", bodies)


def value_at(target: str) -> object:
    """Return the Service, list of Services or App that `module:attribute` names; raises BadTarget, DeclarationError."""
    match = _CODE.fullmatch(target)
    if match is None:
        raise BadTarget(f"{target!r} names no code; write module:attribute, such as shop.services:services")
    return _value(target, match[1], match[2])[0]


def services_at(target: str) -> tuple[Service, ...]:
    """Return the services that `module:attribute` names; raises BadTarget, DeclarationError."""
    found = value_at(target)
    return _services_in(found)


def _services(target: str, module_name: str, attribute: str) -> tuple[Service, ...]:
    return _value(target, module_name, attribute)[1]


def _value(target: str, module_name: str, attribute: str) -> tuple[object, tuple[Service, ...]]:
    """Return what a target names, and the services in it."""
    module = _module(target, module_name)
    value: object = module
    for name in attribute.split("."):
        if not hasattr(value, name):
            raise BadTarget(f"{target}: {module_name} has no {attribute}; {_offer(module)}")
        value = getattr(value, name)
    if found := _services_in(value):
        return value, found
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
