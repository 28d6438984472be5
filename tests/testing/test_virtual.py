from __future__ import annotations

import asyncio
import socket
import threading
import time

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from saga.testing import run

YEAR = 365 * 24 * 3600.0


def test_years_pass_at_once() -> None:
    async def sleep() -> float:
        await anyio.sleep(30 * YEAR)
        return anyio.current_time()

    began = time.monotonic()
    assert run(sleep) == pytest.approx(30 * YEAR)
    assert time.monotonic() - began < 5


def test_timers_ring_in_their_order() -> None:
    rung: list[float] = []

    async def ring(after: float) -> None:
        await anyio.sleep(after)
        rung.append(after)

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for after in (3600.0, 0.001, 60.0, 0.0):
                tasks.start_soon(ring, after)

    run(all_of_them)
    assert rung == [0.0, 0.001, 60.0, 3600.0]


def test_a_timeout_fires_only_when_it_is_due() -> None:
    async def wait() -> float:
        with anyio.move_on_after(10):
            await anyio.sleep(9)
            return anyio.current_time()
        return -1.0

    assert run(wait) == pytest.approx(9.0)


@pytest.mark.parametrize("how", ["anyio", "asyncio"])
def test_the_clock_stands_still_while_a_thread_is_busy(how: str) -> None:
    go_on = threading.Event()

    async def work() -> tuple[bool, float]:
        # The loop is idle but for this timer: only the busy thread keeps it from jumping.
        timer = asyncio.get_running_loop().call_later(100.0, go_on.set)
        threading.Timer(0.2, go_on.set).start()
        if how == "anyio":
            waited = await anyio.to_thread.run_sync(go_on.wait, 4.0)
        else:
            waited = await asyncio.to_thread(go_on.wait, 4.0)
        timer.cancel()
        return waited, anyio.current_time()

    assert run(work) == (True, 0.0)


def test_a_thread_that_has_returned_holds_nothing_up() -> None:
    async def work() -> float:
        await anyio.to_thread.run_sync(int)
        await anyio.sleep(YEAR)
        return anyio.current_time()

    assert run(work) == pytest.approx(YEAR)


def test_a_thread_may_wait_for_the_loop() -> None:
    def ask() -> float:
        return anyio.from_thread.run_sync(anyio.current_time)

    async def work() -> float:
        return await anyio.to_thread.run_sync(ask)

    assert run(work) == 0.0


def test_a_socket_is_heard_before_time_passes() -> None:
    async def talk() -> tuple[bytes, float]:
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        loop = asyncio.get_running_loop()
        with here, there, anyio.fail_after(60):
            threading.Timer(0.005, there.send, [b"hello"]).start()
            return await loop.sock_recv(here, 5), loop.time()

    said, at = run(talk)
    assert said == b"hello"
    assert at < 60
