"""Write docs/reference.md from the docstrings: `python -m tests.docs.reference`; a test holds the two together."""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"
MODULES = {
    "saga": "Declare: what every service imports.",
    "saga.app": "Run: services, a coordinator, or both, in any asyncio program.",
    "saga.outbox": "The outbox alone, without any saga.",
    "saga.desk": "Act on sagas.",
    "saga.operating": "Look at sagas, and look after dead letters.",
    "saga.testing": "Test.",
    "saga.settings": "Settings from the environment.",
    "saga.health": "Health endpoints, for any ASGI app.",
    "saga.console": "The console, for any ASGI app.",
    "saga.telemetry": "Traces and metrics.",
}
WIDE = 100
HEAD = """# Reference

Every public name, with its docstring. What is not here is not public: modules with an underscore, `outbox` and
`transports` (whose adapters are chosen by URL), and the [ports](architecture.md) that adapters implement.

Written by `python -m tests.docs.reference`; a test fails when a name is missing.
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Be one public name: how it is called, and what its docstring says."""

    module: str
    name: str
    signature: str
    text: str
    members: tuple[Entry, ...] = ()

    @property
    def sentence(self) -> str:
        """Return the first sentence, on one line."""
        return first_sentence(self.text)


def first_sentence(text: str) -> str:
    """Return the first paragraph up to its first full stop, on one line."""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    found = re.match(r".*?[.:](?= |$)", paragraph)
    return found[0] if found else paragraph


def entries(module: ModuleType) -> Iterator[Entry]:
    """Yield the public names of a module, functions and classes first, errors and values last."""
    for name in sorted(public(module), key=lambda name: (rank(getattr(module, name)), name.lower())):
        yield entry(module, name)


def public(module: ModuleType) -> list[str]:
    """Return the names in `__all__`."""
    return list(module.__all__)


def rank(value: object) -> int:
    """Return which part of a module's section a value belongs into."""
    if inspect.isclass(value):
        return 2 if issubclass(value, BaseException) else 0
    return 1 if inspect.isfunction(value) else 3


def entry(module: ModuleType, name: str) -> Entry:
    """Return what is to be said of one name."""
    value = getattr(module, name)
    if inspect.isclass(value) and not issubclass(value, BaseException):
        members = tuple(members_of(module, value)) if value.__module__.partition(".")[0] in ("saga", "outbox") else ()
        bare = issubclass(value, enum.Enum) or getattr(value, "_is_protocol", False)
        signature = "" if bare else called(name, value)
        return Entry(module=module.__name__, name=name, signature=signature, text=doc(value), members=members)
    if inspect.isfunction(value) or inspect.isclass(value):
        signature = "" if inspect.isclass(value) else called(name, value)
        return Entry(module=module.__name__, name=name, signature=signature, text=doc(value))
    return Entry(module=module.__name__, name=name, signature="", text=doc_of_value(module, name))


def members_of(module: ModuleType, cls: type[Any]) -> Iterator[Entry]:
    """Yield the members of an enum, or the public methods and properties that a class defines itself."""
    if issubclass(cls, enum.Enum):
        for member in cls:
            yield Entry(
                module=module.__name__, name=f"{cls.__name__}.{member.name}", signature="", text=repr(member.value)
            )
        return
    for name, value in vars(cls).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if (name.startswith("_") and name != "__call__") or not inspect.isfunction(function) or not function.__doc__:
            continue
        told = f"{cls.__name__}.{name}" if name != "__call__" else cls.__name__
        signature = told if isinstance(value, property) else called(told, function)
        yield Entry(module=module.__name__, name=told, signature=signature, text=doc(function))


def doc(value: object) -> str:
    """Return a docstring; a public name must have one."""
    text = inspect.getdoc(value)
    assert text, f"{value!r} has no docstring"
    return text


def doc_of_value(module: ModuleType, name: str) -> str:
    """Return the string literal below a value, wherever it is defined."""
    for place in [module, *map(importlib.import_module, sorted(_homes(module)))]:
        found = re.search(rf'^{name}\b.*?=.*?\n"""(.*?)"""', inspect.getsource(place), re.MULTILINE | re.DOTALL)
        if found:
            return inspect.cleandoc(found[1])
    told = re.sub(r"\bsaga\.[\w.]+\.(\w+)", r"\1", repr(getattr(module, name)))
    assert " object at " not in told, f"{module.__name__}.{name}: write a docstring below it"
    return f"`{told}`"


