"""Say which span is open here, for a line that is logged inside of a handler."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import trace

_NAMES = {"saga_id": "saga.id", "saga": "saga.name", "step": "saga.step"}


def ambient_ids() -> dict[str, str]:
    """Return trace and span ID of the open span, and the saga and step it is about; empty where there is none."""
    span = trace.get_current_span()
    context = span.get_span_context()
    if not context.is_valid:
        return {}
    attributes: Mapping[str, object] = getattr(span, "attributes", None) or {}
    found = {name: str(attributes.get(attribute, "")) for name, attribute in _NAMES.items()}
    return found | {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
