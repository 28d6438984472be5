"""Read traces back: what a span is called, whose it is, and the way from the root to it."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.telemetry.receiver import ReceivedSpan

ERROR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSpan:
    """Be one span as it was received; times in microseconds. `links` are the traces it points to."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, Any]
    is_error: bool
    events: Sequence[str] = ()
    links: Sequence[str] = ()
    began_us: int = 0
    took_us: int = 0


@dataclass(slots=True)
class Trace:
    """Hold the spans of one trace."""

    spans: Sequence[ReadSpan]
    _by_id: dict[str, ReadSpan] = field(init=False)

    def __post_init__(self) -> None:
        self._by_id = {span.span_id: span for span in self.spans}

    @property
    def roots(self) -> list[ReadSpan]:
        return [span for span in self.spans if not span.parent_id]

    @property
    def orphans(self) -> list[ReadSpan]:
        return [span for span in self.spans if span.parent_id and span.parent_id not in self._by_id]

    @property
    def errors(self) -> list[ReadSpan]:
        return [span for span in self.spans if span.is_error]

    @property
    def edges(self) -> set[tuple[str, str]]:
        """Return which service has caused what of which other one."""
        pairs = ((self._by_id.get(span.parent_id), span) for span in self.spans)
        return {(above.service, span.service) for above, span in pairs if above and above.service != span.service}

    def way(self, span: ReadSpan) -> tuple[str, ...]:
        above = self._by_id.get(span.parent_id)
        here = f"{span.service}: {span.name}"
        return (here,) if above is None else (*self.way(above), here)

    @property
    def ways(self) -> set[tuple[str, ...]]:
        return {self.way(span) for span in self.spans}

    def named(self, start: str) -> list[ReadSpan]:
        return [span for span in self.spans if span.name.startswith(start)]


def received(spans: Iterable[ReceivedSpan], saga_id: str) -> list[Trace]:
    """Return the traces of a saga among what a receiver has got."""
    read = [
        ReadSpan(
            service=span.service,
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_id.hex(),
            attributes=span.attributes,
            is_error=span.status == ERROR,
            events=span.events,
            links=[link.hex() for link in span.links],
            began_us=span.began_us,
            took_us=span.took_us,
        )
        for span in spans
    ]
    return _whole([span for span in read if span.attributes.get("saga.id") == saga_id])


def _whole(spans: Iterable[ReadSpan]) -> list[Trace]:
    traces: dict[str, list[ReadSpan]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    return [Trace(found) for found in traces.values()]


def found_in_jaeger(query: str, service: str, tags: Mapping[str, str]) -> list[Trace]:
    """Return the traces that Jaeger finds by tags."""
    asked = {"service": service, "tags": json.dumps(tags), "lookback": "1h", "limit": "100"}
    return [_trace(found) for found in _get(f"{query}/api/traces?{urllib.parse.urlencode(asked)}")]


def edges_in_jaeger(query: str, until_ms: int) -> set[tuple[str, str]]:
    """Return what Jaeger's dependency graph shows of the last hour."""
    found = _get(f"{query}/api/dependencies?endTs={until_ms}&lookback=3600000")
    return {(edge["parent"], edge["child"]) for edge in found if edge["parent"] != edge["child"]}


def _get(url: str) -> list[Any]:
    with urllib.request.urlopen(url, timeout=20) as answer:
        found: list[Any] = json.load(answer)["data"] or []
        return found


def _trace(found: Mapping[str, Any]) -> Trace:
    services = {key: process["serviceName"] for key, process in found["processes"].items()}
    return Trace([_span(span, services[span["processID"]]) for span in found["spans"]])


def _span(span: Mapping[str, Any], service: str) -> ReadSpan:
    attributes = {tag["key"]: tag["value"] for tag in span["tags"]}
    above = [ref for ref in span["references"] if ref["refType"] == "CHILD_OF"]
    follows = [ref["traceID"] for ref in span["references"] if ref["refType"] == "FOLLOWS_FROM"]
    return ReadSpan(
        service=service,
        name=span["operationName"],
        trace_id=span["traceID"],
        span_id=span["spanID"],
        parent_id=above[0]["spanID"] if above else "",
        attributes=attributes,
        is_error=attributes.get("error") is True,
        events=[str(entry["value"]) for log in span["logs"] for entry in log["fields"] if entry["key"] == "event"],
        links=follows,
        began_us=span["startTime"],
        took_us=span["duration"],
    )
