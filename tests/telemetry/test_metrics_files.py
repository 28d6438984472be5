"""The files for Prometheus, Grafana and KEDA ask for metrics and labels that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from saga._core.metrics import METRICS, MetricKind
from saga.telemetry.prometheus import ALL_NAMES, prometheus_label, prometheus_names

COMPOSE = Path(__file__).parents[2] / "compose"
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
LABELS = {prometheus_label(label) for metric in METRICS for label in metric.labels} | {"le", "instance", "job"}
OURS = re.compile(r"\b(?:saga|messaging)_\w+")
RATED = re.compile(r"(?:rate|increase)\((\w+)")


def values_of(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, however deep."""
    if isinstance(tree, dict):
        for key, value in cast("dict[str, Any]", tree).items():
            yield key, value
            yield from values_of(value)
    elif isinstance(tree, list):
        for value in cast("list[Any]", tree):  # type: ignore[redundant-cast]  # pyright needs it
            yield from values_of(value)


def loaded(name: str) -> Any:
    text = (COMPOSE / name).read_text("utf-8")
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


def queries() -> Iterator[tuple[str, str]]:
    for name, key in (("alerts.yaml", "expr"), ("grafana-saga.json", "expr"), ("keda-scaledobject.yaml", "query")):
        for found, value in values_of(loaded(name)):
            if found == key and isinstance(value, str) and value != "prometheus":
                yield name, " ".join(value.split())


QUERIES = list(queries())


def taken_apart(query: str) -> tuple[set[str], set[str]]:
    """Return the metrics and the labels that a query names."""
    selected = re.findall(r"\{([^}]*)\}", query)
    grouped = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", query)
    labels = {match for part in selected for match in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", part)}
    labels |= {label.strip() for part in grouped for label in part.split(",")}
    rest = re.sub(r"\{[^}]*\}|\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", query)
    return set(OURS.findall(rest)), labels


def test_each_file_asks_for_something() -> None:
    assert {name for name, _ in QUERIES} == {"alerts.yaml", "grafana-saga.json", "keda-scaledobject.yaml"}


@pytest.mark.parametrize(("name", "query"), QUERIES)
def test_every_metric_and_label_of_a_query_is_in_the_table(name: str, query: str) -> None:
    metrics, labels = taken_apart(query)
    assert metrics, f"{name} asks for nothing of ours: {query}"
    assert not metrics - ALL_NAMES, name
    assert not labels - LABELS, name
    assert query.count("(") == query.count(")")
    assert query.count("{") == query.count("}")
    # A label that the metric does not have selects nothing, without a word.
    for metric, inside in re.findall(r"(\w+)\{([^}]*)\}", query):
        (own,) = [each for each in METRICS if metric in prometheus_names(each)]
        has = {prometheus_label(label) for label in own.labels}
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside)) <= has, metric


@pytest.mark.parametrize(("name", "query"), QUERIES)
def test_what_is_rated_only_ever_grows_and_a_gauge_is_not_rated(name: str, query: str) -> None:
    gauges = {each for metric in METRICS if metric.kind is MetricKind.GAUGE for each in prometheus_names(metric)}
    rated = set(RATED.findall(query))
    assert not rated & gauges, name
    growing = taken_apart(query)[0] - gauges
    assert growing == rated, f"{name}: a counter means little without rate()"


def test_labels_that_annotations_show_are_labels() -> None:
    for key, value in values_of(loaded("alerts.yaml")):
        if key in ("summary", "description"):
            assert set(re.findall(r"\$labels\.(\w+)", value)) <= LABELS


def test_every_alert_has_a_name_a_sentence_and_a_row_in_the_docs() -> None:
    (group,) = loaded("alerts.yaml")["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    written = re.findall(r"^\| `(Saga\w+)` \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert sorted(names) == sorted(written)
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}


def test_what_is_asked_for_at_night_has_an_alert() -> None:
    asked = set[str]().union(*(taken_apart(query)[0] for name, query in QUERIES if name == "alerts.yaml"))
    assert asked >= {
        "saga_stuck",
        "saga_outbox_age_seconds",
        "saga_coordinator_behind_seconds",
        "saga_dead_letters_age_seconds",
        "saga_breaker_state",
        "saga_heartbeat_seconds",
    }


def test_a_service_is_scaled_by_how_long_its_work_waits_with_a_pause_before_it_shrinks() -> None:
    spec = loaded("keda-scaledobject.yaml")["spec"]
    asked = set[str]().union(*(taken_apart(query)[0] for name, query in QUERIES if name.startswith("keda")))
    assert asked == {"saga_step_queue_duration_seconds_bucket", "saga_consumer_behind_seconds"}
    assert {trigger["type"] for trigger in spec["triggers"]} == {"prometheus"}
    assert spec["minReplicaCount"] >= 1
    assert spec["maxReplicaCount"] <= 8  # partitions
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 300


def test_the_boards_panels_are_told_apart_and_do_not_overlap() -> None:
    panels = loaded("grafana-saga.json")["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_compose_gives_prometheus_the_rules() -> None:
    service = loaded("compose.yaml")["services"]["prometheus"]
    for volume in service["volumes"]:
        assert (COMPOSE / volume.split(":")[0]).is_file()
    inside = {volume.split(":")[1] for volume in service["volumes"]}
    assert set(loaded("prometheus.yaml")["rule_files"]) <= inside
