"""Declare `saga asyncapi`: write what travels between the services as an AsyncAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from saga._core.asyncapi import asyncapi as document_of
from saga.cli.sources import chosen, plan_sentences, sources_at, write_out
from saga.cli.targets import BadTarget

_SUFFIXES = (".json", ".yaml", ".yml")
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*\Z")
_UNREADABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def asyncapi(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET",
            show_default=False,
            help="module:attribute, a manifest file, a plan file, a folder of either.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="A .json or .yaml file. (default: YAML on standard output)"),
    ] = None,
    saga: Annotated[str, typer.Option("--saga", metavar="NAME", help="Only this saga.")] = "",
    version: Annotated[int, typer.Option("--version", min=0, help="Only this version; 0 stands for all.")] = 0,
    service: Annotated[
        str, typer.Option("--service", metavar="NAME", help="Only what this service sends and receives.")
    ] = "",
    server: Annotated[str, typer.Option("--server", metavar="URL", help="The broker: kafka://host:port.")] = "",
) -> None:
    """Write an AsyncAPI 3.0 document: topics, messages with headers and payloads, who sends and who receives.

    Code and manifests know the payloads' schemas; from plan files alone an event is any object.
    """
    with plan_sentences():
        if output is not None and output.suffix not in _SUFFIXES:
            raise BadTarget(f"--out {output}: end it with one of {', '.join(_SUFFIXES)}")
        found = sources_at(targets)
        plans = chosen(found.plans, saga, version) if saga or version else found.plans
        document = document_of(plans, found.manifests, service=service, server=server)
        if output is not None and output.suffix == ".json":
            write_out(json.dumps(document, indent=2, ensure_ascii=False) + "\n", output)
        elif output is not None:
            write_out(yaml_text(document), output)
        else:
            typer.echo(yaml_text(document), nl=False)


def yaml_text(value: dict[str, Any]) -> str:
    """Return JSON values as YAML that every YAML 1.1 and 1.2 reader takes for the same values."""
    return "\n".join(_mapping(value, "")) + "\n"


def _mapping(value: dict[str, Any], indent: str) -> Iterator[str]:
    for key, each in value.items():
        yield from _entry(f"{indent}{_scalar(key)}:", each, indent + "  ")


def _entry(head: str, value: object, indent: str) -> Iterator[str]:
    if inner := _filled(value):
        yield head
        yield from _mapping(inner, indent)
    elif items := _items(value):
        yield head
        for item in items:
            yield from _item(item, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _item(value: object, indent: str) -> Iterator[str]:
    if inner := _filled(value):
        first, *rest = _mapping(inner, indent + "  ")
        yield f"{indent}- {first.lstrip()}"
        yield from rest
    elif items := _items(value):
        yield f"{indent}-"
        for each in items:
            yield from _item(each, indent + "  ")
    else:
        yield f"{indent}- {_scalar(value)}"


def _filled(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _items(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _scalar(value: object) -> str:
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, float):
        # YAML 1.1 takes 1e-05 for a word: it wants a dot.
        mantissa, e, exponent = repr(value).partition("e")
        return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else repr(value)
    # JSON is YAML, but for characters that its readers take for line ends, or for nothing.
    return _UNREADABLE.sub(lambda found: f"\\U{ord(found[0]):08x}", json.dumps(value, ensure_ascii=False))
