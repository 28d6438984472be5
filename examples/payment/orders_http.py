"""Take orders over HTTP, in the process of the orders service."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.payment.events import OrderPlaced
from examples.payment.orders import place, reason_of
from saga import KeyConflict, OutcomePending
from saga.app import App

WAIT_SECONDS = 5.0


def orders_app(app: App) -> Starlette:
    """Return the HTTP application of the orders service that runs in `app`."""

    async def place_order(request: Request) -> Response:
        """Start the saga; placing the same order again is safe and returns the same saga."""
        try:
            order = OrderPlaced.model_validate_json(await request.body())
        except ValidationError as error:
            return _error(400, str(error))
        try:
            handle = await place(order, key=order.order_id)
        except KeyConflict as conflict:
            return _error(409, str(conflict))
        return JSONResponse({"saga_id": handle.saga_id}, status_code=202)

    async def end_of(request: Request) -> Response:
        """Return how a saga ended; 202 while it has not, after waiting a little."""
        handle = app.handle(place, request.path_params["saga_id"])
        try:
            ended = await handle.outcome(timeout_seconds=WAIT_SECONDS)
        except OutcomePending:
            return JSONResponse({"ending": "open"}, status_code=202)
        return JSONResponse({"ending": ended.ending.value, "reason": reason_of(ended)})

    async def health(_: Request) -> Response:
        return JSONResponse({"ok": True})

    return Starlette(
        routes=[
            Route("/orders", place_order, methods=["POST"]),
            Route("/sagas/{saga_id}", end_of),
            Route("/health", health),
        ]
    )


def _error(status: int, text: str) -> Response:
    body: dict[str, Any] = {"error": text}
    return JSONResponse(body, status_code=status)
