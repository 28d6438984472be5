"""Put the gateway behind HTTP: the server for a process of its own, and the client for the payment service."""

from __future__ import annotations

import json
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.payment.gateway import Answer, Entry, Gateway, GatewayDown, Wait
from examples.payment.gateway_doors import utc_now, wait_out

NOT_FOUND = 404


class GatewayServer:
    """Answer HTTP requests; an effect is committed before its response is sent."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def authorize(self, request: Request) -> Response:
        body = await request.json()
        found = self._gateway.authorize(
            body["key"], order_id=body["order_id"], card=body["card"], amount=body["amount"], now=utc_now()
        )
        return await self._answered(found)

    async def capture(self, request: Request) -> Response:
        body = await request.json()
        found = self._gateway.capture(body["key"], authorization=body["authorization"], now=utc_now())
        return await self._answered(found)

    async def void(self, request: Request) -> Response:
        body = await request.json()
        found = self._gateway.void(body["key"], authorization=body["authorization"], now=utc_now())
        return await self._answered(found)

    async def find(self, request: Request) -> Response:
        found = self._gateway.find(request.path_params["key"], now=utc_now())
        return JSONResponse({}, status_code=NOT_FOUND) if found is None else await self._answered(found)

    async def repair(self, request: Request) -> Response:
        body = await request.json()
        self._gateway.repair(body["card"])
        return JSONResponse({})

    async def books(self, _: Request) -> Response:
        entries = [entry.model_dump(mode="json") for entry in self._gateway.ledger()]
        return JSONResponse({"entries": entries, "open": self._gateway.open_authorizations()})

    async def health(self, _: Request) -> Response:
        return JSONResponse({"ok": True})

    async def _answered(self, found: Answer | Wait) -> Response:
        answer = await wait_out(self._gateway, found)
        return Response(answer.model_dump_json(), media_type="application/json")


async def _down(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=503)


async def _malformed(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"not a request: {error!r}"}, status_code=400)


def gateway_app(gateway: Gateway) -> Starlette:
    """Return the HTTP application."""
    server = GatewayServer(gateway)
    return Starlette(
        routes=[
            Route("/authorize", server.authorize, methods=["POST"]),
            Route("/capture", server.capture, methods=["POST"]),
            Route("/void", server.void, methods=["POST"]),
            Route("/calls/{key}", server.find),
            Route("/repair", server.repair, methods=["POST"]),
            Route("/books", server.books),
            Route("/health", server.health),
        ],
        exception_handlers={GatewayDown: _down, KeyError: _malformed, json.JSONDecodeError: _malformed},
    )


class HttpGateway:
    """Be the door to a gateway somewhere else."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        """Use `client`, whose `base_url` is the gateway's."""
        self._client = client

    async def authorize(self, key: str, *, order_id: str, card: str, amount: int) -> Answer:
        return await self._post("/authorize", key=key, order_id=order_id, card=card, amount=amount)

    async def capture(self, key: str, *, authorization: str) -> Answer:
        return await self._post("/capture", key=key, authorization=authorization)

    async def void(self, key: str, *, authorization: str) -> Answer:
        return await self._post("/void", key=key, authorization=authorization)

    async def find(self, key: str) -> Answer | None:
        response = await self._send("GET", f"/calls/{key}")
        return None if response.status_code == NOT_FOUND else Answer.model_validate_json(response.content)

    async def repair(self, card: str) -> None:
        await self._client.post("/repair", json={"card": card})

    async def books(self) -> tuple[list[Entry], list[str]]:
        """Return the gateway's ledger and its open authorizations."""
        body = (await self._client.get("/books")).raise_for_status().json()
        return [Entry.model_validate(entry) for entry in body["entries"]], list(body["open"])

    async def _post(self, path: str, **body: Any) -> Answer:
        return Answer.model_validate_json((await self._send("POST", path, json=body)).content)

    async def _send(self, method: str, path: str, **given: Any) -> httpx.Response:
        try:
            response = await self._client.request(method, path, **given)
        except httpx.TransportError as error:
            msg = f"no answer from the gateway: {error!r}"
            raise GatewayDown(msg) from error
        if not response.is_success and response.status_code != NOT_FOUND:
            msg = f"the gateway says {response.status_code}: {response.text[:200]}"
            raise GatewayDown(msg)
        return response
