"""Read settings from the query of a `kafka://` URL, and secrets from the environment; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl

from saga.errors import SettingsError
from transports.kafka.settings import KafkaSettings, Security

SECRETS = {"password": "SAGA_KAFKA_PASSWORD", "key_password": "SAGA_KAFKA_KEY_PASSWORD"}
_KINDS: dict[str, type[Any]] = {one.name: type(one.default) for one in fields(KafkaSettings) if one.name not in SECRETS}


def settings_of(query: str, given: KafkaSettings | None, environ: Mapping[str, str]) -> KafkaSettings:
    """Return the settings of a URL's query (without `prefix`), over those given.

    Every field of KafkaSettings but the secrets may stand in the query. A user without `security` means SASL_SSL,
    a TLS file without it SSL. Secrets come from `given`, `password_file=`, or the environment. Raises
    SettingsError naming the parameter and what would be accepted.
    """
    found: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in SECRETS:
            raise SettingsError(f"a kafka:// URL carries no secrets: leave {name}= out and set {_instead(name)}")
        if name not in _KINDS:
            raise SettingsError(f"a kafka:// URL takes no {name!r}; known are prefix, {', '.join(sorted(_KINDS))}")
        if name in found:
            raise SettingsError(f"{name}= stands twice in the kafka:// URL; leave one out")
        found[name] = _value(name, text)
    base = given or KafkaSettings()
    if "security" not in found and base.security is Security.PLAINTEXT:
        found |= _implied(found)
    for name, variable in SECRETS.items():
        if not getattr(base, name) and not getattr(base, f"{name}_file") and _wants(name, base, found):
            found |= _secret(name, variable, environ)
    return replace(base, **found) if found else base


def _implied(found: Mapping[str, Any]) -> dict[str, Security]:
    if "user" in found:
        return {"security": Security.SASL_SSL}
    return {"security": Security.SSL} if found.keys() & {"ca_file", "certificate_file"} else {}


def _wants(secret: str, base: KafkaSettings, found: Mapping[str, Any]) -> bool:
    if secret == "key_password":  # noqa: S105 - the name of a field
        return bool(found.get("certificate_file", base.certificate_file)) and not found.get("key_password_file")
    return bool(found.get("user", base.user)) and not found.get("password_file", base.password_file)


def _secret(name: str, variable: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the secret of a variable, or the file that `<variable>_FILE` names; empty counts as not set."""
    text, path = environ.get(variable, ""), environ.get(f"{variable}_FILE", "")
    if text and path:
        raise SettingsError(f"{variable} and {variable}_FILE are both set: unset one of them")
    return ({name: text} if text else {}) | ({f"{name}_file": path} if path else {})


def _instead(secret: str) -> str:
    return f"password_file= or {SECRETS[secret]}" if secret == "password" else SECRETS[secret]  # noqa: S105 - likewise


def _value(name: str, text: str) -> Any:
    kind = _KINDS[name]
    try:
        if issubclass(kind, StrEnum):
            return _member(kind, text)
        return kind(text)
    except ValueError as error:
        wanted = ", ".join(kind) if issubclass(kind, StrEnum) else {int: "a whole number", float: "a number"}[kind]
        raise SettingsError(f"{name}={text!r} in the kafka:// URL cannot be used; wanted is {wanted}") from error


def _member(kind: type[StrEnum], text: str) -> StrEnum:
    plain = {one.value.replace("-", "_"): one for one in kind}
    found = plain.get(text.upper().replace("-", "_"))
    if found is None:
        raise ValueError(text)
    return found
