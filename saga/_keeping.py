"""Keep the databases of a running app in shape: delete what is old, count what is open, say who publishes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from anyio.abc import TaskGroup

from outbox.pruner import Pruner
from outbox.relay import Relay
from saga._core.keeping import Publishing, Retention, RowCaps
from saga._core.rows import OutboxRow
from saga._runtime.capping import RowCapWatch
from saga._runtime.context import HandOver
from saga._runtime.supervise import supervised
from saga.errors import SettingsError
from saga.ports import CoordinationStore, OpenRows, Store
from saga.ports.keeping import Capturing, Prunable, RowCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Hold how an app's databases are kept."""

    retention: Retention = field(default_factory=Retention)
    row_caps: RowCaps = field(default_factory=RowCaps)
    publishing: Publishing = Publishing.RELAY

    def arrange(self, *stores: Store | CoordinationStore | None) -> None:
        """Tell the stores who publishes; raises SettingsError for one that no connector can read."""
        for store in stores:
            if isinstance(store, Capturing):
                store.publish_by(self.publishing)
            elif store is not None and self.publishing is Publishing.CDC:
                raise SettingsError(f"publishing=Publishing.CDC needs a PostgreSQL store; {store!r} has no log to read")

    def watch(self) -> RowCapWatch:
        """Return what refuses starts, before it counts."""
        return RowCapWatch(self.row_caps, self.retention.outbox_alarm_seconds)

    def hand_over(self, relay: Relay) -> HandOver:
        """Return where committed rows go: to the relay, or nowhere."""
        return relay.hand_over if self.publishing is Publishing.RELAY else leave

    def expect(self, relay: Relay) -> Callable[[OpenRows], None]:
        """Return where rows go that a caller is going to commit."""
        return relay.expect if self.publishing is Publishing.RELAY else leave

    async def start(
        self,
        tasks: TaskGroup,
        rng: Random,
        store: Store | None,
        coordination: CoordinationStore | None,
        watch: RowCapWatch,
    ) -> None:
        """Count once, and start the tasks that prune and count."""
        for name, each in (("pruner", store), ("coordinator's pruner", coordination)):
            if isinstance(each, Prunable):
                tasks.start_soon(supervised, name, Pruner(each, self.retention).run, rng)
        if isinstance(store, RowCounts):
            await watch.count(store)
            tasks.start_soon(supervised, "row caps", partial(watch.run, store), rng)
        if isinstance(coordination, RowCounts):
            # Nothing starts here, but somebody must say when its outbox stands still.
            uncapped = RowCaps(
                outbox_rows=None, waiting_deliveries=None, open_runs=None, refresh_seconds=self.row_caps.refresh_seconds
            )
            alarm = RowCapWatch(uncapped, self.retention.outbox_alarm_seconds)
            tasks.start_soon(supervised, "outbox alarm", partial(alarm.run, coordination), rng)


def leave(rows: Sequence[OutboxRow] | OpenRows) -> None:
    """Leave rows to the connector that reads the log."""
