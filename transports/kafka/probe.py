"""Find out why the cluster cannot be reached: the client library reports every reason alike."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio

from saga.errors import SettingsError, TransportError, TransportRefused, TransportUnavailable
from transports.kafka.library import ASK_BROKERS, ASK_MECHANISMS, CONNECTIONS, ERRORS
from transports.kafka.reasons import advertised, explained, speaks_no_tls, wants_password
from transports.kafka.settings import KafkaSettings, connection
from transports.kafka.waits import closed

PROBE_SECONDS = 5.0
_ATTEMPT_SECONDS = 2.0
_ILLEGAL_STATE = 34
_FAILURES = (OSError, TimeoutError, ERRORS.KafkaError, asyncio.IncompleteReadError)

_Address = tuple[str, int]


class Probe:
    """Try the addresses of a cluster, one connection each."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._bootstrap = bootstrap
        self._settings = settings

    async def why(self) -> TransportError | None:
        """Return why the cluster cannot be used, in at most 5 s; None when every broker of it answers.

        Also the addresses are tried that the brokers themselves have named.
        """
        found: dict[_Address, TransportError | None] = {}
        named: dict[_Address, _Address] = {}
        with anyio.move_on_after(PROBE_SECONDS):
            await self._attempt_all(_addresses(self._bootstrap), found, named)
            others = {address: named[address] for address in named.keys() - found.keys()}
            behind: dict[_Address, TransportError | None] = {}
            await self._attempt_all(list(others), behind, {})
            for address, failure in behind.items():
                found[address] = failure and advertised(_text(others[address]), _text(address), failure)
        failures = [one for one in found.values() if one is not None]
        refused = [one for one in failures if isinstance(one, TransportRefused)]
        if not failures:
            return None
        kind = TransportRefused if refused else TransportUnavailable
        return kind("; ".join(dict.fromkeys(map(str, refused or failures))))

    async def _attempt_all(
        self,
        addresses: list[_Address],
        found: dict[_Address, TransportError | None],
        named: dict[_Address, _Address],
    ) -> None:
        async def attempt(address: _Address) -> None:
            found[address] = await self._attempt(address, named)

        async with anyio.create_task_group() as tasks:
            for address in addresses:
                tasks.start_soon(attempt, address)

    async def _attempt(self, address: _Address, named: dict[_Address, _Address]) -> TransportError | None:
        try:
            link = await self._connect(address)
        except SettingsError as error:
            return TransportRefused(str(error))
        except _FAILURES as error:
            if self._settings.with_tls and _broke(error) and await self._answers_without_tls(address):
                return speaks_no_tls(_text(address), self._settings)
            return explained(_text(address), error, self._settings)
        try:
            answer: Any = await link.send(ASK_BROKERS([]))
        except _FAILURES as error:
            if not self._settings.with_password and await self._asks_for_password(address):
                return wants_password(_text(address), self._settings)
            return explained(_text(address), error, self._settings)
        finally:
            await _hung_up(link)
        for _, host, port, *_ in answer.brokers:
            named.setdefault((host, port), address)
        return None

    async def _connect(self, address: _Address, **changed: Any) -> Any:
        arguments = connection("", self._settings) | {"request_timeout_ms": int(_ATTEMPT_SECONDS * 1000)} | changed
        del arguments["bootstrap_servers"]
        return await CONNECTIONS.create_conn(*address, **arguments)

    async def _answers_without_tls(self, address: _Address) -> bool:
        # Without a user, so that no password goes over an open line.
        plain = {"security_protocol": "PLAINTEXT", "ssl_context": None, "sasl_mechanism": None}
        try:
            link = await self._connect(address, **plain)
        except _FAILURES:
            return False
        await _hung_up(link)
        return True

    async def _asks_for_password(self, address: _Address) -> bool:
        try:
            link = await self._connect(address)
        except _FAILURES:
            return False
        try:
            answer: Any = await link.send(ASK_MECHANISMS("PLAIN"))
        except _FAILURES:
            return False
        finally:
            await _hung_up(link)
        return bool(answer.error_code != _ILLEGAL_STATE)


async def _hung_up(link: Any) -> None:
    await closed(link.close, 1.0)


def _broke(error: BaseException) -> bool:
    """Return whether the other side has hung up, which is what a plain listener does with a TLS greeting."""
    told = str(error)
    return isinstance(error, ConnectionResetError) or "EOF" in told or "WRONG_VERSION_NUMBER" in told


def _addresses(bootstrap: str) -> list[_Address]:
    parts = [one.rpartition(":") for one in bootstrap.split(",")]
    return [(host.strip("[]"), int(port)) for host, _, port in parts]


def _text(address: _Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
