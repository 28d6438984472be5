"""A cancellation that nobody asked for is an error of the library's; it must not end the application."""

from __future__ import annotations

import asyncio
from random import Random

import anyio
import pytest

from saga._runtime.supervise import supervised
from saga.errors import TransportRefused, TransportUnavailable
from transports.kafka.library import ERRORS
from transports.kafka.waits import bounded, closed

pytestmark = pytest.mark.anyio


async def cancelled_inside() -> None:
    task = asyncio.ensure_future(asyncio.sleep(10))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def test_a_call_whose_own_task_was_cancelled_is_unavailable() -> None:
    with pytest.raises(TransportUnavailable):
        await bounded("cannot do it", cancelled_inside, 1.0)


async def test_a_member_whose_place_is_taken_is_refused() -> None:
    async def fenced() -> None:
        raise ERRORS.KafkaError(repr(ERRORS.for_code(82)()))

    with pytest.raises(TransportRefused, match="another process has the same slot"):
        await bounded("cannot join", fenced, 1.0)


async def test_closing_what_was_cancelled_inside_is_closed() -> None:
    assert await closed(cancelled_inside, 1.0)


async def test_who_closes_while_being_cancelled_closes_all_of_it() -> None:
    ended: list[bool] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep(10)
        finally:
            # A reader without a group cancels a task of its own when it is closed, and lets that out.
            ended.append(await closed(cancelled_inside, 1.0))
            ended.append(await closed(lambda: asyncio.sleep(10), 0.01))
    assert scope.cancelled_caught
    assert ended == [True, False]


async def test_a_cancellation_asked_for_goes_through() -> None:
    with anyio.move_on_after(0.01) as scope:
        await bounded("cannot do it", lambda: asyncio.sleep(10), 5.0)
    assert scope.cancelled_caught


async def test_a_supervised_loop_outlives_a_cancellation_nobody_asked_for() -> None:
    tries = 0

    async def body() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await cancelled_inside()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervised, "body", body, Random(1))
    assert tries == 2


async def test_a_supervised_loop_ends_when_it_is_cancelled() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervised, "body", anyio.sleep_forever, Random(1))
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
