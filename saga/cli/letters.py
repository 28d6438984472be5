"""Declare `saga dlq`: list, show, replay and discard dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated

import anyio
import typer

from saga.cli.configuring import StoreUrl as StoreUrl
from saga.cli.saying import Exit, err, fail, moment, nothing_matched, out, print_json, print_table, sentences, span
from saga.operating import DeadLetterDesk, DeliveryRow, LetterFilter, Progress

app = typer.Typer(
    name="dlq",
    help="Look after dead letters: messages that could not be read, kept in the database with their raw bytes.",
    epilog="Exits 0 when all is well, 1 when nothing matched, 2 when used wrongly, 3 when the database is away.",
    no_args_is_help=True,
)

Service = Annotated[str, typer.Option("--service", metavar="NAME", help="Only letters to this service.")]
Saga = Annotated[str, typer.Option("--saga", metavar="ID", help="Only letters of this saga.")]
Step = Annotated[str, typer.Option("--step", metavar="SERVICE.FUNCTION", help="Only letters of this step.")]
Error = Annotated[str, typer.Option("--error", metavar="TEXT", help="Only letters whose error contains this text.")]
Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", show_default=False, help="Only these letters.")]
All = Annotated[bool, typer.Option("--all", help="Every letter that the other options leave, even without any.")]
Who = Annotated[str, typer.Option("--who", metavar="NAME", show_default=False, help="Who does it, for the audit.")]
Why = Annotated[str, typer.Option("--why", metavar="REASON", show_default=False, help="Why, for the audit.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Payload = Annotated[bool, typer.Option("--payload", help="Print the message too; it may hold personal data.")]


def letter_json(letter: DeliveryRow, *, payload: bool) -> dict[str, object]:
    """Return a letter as JSON values; its key, headers and value only when asked for."""
    raw = letter.raw
    values: dict[str, object] = {
        "id": letter.id,
        "service": letter.service,
        "saga_id": letter.saga_id,
        "step": letter.step,
        "message_id": letter.message_id,
        "died_at": letter.due_at,
        "attempt": letter.attempt,
        "error": letter.error,
        "topic": raw.topic,
        "partition": raw.partition,
        "offset": raw.offset,
        "bytes": len(raw.value or b""),
    }
    if payload:
        values["key"] = _text(raw.key)
        values["headers"] = [[name, _text(value)] for name, value in raw.headers]
        values["value"] = _text(raw.value)
    return values


def _text(value: bytes | None) -> str | None:
    """Return bytes as text, what is no UTF-8 as backslash escapes."""
    return value.decode("utf-8", "backslashreplace") if value is not None else None


@app.command("ls")
def ls(
    store: StoreUrl,
    service: Service = "",
    saga: Saga = "",
    step: Step = "",
    error: Error = "",
    after: Annotated[int, typer.Option("--after", metavar="ID", help="Go on behind this letter.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many to list.")] = 100,
    group: Annotated[bool, typer.Option("--group", help="Count them by service, step and error instead.")] = False,  # noqa: FBT002 - a switch
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """List dead letters, oldest first."""
    wanted = LetterFilter(service=service, saga_id=saga, step=step, error=error)
    with sentences():
        if group:
            if wanted != LetterFilter():
                fail(["--group counts all letters: leave the other filters out"], Exit.USAGE)
            anyio.run(_groups, store, json)
        else:
            anyio.run(_list, store, wanted, after, limit, json)


async def _list(store: str, wanted: LetterFilter, after: int, limit: int, json: bool) -> None:  # noqa: FBT001 - anyio.run
    async with DeadLetterDesk(store) as desk:
        letters = await desk.list(wanted, after_id=after, limit=limit)
    _found(letters)
    if json:
        for letter in letters:
            print_json(letter_json(letter, payload=False))
        return
    heads = ("id", "died", "service", "step", "saga", "attempt", "error")
    print_table(
        heads,
        [
            (str(row.id), moment(row.due_at), row.service, row.step, row.saga_id, str(row.attempt), row.error)
            for row in letters
        ],
    )
    if len(letters) == limit:
        err.print(f"there may be more: --after {letters[-1].id}")


async def _groups(store: str, json: bool) -> None:  # noqa: FBT001 - anyio.run
    async with DeadLetterDesk(store) as desk:
        groups = await desk.groups()
    _found(groups)
    if json:
        for group in groups:
            print_json(
                {
                    "service": group.service,
                    "step": group.step,
                    "error": group.error,
                    "letters": group.letters,
                    "oldest_seconds": round(group.oldest_seconds, 3),
                }
            )
        return
    print_table(
        ("letters", "oldest", "service", "step", "error"),
        [(str(g.letters), span(g.oldest_seconds), g.service, g.step, g.error) for g in groups],
    )


@app.command("show")
def show(
    letter: Annotated[int, typer.Argument(metavar="ID", help="The letter's number, from `saga dlq ls`.")],
    store: StoreUrl,
    payload: Payload = False,  # noqa: FBT002 - a switch
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Show one dead letter."""
    with sentences():
        anyio.run(_show, store, letter, payload, json)


