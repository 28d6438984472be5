"""Tell how late deadlines fire while many are pending: `python -m tests.benchmarks.programs.deadlines`.

One saga waits before its last lap; its row at the coordinator is copied under other IDs. Of the copies so many a second
become overdue for a minute, the others much later. A saga is late by what lies between its deadline and its end, and
in between every service has been asked to close. Options: `pending`, `per_second`.
"""

from __future__ import annotations

import sys
from typing import Any

import anyio
import asyncpg

from tests.benchmarks.place import SITTING, Sitting
from tests.benchmarks.programs.cloning import SAGA_ID, clone
from tests.benchmarks.programs.product_legs import open_race
from tests.benchmarks.serve import quiet, say

FIRING_SECONDS = 60
AHEAD_SECONDS = 20
LOOK_SECONDS = 1.0
GIVE_UP_SECONDS = 300
FORWARD_WINDOW = "interval '7 days'"
"""Of every saga, from its timeout to its expiry."""
SEEN = "select count(*) from saga_instance where due_at is not null"
ENDED = "select count(*) from saga_instance where ended_at is not null"
LATE = """
select percentile_cont(array[0.5, 0.99, 1.0]) within group (
    order by 1000 * (extract(epoch from ended_at - started_at) - $1::float8)
) from saga_instance where ended_at is not null
"""


async def wait_for(connection: Any, query: str, wanted: int) -> int:
    """Wait until a query counts enough, but not for ever; return what it counts."""
    found = 0
    for _ in range(int(GIVE_UP_SECONDS / LOOK_SECONDS)):
        found = await connection.fetchval(query)
        if found >= wanted:
            break
        await anyio.sleep(LOOK_SECONDS)
    return found


async def fill(connection: Any, timeout_seconds: float, pending: int, per_second: int) -> None:
    """Copy the one instance there is: the first copies are soon overdue, one after another, the others in an hour."""
    firing = FIRING_SECONDS * per_second
    seconds = f"(case when n <= {firing} then {AHEAD_SECONDS} + n / {per_second}.0 else 3600 + n / 1000.0 end)"
    due = f"statement_timestamp() + {seconds} * interval '1 second'"
    started = f"{due} - {timeout_seconds} * interval '1 second'"
    # The coordinator goes by the times in its state; the columns are there to be searched.
    state = "convert_from(t.state, 'UTF8')"
    for there, here in (("t.started_at", started), (f"t.due_at + {FORWARD_WINDOW}", f"{due} + {FORWARD_WINDOW}")):
        state = f"replace({state}, {told(there)}, {told(here)})"
    state = f"convert_to({state}, 'UTF8')"
    await clone(connection, "saga_instance", pending, saga_id=SAGA_ID, due_at=due, started_at=started, state=state)


def told(time: str) -> str:
    """Return SQL that writes a time as the coordinator's state does."""
    return f"""to_char(({time}) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""


async def measure(sitting: Sitting) -> None:
    """Let deadlines pass and look how late the sagas have ended."""
    pending, per_second = int(sitting.options["pending"]), int(sitting.options["per_second"])
    timeout_seconds = float(sitting.options["timeout_seconds"])
    async with open_race(sitting) as race:
        await race.start(1)
        connection = await asyncpg.connect(sitting.place.coordinator)
        await wait_for(connection, SEEN, 1)
        await fill(connection, timeout_seconds, pending, per_second)
        wanted = FIRING_SECONDS * per_second
        ended = await wait_for(connection, ENDED, wanted)
        late = await connection.fetchval(LATE, timeout_seconds)
        await connection.close()
    names = ("late_p50_ms", "late_p99_ms", "late_most_ms")
    line: dict[str, object] = {"case": "deadlines", "pending": pending, "per_second": per_second, "ended": ended}
    if late is not None:
        line |= {name: round(value, 1) for name, value in zip(names, late, strict=True)}
    say(line | ({"failed": f"only {ended} of {wanted} ended within {GIVE_UP_SECONDS} s"} if ended < wanted else {}))


if __name__ == "__main__":
    quiet()
    anyio.run(measure, SITTING.validate_json(sys.argv[1]))
