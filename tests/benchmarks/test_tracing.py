from __future__ import annotations

import pytest

from tests.benchmarks.tracing import WAYS, run_saga, tracer_of


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_trace_runs(way: str) -> None:
    run_saga(tracer_of(way))