async def _show(store: str, number: int, payload: bool, json: bool) -> None:  # noqa: FBT001 - anyio.run
    async with DeadLetterDesk(store) as desk:
        letter = await desk.show(number)
    if letter is None:
        fail([f"there is no dead letter {number} any more"], Exit.NOTHING)
        return
    values = letter_json(letter, payload=payload)
    if json:
        print_json(values)
        return
    values["died_at"] = moment(letter.due_at)
    print_table(("", ""), [(name, str(value)) for name, value in values.items()])


@app.command("replay")
def replay(
    store: StoreUrl,
    who: Who,
    why: Why,
    ids: Ids = None,
    service: Service = "",
    saga: Saga = "",
    step: Step = "",
    error: Error = "",
    everything: All = False,  # noqa: FBT002 - a switch
    rate: Annotated[float, typer.Option("--rate", metavar="N", help="Letters a second.")] = 50.0,
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Let dead letters be delivered again: gate, run and expiry then decide, as for any message.

    Safe to interrupt and to repeat.
    """
    with sentences():
        wanted = _wanted(ids, service, saga, step, error, everything=everything)
        progress = anyio.run(_replay, store, wanted, rate, who, why)
        _did("replayed", progress.letters, json=json)


async def _replay(store: str, wanted: LetterFilter, rate: float, who: str, why: str) -> Progress:
    progress = Progress(letters=0, last_id=0)
    async with (
        DeadLetterDesk(store) as desk,
        aclosing(desk.replay(wanted, per_second=rate, who=who, why=why)) as passes,
    ):
        async for progress in passes:
            if err.is_terminal:
                err.print(f"{progress.letters} replayed, up to letter {progress.last_id}", end="\r")
    return progress


@app.command("discard")
def discard(
    store: StoreUrl,
    who: Who,
    why: Why,
    ids: Ids = None,
    service: Service = "",
    saga: Saga = "",
    step: Step = "",
    error: Error = "",
    everything: All = False,  # noqa: FBT002 - a switch
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Delete dead letters for good; the audit keeps where each lay in its topic, but not what was in it."""
    with sentences():
        wanted = _wanted(ids, service, saga, step, error, everything=everything)
        _did("discarded", anyio.run(_discard, store, wanted, who, why), json=json)


async def _discard(store: str, wanted: LetterFilter, who: str, why: str) -> int:
    async with DeadLetterDesk(store) as desk:
        return await desk.discard(wanted, who=who, why=why)


def _wanted(ids: list[int] | None, service: str, saga: str, step: str, error: str, *, everything: bool) -> LetterFilter:
    wanted = LetterFilter(service=service, saga_id=saga, step=step, error=error, ids=tuple(ids or ()))
    if wanted == LetterFilter() and not everything:
        fail(["name letters by ID, --service, --saga, --step or --error, or say --all"], Exit.USAGE)
    return wanted


def _did(what: str, letters: int, *, json: bool) -> None:
    if json:
        print_json({what: letters})
    else:
        out.print(f"{letters} {what}")
    if not letters:
        raise typer.Exit(int(Exit.NOTHING))


def _found(rows: Sequence[object]) -> None:
    if not rows:
        nothing_matched()
