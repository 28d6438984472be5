"""Run the payment example with a tracer for each service, as if each were a process of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import anyio
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler

from examples.payment.embedded import PLANS
from examples.payment.gateway import Gateway
from examples.payment.gateway_doors import LocalGateway
from examples.payment.orders import place
from examples.payment.payment import CALLS, use_gateway
from examples.payment.scenarios import SCENARIOS, Scenario
from examples.payment.services import SERVICES
from saga import Ended
from saga.app import App, Coordinator, SagaHandle
from saga.ports import Transport
from saga.telemetry.otel import OtelTracer

NAMES = ("orders", "inventory", "payment", "shipping")
COORDINATOR = "coordinator"
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """Be one scenario that has ended."""

    scenario: Scenario
    saga_id: str
    ended: Ended


async def play(gateway: Gateway, name: str) -> Played:
    """Place a scenario's order under a key of its own and wait for its end."""
    scenario, key = BY_NAME[name], f"{name}-{uuid4().hex[:8]}"
    order = scenario.order.model_copy(update={"order_id": key})
    handle: SagaHandle = await place(order, key=key)
    if name == "gateway-down":
        await _repair(gateway, key)
    ended = await handle.outcome(timeout_seconds=60)
    assert ended.ending is scenario.ending, ended
    return Played(scenario=scenario, saga_id=handle.saga_id, ended=ended)


async def _repair(gateway: Gateway, order_id: str) -> None:
    """Repair it once the payment service has used up its attempts: what came of them can be found out then."""
    while gateway.calls(order_id, "authorize") < CALLS.attempts:  # noqa: ASYNC110 - it has no event
        await anyio.sleep(0.02)
    gateway.repair("card-down")


@asynccontextmanager
async def traced_shop(
    folder: Path, endpoint: str, transport: str | Transport, sampler: Callable[[], Sampler] = lambda: DEFAULT_ON
) -> AsyncGenerator[Gateway]:
    """Run the four services and the coordinator; their spans are at the endpoint once the context has ended."""
    gateway = Gateway()
    use_gateway(LocalGateway(gateway))
    providers = {name: _provider(name, endpoint, sampler()) for name in (*NAMES, COORDINATOR)}
    coordinator = Coordinator(plans=PLANS, store=f"sqlite:///{folder}/coordinator.db")
    async with AsyncExitStack() as stack:
        at = OtelTracer(providers[COORDINATOR])
        await stack.enter_async_context(App(coordinator=coordinator, transport=transport, tracer=at))
        for service in SERVICES:
            store, at = f"sqlite:///{folder}/{service.name}.db", OtelTracer(providers[service.name])
            await stack.enter_async_context(App([service], store=store, transport=transport, tracer=at))
        yield gateway
    for provider in providers.values():
        provider.shutdown()
    gateway.close()


def _provider(name: str, endpoint: str, sampler: Sampler) -> TracerProvider:
    resource = Resource({"service.name": name})
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
    return provider
