"""Let a machine, which is not asynchronous, drive stores that are: one event loop in a thread for all examples."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar, TypeVarTuple

from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.machines.adapters import Bench, Opened

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Driven(RuleBasedStateMachine):
    """Be a machine on a bench; `bind` makes the class that Hypothesis can create by itself."""

    portal: BlockingPortal
    opened: Opened

    def __init__(self) -> None:
        super().__init__()
        self._context = self.portal.wrap_async_context_manager(self.opened())
        self.bench: Bench = self._context.__enter__()

    def teardown(self) -> None:
        self._context.__exit__(None, None, None)

    def do(self, call: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        return self.portal.call(call, *args)

    def at_once(self, *calls: Callable[[], Awaitable[Any]]) -> list[Any]:
        """Run calls in tasks of one group and return what they came to."""
        return self.portal.call(_gathered, calls)


async def _gathered(calls: tuple[Callable[[], Awaitable[Any]], ...]) -> list[Any]:
    import anyio

    results: list[Any] = [None] * len(calls)

    async def run(number: int) -> None:
        results[number] = await calls[number]()

    async with anyio.create_task_group() as tasks:
        for number in range(len(calls)):
            tasks.start_soon(run, number)
    return results


@contextmanager
def _bound(machine: type[Driven], adapter: AbstractAsyncContextManager[Opened]) -> Generator[type[Driven]]:
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(adapter) as opened:
        yield type(machine.__name__, (machine,), {"portal": portal, "opened": staticmethod(opened)})


def drive(machine: type[Driven], adapter: AbstractAsyncContextManager[Opened], how: settings) -> None:
    """Run a machine; raises what its first failing example raises."""
    with _bound(machine, adapter) as bound:
        run_state_machine_as_test(bound, settings=how)
