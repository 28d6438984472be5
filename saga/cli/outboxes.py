"""Declare `saga outbox`: what waits to be published in a database, and who is at it."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from saga._core.backlog import Backlog
from saga.cli.configuring import Json, StoreUrl
from saga.cli.saying import Exit, fail, out, print_json, print_table, printable, sentences, span
from saga.errors import StoreError
from saga.operating import open_operating_store
from saga.ports.backlog import Backlogged

OlderThan = Annotated[
    float,
    typer.Option(
        "--older-than", min=0.0, metavar="SECONDS", help="Exit 1 when the oldest row is older; 0 never does, for CI."
    ),
]


def outbox(
    store: StoreUrl,
    older_than: OlderThan = 0.0,
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Count what waits to be published, by service and shard, with its oldest row and who holds which lease.

    Rows are deleted once the broker has them: what lies here for minutes is waiting for a relay, or for the broker.
    """
    with sentences():
        found = anyio.run(read_backlog, store)
        if json:
            print_json(backlog_json(found))
        else:
            _print(found)
        if older_than and found.oldest_seconds > older_than:
            fail([f"the oldest row has waited for {span(found.oldest_seconds)}: saga doctor says why"], Exit.NOTHING)


async def read_backlog(store: str) -> Backlog:
    """Read one database's backlog; raises SettingsError, StoreUnavailable."""
    async with open_operating_store(store) as opened:
        if not isinstance(opened, Backlogged):
            raise StoreError(f"{opened!r} cannot say what is in its outbox")
        return await opened.backlog()


def backlog_json(found: Backlog) -> dict[str, object]:
    """Return a backlog as JSON values."""
    oldest = found.oldest
    return {
        "rows": found.rows,
        "oldest_seconds": round(found.oldest_seconds, 3),
        "services": [
            {"service": one.service, "rows": one.rows, "oldest_seconds": round(one.oldest_seconds, 3)}
            for one in found.services
        ],
        "shards": [
            {
                "shard": one.shard,
                "rows": one.rows,
                "oldest_seconds": round(one.oldest_seconds, 3),
                "owner": one.owner or None,
            }
            for one in found.shards
        ],
        "leases": [
            {"name": one.name, "owner": one.owner, "seconds_left": round(one.seconds_left, 3)} for one in found.leases
        ],
        "oldest": oldest
        and {
            "seq": oldest.seq,
            "id": oldest.id,
            "service": oldest.service,
            "type": oldest.type,
            "topic": oldest.topic,
            "key": oldest.key,
            "age_seconds": round(oldest.age_seconds, 3),
        },
    }


def _print(found: Backlog) -> None:
    if not found.rows:
        out.print("nothing waits to be published")
    else:
        out.print(f"{found.rows} rows wait, the oldest for {span(found.oldest_seconds)}")
        print_table(
            ("service", "rows", "oldest"),
            [(one.service, str(one.rows), span(one.oldest_seconds)) for one in found.services],
        )
    if found.shards:
        print_table(
            ("shard", "rows", "oldest", "held by"),
            [(str(one.shard), str(one.rows), span(one.oldest_seconds), one.owner or "nobody") for one in found.shards],
        )
    if found.oldest is not None:
        one = found.oldest
        out.print(printable(f"oldest: {one.type} of {one.service} for {one.topic}, key {one.key} (row {one.seq})"))
    live = [one for one in found.leases if one.seconds_left > 0]
    out.print(f"relays at work: {', '.join(found.relays) or 'none that share out shards'}")
    if live:
        print_table(("lease", "held by", "for"), [(one.name, one.owner, span(one.seconds_left)) for one in live])
