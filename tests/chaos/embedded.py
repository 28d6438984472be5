"""Kill the embedded shop again and again while it takes orders, then audit what its files say."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from examples.payment.databases import sqlite_query
from examples.payment.gateway import Gateway
from tests.chaos.audit import Receipts, audit
from tests.chaos.basket import fill
from tests.chaos.embedded_shop import coordinator_file, gateway_file, shop_file
from tests.chaos.facts import COORDINATOR, SERVICES, Facts, read_facts
from tests.chaos.processes import LEASH, ROOT

UP_SECONDS = 60.0


@dataclass(slots=True, kw_only=True)
class EmbeddedReport:
    """Hold what came of a run: the audit is in `problems`."""

    receipts: Receipts = field(default_factory=Receipts)
    kills: int = 0
    kills_while_placing: int = 0
    seconds: float = 0.0
    facts: Facts | None = None
    problems: list[str] = field(default_factory=list[str])


class _Shop:
    """Be one life of the process; a thread reads what it says, so that nothing said before a kill is lost."""

    def __init__(self, folder: Path, *, sagas: int, seed: int, first: int, log: Path) -> None:
        arguments = [str(folder), "--sagas", str(sagas), "--seed", str(seed), "--first", str(first)]
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*LEASH, "-m", "tests.chaos.embedded_shop", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self.lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if line.endswith("\n"):
                    self.lines.put(line.strip())

    def wait_for(self, word: str, seconds: float, heard: list[str]) -> bool:
        """Hear what it says until it says `word`; False if it does not within the time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(queue.Empty):
                heard.append(self.lines.get(timeout=0.1))
                if heard[-1] == word:
                    return True
            if self.process.poll() is not None and self.lines.empty():
                return False
        return False

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.end(0.0)

    def end(self, seconds: float) -> int | None:
        """Wait for its end and everything it has said; returns its exit code, None if it had to be killed."""
        try:
            code: int | None = self.process.wait(max(seconds, 10.0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        self._reader.join()
        return code

    def rest(self) -> list[str]:
        """Return what it said that nobody has heard yet."""
        found: list[str] = []
        with suppress(queue.Empty):
            while True:
                found.append(self.lines.get_nowait())
        return found


async def run_embedded(folder: Path, *, sagas: int, kills: int, seed: int, end_seconds: float) -> EmbeddedReport:
    """Kill the shop `kills` times, let it come to its end, and audit its files."""
    rng = Random(seed)
    report = EmbeddedReport()
    orders = fill(sagas, Random(seed))
    receipts = report.receipts
    receipts.orders = {order.key: order for order in orders}
    began = time.monotonic()
    log = folder / "shop.log"

    def hear(lines: list[str]) -> None:
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "placed":
                number, saga_id = rest.split()
                before = receipts.sagas.setdefault(orders[int(number)].key, saga_id)
                if before != saga_id:
                    receipts.complaints.append(f"order {orders[int(number)].key} was saga {before}, then {saga_id}")

    def first_unknown() -> int:
        unknown = (number for number, order in enumerate(orders) if order.key not in receipts.sagas)
        return next(unknown, len(orders))

    for _ in range(kills):
        shop = _Shop(folder, sagas=sagas, seed=seed, first=first_unknown(), log=log)
        heard: list[str] = []
        up = shop.wait_for("up", UP_SECONDS, heard)
        if not up:
            report.problems.append(f"the shop did not come up again after {report.kills} kills")
        shop.wait_for("ended", rng.uniform(0.0, 3.0), heard)
        report.kills_while_placing += len(receipts.sagas) < sagas
        shop.kill()
        report.kills += 1
        hear(heard + shop.rest())
    shop = _Shop(folder, sagas=sagas, seed=seed, first=first_unknown(), log=log)
    heard = []
    if not shop.wait_for("ended", end_seconds, heard):
        report.problems.append(f"not every saga had ended after {end_seconds:.0f} s")
        shop.kill()
    elif shop.end(30.0) != 0:
        report.problems.append("the shop did not end gracefully")
    hear(heard + shop.rest())
    report.seconds = time.monotonic() - began
    report.facts = await embedded_facts(folder)
    report.problems += audit(report.facts, receipts)
    return report


async def embedded_facts(folder: Path) -> Facts:
    """Read the files the shop has left."""
    shop, coordinator = sqlite_query(shop_file(folder)), sqlite_query(coordinator_file(folder))
    with closing(Gateway(gateway_file(folder))) as gateway:
        entries, still_open = gateway.ledger(), gateway.open_authorizations()
    return await read_facts({**dict.fromkeys(SERVICES, shop), COORDINATOR: coordinator}, entries, still_open)
