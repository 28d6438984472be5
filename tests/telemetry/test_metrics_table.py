"""The table of metrics, how it looks to Prometheus, and what is gathered before it is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from saga._core.measuring import MOST_VALUES, Behind, Reading, thinned
from saga._core.metrics import METRICS, Metric, MetricKind, buckets_of
from saga.telemetry.metrics import OtelMeter
from saga.telemetry.prometheus import ALL_NAMES, prometheus_label, prometheus_names

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
WHERE = {"service": "a service", "coordinator": "a coordinator", "process": "every process"}


def row_of(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
    return f"| `{metric.name}` | {metric.kind} | `{metric.unit}` | {labels} | {WHERE[metric.told]} | {metric.text} |"


def test_the_table_in_the_docs_is_the_one_in_the_code() -> None:
    written = [line for line in DOCUMENT.read_text("utf-8").splitlines() if re.match(r"\| `(saga|messaging)\.", line)]
    assert written == [row_of(metric) for metric in METRICS], "\n".join(row_of(metric) for metric in METRICS)


def test_names_are_told_apart_and_labels_are_no_ids() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert len(ALL_NAMES) == sum(len(prometheus_names(metric)) for metric in METRICS)
    ids = ("saga.id", "saga.branch", "saga.tenant", "messaging.message.id")
    assert not {label for metric in METRICS for label in metric.labels}.intersection(ids)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_the_exporter_makes_the_names_that_we_say(metric: Metric) -> None:
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(scope_info_enabled=False, registry=registry)])
    meter, labels = OtelMeter(provider), tuple(f"v{place}" for place in range(len(metric.labels)))
    match metric.kind:
        case MetricKind.COUNTER:
            meter.add(metric, labels, 2)
        case MetricKind.HISTOGRAM:
            meter.record(metric, labels, (0.2, 3.0))
        case MetricKind.GAUGE:
            meter.hold(meter, [Reading(metric=metric, labels=labels, value=4)])
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith(("saga", "messaging"))]
    provider.shutdown()
    assert {re.split(r"[{ ]", line)[0] for line in lines} == set(prometheus_names(metric))
    found = set(re.findall(r"(\w+)=\"", lines[0])) - {"le"}
    assert found == {prometheus_label(label) for label in metric.labels}
    if metric.kind is MetricKind.HISTOGRAM:
        assert sum("_bucket{" in line for line in lines) == len(buckets_of(metric)) + 1


def test_a_label_without_a_value_is_left_out() -> None:
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(scope_info_enabled=False, registry=registry)])
    sent = next(metric for metric in METRICS if metric.name == "messaging.client.sent.messages")
    OtelMeter(provider).add(sent, ("kafka", "send", "a.events", ""), 1)
    assert "error_type" not in generate_latest(registry).decode()
    provider.shutdown()


def test_a_gauge_is_the_greatest_of_what_several_apps_have_read() -> None:
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(scope_info_enabled=False, registry=registry)])
    meter, one, other = OtelMeter(provider), object(), object()
    stuck = next(metric for metric in METRICS if metric.name == "saga.stuck")
    meter.hold(one, [Reading(metric=stuck, labels=("trip",), value=2)])
    meter.hold(other, [Reading(metric=stuck, labels=("trip",), value=1)])
    assert 'saga_stuck{saga_name="trip"} 2.0' in generate_latest(registry).decode()
    meter.hold(one, ())
    assert 'saga_stuck{saga_name="trip"} 1.0' in generate_latest(registry).decode()
    provider.shutdown()


# --- thinning ---------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200))
def test_few_values_stand_for_many(values: list[float]) -> None:
    some = thinned(values)
    assert len(some) == min(len(values), MOST_VALUES)
    assert (min(some), max(some)) == (min(values), max(values))
    assert set(some) <= set(values)


def test_the_middle_of_many_values_stays_in_the_middle() -> None:
    some = sorted(thinned([float(value) for value in range(1000)]))
    assert some[3] == pytest.approx(428, abs=2)
    assert some[4] == pytest.approx(571, abs=2)


# --- how long a reader has been behind -----------------------------------------------------------------------------

A, B = ("a", 0), ("b", 0)


def test_a_reader_is_behind_since_the_end_it_has_not_reached_was_seen() -> None:
    behind = Behind()
    assert behind.look(0.0, {A: 5}, {A: 5}) == (0, 0.0)
    assert behind.look(10.0, {A: 9}, {A: 5}) == (4, 0.0)
    assert behind.look(20.0, {A: 12}, {A: 6}) == (6, 10.0)
    assert behind.look(30.0, {A: 12}, {A: 9}) == (3, 10.0)  # the nine are read; what came by 20 is not
    assert behind.look(40.0, {A: 12}, {A: 12}) == (0, 0.0)


def test_the_longest_of_several_partitions_counts_and_a_lost_one_is_forgotten() -> None:
    behind = Behind()
    behind.look(0.0, {A: 1, B: 0}, {A: 0, B: 0})
    assert behind.look(5.0, {A: 1, B: 2}, {A: 0, B: 0}) == (3, 5.0)
    assert behind.look(10.0, {B: 2}, {B: 0}) == (2, 5.0)
    assert behind.look(15.0, {A: 1, B: 2}, {A: 0, B: 2}) == (1, 0.0)


def test_a_reader_that_stands_still_for_ever_is_behind_since_the_first_look() -> None:
    behind = Behind(most_looks=8)
    found = [behind.look(float(second), {A: second + 1}, {A: 0}) for second in range(100)]
    assert found[-1] == (100, 99.0)
    assert behind.look(100.0, {A: 101}, {A: 1})[1] > 60.0  # coarser than it could be, and still right
