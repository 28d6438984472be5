"""Turn templates into pages; every value is escaped, every link stays below where the console is mounted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from urllib.parse import quote, urlencode

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from saga._core.drawing import stylesheet
from saga.console.people import Role
from saga.console.visits import KEY, Visit

STATIC = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "theme.js": "text/javascript; charset=utf-8",
    "favicon.svg": "image/svg+xml",
    "vendor/htmx.min.js": "text/javascript; charset=utf-8",
    "vendor/sse.min.js": "text/javascript; charset=utf-8",
}
DRAWINGS = "drawing.css"
STATIC_TYPES = {**STATIC, DRAWINGS: "text/css; charset=utf-8"}

# What a chip, a card and a bar are coloured by.
TONES = {
    "running": "going",
    "committed": "going",
    "ready": "going",
    "asking": "undo",
    "closing": "undo",
    "completed": "good",
    "compensated": "undone",
    "stuck": "bad",
    "held": "held",
    "done": "good",
    "undone": "undone",
    "undoing": "undo",
    "refused": "bad",
    "failed": "bad",
    "intent": "going",
    "waiting": "undo",
    "open": "bad",
    "half_open": "undo",
    "closed": "good",
    "unchanged": "held",
    "in doubt": "undo",
    "dead letter": "bad",
    "would be done": "good",
    "would stay as it is": "held",
    "would be refused": "bad",
}


@cache
def static_file(name: str) -> bytes:
    """Return a file of ours by its name in `STATIC_TYPES`."""
    if name == DRAWINGS:
        return stylesheet().encode()
    return resources.files("saga.console").joinpath("static", *name.split("/")).read_bytes()


@cache
def _mark(name: str) -> str:
    return hashlib.sha256(static_file(name)).hexdigest()[:10]


def at(root: str, path: str, query: Mapping[str, object]) -> str:
    """Return the address of a page of ours; empty values are left out of the query, lists are repeated."""
    given = {name: value for name, value in query.items() if value not in ("", None, (), [])}
    return root + path + (f"?{urlencode(given, doseq=True)}" if given else "")


def root_of(request: Request) -> str:
    """Return the prefix the console is mounted at, "" for none."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def path_of(request: Request) -> str:
    """Return the path below where the console is mounted."""
    path, root = str(request.scope["path"]), root_of(request)
    return path.removeprefix(root) if root and path.startswith(root + "/") else path


def saga_path(saga_id: str) -> str:
    """Return the path of one saga's page."""
    return f"/sagas/{quote(saga_id, safe='')}"


def letter_path(database: str, letter_id: int) -> str:
    """Return the path of one dead letter's page."""
    return f"/dead-letters/{quote(database, safe='')}/{letter_id}"


def moment(when: datetime | None) -> str:
    """Tell a time to the second, in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if when is not None else "-"


def exactly(when: datetime | None) -> str:
    """Tell a time as a machine reads it."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds") if when is not None else ""


def span(given: float | timedelta | None) -> str:
    """Tell a length of time with one unit or two, such as `3 min 20 s`."""
    if given is None:
        return "-"
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if seconds < 0:
        return f"-{span(-seconds)}"
    if seconds < 10:  # noqa: PLR2004 - below this the fraction says something
        return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(number for number, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def count(number: int) -> str:
    """Tell a number with a thin gap between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def pretty(body: bytes | str | None) -> str:
    """Return JSON with indents, any other text as it is, bytes that are no text as escapes."""
    if body is None:
        return ""
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return body if isinstance(body, str) else body.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Make the addresses in a page, all below `root`."""

    root: str

    def at(self, path: str, query: Mapping[str, object] | None = None, **more: object) -> str:
        """Return the address of a page."""
        return at(self.root, path, {**(query or {}), **more})

    def static(self, name: str) -> str:
        """Return the address of a file, which may be kept for ever."""
        return at(self.root, f"/static/{name}", {"v": _mark(name)})

    def saga(self, saga_id: str, **more: object) -> str:
        """Return the address of one saga's page."""
        return at(self.root, saga_path(saga_id), more)

    def letter(self, database: str, letter_id: int) -> str:
        """Return the address of one dead letter's page."""
        return at(self.root, letter_path(database, letter_id), {})


class Pages:
    """Render templates with what every page needs."""

    def __init__(self, traces: str = "") -> None:
        """Take the template of links to traces, which holds `{trace_id}`."""
        self._traces = traces
        self._environment = Environment(
            loader=PackageLoader("saga.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(moment=moment, exactly=exactly, span=span, count=count, pretty=pretty)

    def text(self, request: Request, name: str, values: Mapping[str, object]) -> str:
        """Return a template as text."""
        links = Links(root=root_of(request))
        visit: Visit | None = request.scope.get(KEY)
        template = self._environment.get_template(name)
        return template.render(
            at=links.at,
            static=links.static,
            saga_at=links.saga,
            letter_at=links.letter,
            trace_at=self._trace_at,
            tones=TONES,
            Role=Role,
            visit=visit,
            here=path_of(request),
            now=datetime.now(UTC),
            **values,
        )

    def page(self, request: Request, name: str, values: Mapping[str, object], *, status: int = 200) -> HTMLResponse:
        """Return a template as an answer."""
        return HTMLResponse(self.text(request, name, values), status_code=status)

    def _trace_at(self, trace_id: str) -> str:
        return self._traces.replace("{trace_id}", quote(trace_id, safe="")) if trace_id and self._traces else ""


def in_htmx(request: Request) -> bool:
    """Return whether htmx asks, which wants a fragment and not a page."""
    return request.headers.get("hx-request") == "true"
