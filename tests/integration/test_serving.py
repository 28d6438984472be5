"""Run an app as a process of its own, as a service does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SERVICE = """
import asyncio
import logging

from saga import NOTHING, Event, Run, Saga, Service
from saga.app import App, Coordinator

class Placed(Event, name="order.placed", version=1):
    number: int

class Packed(Event, name="order.packed", version=1):
    number: int

orders = Service("orders")
checkout = Saga("checkout", version=1)
place = orders.starts(checkout, Placed)

@orders.step(checkout, compensation=NOTHING)
async def pack(placed: Placed, run: Run) -> Packed:
    print(type(asyncio.get_running_loop()).__module__, flush=True)
    return Packed(number=placed.number)

class Shop(App):
    async def __aenter__(self):
        await super().__aenter__()
        await place(Placed(number=1))
        return self

Shop([orders], coordinator=Coordinator(), store="sqlite:///{path}", transport="memory://").serve()
print("served", flush=True)
"""


def test_it_serves_on_uvloop_until_it_is_told_to_stop(tmp_path: Path) -> None:
    pytest.importorskip("uvloop")
    program = tmp_path / "service.py"
    program.write_text(SERVICE.replace("{path}", str(tmp_path / "shop.db")))
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("uvloop")
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "served\n"
        assert process.wait(timeout=30) == 0