def _homes(module: ModuleType) -> set[str]:
    return {
        name
        for name in re.findall(r"^\s*from ([\w.]+) import", inspect.getsource(module), re.MULTILINE)
        if "saga" in name
    }


def called(name: str, value: Any) -> str:
    """Return how something is called, one line or one line for each parameter."""
    try:
        signature = inspect.signature(value)
    except ValueError:
        return name
    parameters = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
    told, star = list[str](), False
    for each in parameters:
        if options := re.fullmatch(r"Unpack\[(\w+)\]", str(each.annotation)):
            told += ["*", *optional(getattr(inspect.getmodule(value), options[1]))]
            continue
        if each.kind is each.KEYWORD_ONLY and not star:
            told.append("*")
            star = True
        star = star or each.kind is each.VAR_POSITIONAL
        told.append(parameter(each))
    ahead = "await " if inspect.iscoroutinefunction(value) else ""
    back = typed(signature.return_annotation) if not inspect.isclass(value) else ""
    back = f" -> {back}" if back and back != "None" else ""
    line = f"{ahead}{name}({', '.join(told)}){back}"
    return line if len(line) <= WIDE else f"{ahead}{name}(\n" + "".join(f"    {each},\n" for each in told) + f"){back}"


def optional(options: Any) -> Iterator[str]:
    """Yield the keyword arguments that a TypedDict names."""
    for name, kind in options.__annotations__.items():
        yield f"{name}: {typed(getattr(kind, '__forward_arg__', kind))} = …"


def parameter(each: inspect.Parameter) -> str:
    """Return a parameter with its type and default."""
    stars = "*" if each.kind is each.VAR_POSITIONAL else "**" if each.kind is each.VAR_KEYWORD else ""
    kind = typed(each.annotation)
    kind = f": {kind}" if kind else ""
    if each.default is each.empty:
        return f"{stars}{each.name}{kind}"
    default = re.sub(
        r"datetime\.|<(\w+)\.(\w+): [^>]*>", lambda m: f"{m[1]}.{m[2]}" if m[1] else "", repr(each.default)
    )
    return f"{stars}{each.name}{kind} = {'…' if ' object at ' in default or '<' in default else default}"


def typed(annotation: Any) -> str:
    """Return an annotation as it stands in the code, where it is short."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    text = re.sub(r"ForwardRef\('(\w+)'\)", r"\1", text)
    return re.sub(r"\b(?:saga|outbox|typing|collections)\.[\w.]*\b(?=\w)", "", text).strip("'\"")


def told(one: Entry) -> Iterator[str]:
    """Yield the lines of one entry."""
    yield f"### {one.name}\n"
    if one.signature:
        yield f"```text\n{one.signature}\n```\n"
    yield one.text + "\n"
    short = [member for member in one.members if "\n" not in member.signature]
    for member in short:
        after = f"`{member.signature}`: {' '.join(member.text.split())}" if member.signature else ""
        yield f"- {after or f'`{member.name}` = `{member.text}`'}"
    if short:
        yield ""
    for member in one.members:
        if member not in short:
            yield f"#### {member.name}\n\n```text\n{member.signature}\n```\n\n{member.text}\n"


def page() -> str:
    """Return the whole page."""
    lines = [HEAD]
    for name, about in MODULES.items():
        module = importlib.import_module(name)
        lines += [f"## {name}\n", f"{about}\n"]
        found = list(entries(module))
        errors = [one for one in found if is_error(module, one.name)]
        for one in found:
            if one not in errors:
                lines += told(one)
        if errors:
            lines += ["### Errors\n", "| | |", "|---|---|"]
            lines += [f"| `{one.name}` | {' '.join(one.text.split())} |" for one in errors]
            lines.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def is_error(module: ModuleType, name: str) -> bool:
    """Return whether a name is an exception's."""
    return rank(getattr(module, name)) == 2


if __name__ == "__main__":
    PAGE.write_text(page())
