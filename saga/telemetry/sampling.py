"""Decide once for a saga whether it is recorded, and record the way back of those that fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from saga._core.bucket import Bucket, filled, taken
from saga.telemetry.otel import KEEP

FAILED_PER_SECOND = 10.0


class SagaSampler(Sampler):
    """Ask another sampler, but let no saga be recorded by halves.

    A trace that goes on after a long wait is recorded if the one before was. A saga that fails is recorded from then
    on even where its way forward was not, up to `failed_per_second` in this process: when everything fails, recording
    everything would make it worse.
    """

    def __init__(
        self,
        inner: Sampler,
        failed_per_second: float = FAILED_PER_SECOND,
        clock_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Decide like `inner` about all else."""
        self._inner = inner
        self._rate = failed_per_second
        self._clock_seconds = clock_seconds
        self._bucket = Bucket(at=clock_seconds())

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about one span; see the SDK's Sampler."""
        if attributes and "saga.id" in attributes and not _has_parent(parent_context):
            if any(link.context.trace_flags.sampled for link in links or ()):
                return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, trace_state)
            if KEEP in attributes:
                decision = Decision.RECORD_AND_SAMPLE if self._may_keep() else Decision.DROP
                return SamplingResult(decision, attributes, trace_state)
        return self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return what the SDK shows of it."""
        return f"SagaSampler{{{self._inner.get_description()}, failed_per_second={self._rate:g}}}"

    def _may_keep(self) -> bool:
        if self._rate <= 0:
            return False
        self._bucket = filled(self._bucket, self._rate, self._clock_seconds())
        if self._bucket.tokens < 1:
            return False
        self._bucket = taken(self._bucket)
        return True


def _has_parent(context: Context | None) -> bool:
    return trace.get_current_span(context).get_span_context().is_valid
