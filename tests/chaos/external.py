"""Kill the shop around its calls to a gateway that lives on: `python -m tests.chaos.external --kills 500`.

One process holds the services, SQLite below them; the gateway is another process, whose books are the truth. It
hangs, answers late, loses answers, gets calls twice. Exits non-zero with a sentence for everything charged twice,
left charged or set aside after its saga was undone, still in doubt, lost, doubled or stuck.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import anyio
import httpx

from tests.chaos.audit import Receipts, audit
from tests.chaos.basket import COMPENSATED, UNDONE, Kind, Order, fill
from tests.chaos.embedded import embedded_facts
from tests.chaos.embedded_shop import gateway_file, shop_file
from tests.chaos.external_shop import live
from tests.chaos.facts import Facts
from tests.chaos.processes import Role
from tests.chaos.summary import endings

UP_SECONDS = 60.0
LIFE_SECONDS = (0.02, 1.2)
SAGAS_A_LIFE = 6
PAUSE_SECONDS = 0.1

KINDS = (
    Kind(name="plain", share=30),
    Kind(name="slow", share=20, card="card-slow"),
    Kind(name="answer-lost", share=10, card="card-lost-answer"),
    Kind(name="late", share=8, card="card-late"),
    Kind(name="late-charge", share=8, card="card-late-charge"),
    Kind(name="twice", share=6, card="card-twice"),
    Kind(name="hangs", share=6, card="card-hangs"),
    Kind(name="hangs-declined", share=6, card="card-hangs-declined", endings=UNDONE, undisturbed=COMPENSATED),
    Kind(name="declined-late", share=6, card="card-declined-late", endings=UNDONE, undisturbed=COMPENSATED),
)

IN_DOUBT = "select step || ' ' || undo from saga_run where owner <> '' and pending_at is not null"


@dataclass(slots=True, kw_only=True)
class ExternalReport:
    """Hold what came of a run; `cut` counts the outside calls a kill has cut, by step and state of its undo."""

    receipts: Receipts = field(default_factory=Receipts)
    kills: int = 0
    kills_in_a_call: int = 0
    cut: Counter[str] = field(default_factory=Counter[str])
    said: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    facts: Facts | None = None
    problems: list[str] = field(default_factory=list[str])


class _Life:
    """Be one life of the shop; a thread reads what it says, so that nothing said before a kill is lost."""

    def __init__(self, folder: Path, gateway: str, orders: tuple[Order, ...], first: int) -> None:
        forking = multiprocessing.get_context("forkserver")
        heard, told = forking.Pipe(duplex=False)
        args = (told, folder, gateway, orders, first, PAUSE_SECONDS)
        self.process = forking.Process(target=live, args=args, daemon=True)
        self.process.start()
        told.close()
        self.lines: queue.Queue[str] = queue.Queue()
        self._source = os.fdopen(os.dup(heard.fileno()), encoding="utf-8")
        heard.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._source as lines:
            for line in lines:
                if line.endswith("\n"):
                    self.lines.put(line.strip())

    def wait_for(self, word: str, seconds: float, heard: list[str]) -> bool:
        """Hear what it says until it says `word`; False if it does not within the time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            with suppress(queue.Empty):
                heard.append(self.lines.get(timeout=min(left, 0.1)))
                if heard[-1] == word:
                    return True
            if not self.process.is_alive() and self.lines.empty():
                return False
        return False

    def end(self, seconds: float) -> tuple[int | None, list[str]]:
        """Wait for its end, or kill it; returns its exit code and what it said that nobody has heard yet."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        self._reader.join()
        self.process.close()
        rest: list[str] = []
        with suppress(queue.Empty):
            while True:
                rest.append(self.lines.get_nowait())
        return code, rest


class External:
    """Do it in one folder."""

    def __init__(self, folder: Path, *, kills: int, seed: int, end_seconds: float) -> None:
        """Draw everything from the seed; what the processes make of it is theirs."""
        self._folder, self._kills, self._end_seconds = folder, kills, end_seconds
        self._rng = Random(seed)
        self._orders = fill(max(len(KINDS), SAGAS_A_LIFE * kills), Random(seed), KINDS)
        self.report = ExternalReport()
        self.report.receipts.orders = {order.key: order for order in self._orders}

    async def run(self) -> ExternalReport:
        """Kill the shop again and again, let it come to its end, and audit what is left."""
        report, began = self.report, time.monotonic()
        multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.chaos.external_shop"])
        port = _free_port()
        role = Role(
            name="gateway",
            arguments=("-m", "examples.payment", "gateway"),
            environment={"GATEWAY_PORT": str(port), "GATEWAY_FILE": str(gateway_file(self._folder))},
            logs=self._folder,
        )
        role.start()
        try:
            gateway = f"http://127.0.0.1:{port}"
            await _wait_until_up(gateway)
            for _ in range(self._kills):
                self._live_and_die(gateway)
            self._live(gateway)
        finally:
            role.end()
        report.seconds = time.monotonic() - began
        report.said.update(_said((self._folder / "shop.log").read_text(errors="replace")))
        report.facts = await embedded_facts(self._folder)
        report.problems += audit(report.facts, report.receipts)
        report.problems += [f"{what} is still in doubt" for what in self._in_doubt()]
        return report

    def _live_and_die(self, gateway: str) -> None:
        report = self.report
        life, heard = _Life(self._folder, gateway, self._orders, self._first_unknown()), list[str]()
        if not life.wait_for("up", UP_SECONDS, heard):
            report.problems.append(f"the shop did not come up again after {report.kills} kills")
        life.wait_for("ended", self._rng.uniform(*LIFE_SECONDS), heard)
        life.process.kill()
        report.kills += 1
        self._hear(heard + life.end(30.0)[1])
        cut = self._in_doubt()
        report.kills_in_a_call += bool(cut)
        report.cut.update(cut)

    def _live(self, gateway: str) -> None:
        report = self.report
        life, heard = _Life(self._folder, gateway, self._orders, self._first_unknown()), list[str]()
        ended = life.wait_for("ended", self._end_seconds, heard)
        if not ended:
            report.problems.append(f"not every saga had ended after {self._end_seconds:.0f} s")
        code, rest = life.end(30.0 if ended else 0.0)
        if ended and code != 0:
            report.problems.append(f"the shop ended with exit code {code}")
        self._hear(heard + rest)

    def _in_doubt(self) -> list[str]:
        with closing(sqlite3.connect(shop_file(self._folder))) as db:
            return [what for (what,) in db.execute(IN_DOUBT)]

    def _first_unknown(self) -> int:
        known = self.report.receipts.sagas
        return next((number for number, order in enumerate(self._orders) if order.key not in known), len(self._orders))

    def _hear(self, lines: list[str]) -> None:
        receipts = self.report.receipts
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "placed":
                number, saga_id = rest.split()
                key = self._orders[int(number)].key
                before = receipts.sagas.setdefault(key, saga_id)
                if before != saga_id:
                    receipts.complaints.append(f"order {key} was saga {before}, then {saga_id}")


SAYINGS = {
    "taken over from": "calls taken over",
    "missed two heartbeats": "silent owners named",
    "needs a person": "calls left to a person",
    ": attempt ": "attempts without an answer",
}


def _said(log: str) -> Counter[str]:
    return Counter(what for line in log.splitlines() for words, what in SAYINGS.items() if words in line)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def _wait_until_up(url: str) -> None:
    with anyio.fail_after(UP_SECONDS):
        async with httpx.AsyncClient(base_url=url) as client:
            while True:
                with suppress(httpx.TransportError):
                    await client.get("/health")
                    return
                await anyio.sleep(0.05)


def lines_of(report: ExternalReport) -> list[str]:
    """Say in a few lines what a run came to."""
    lines = [
        f"{len(report.receipts.orders)} sagas, {report.kills} kills in {report.seconds:.0f} s",
        f"{report.kills_in_a_call} kills cut {report.cut.total()} outside calls:",
        *(f"  {count:6} {what}" for what, count in sorted(report.cut.items())),
        *(f"  {count:6} {what}" for what, count in sorted(report.said.items())),
    ]
    if report.facts is not None:
        lines += endings(report.facts)
    if report.problems:
        return [*lines, *(f"PROBLEM: {problem}" for problem in report.problems[:40])]
    return [*lines, "nothing charged twice, nothing left charged or set aside, nothing in doubt"]


def main() -> int:
    """Run it and print what came of it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.external", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--end", type=float, default=240.0, help="seconds every saga has after the last kill")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="saga-external-"))
    report = anyio.run(External(folder, kills=given.kills, seed=given.seed, end_seconds=given.end).run)
    sys.stdout.write("\n".join(lines_of(report)) + f"\nlogs: {folder}\n")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
