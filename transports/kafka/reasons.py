"""Say in words why a connection to a broker failed and what to change; pure."""

from __future__ import annotations

import asyncio
import socket
import ssl

from saga.errors import TransportError, TransportRefused, TransportUnavailable
from transports.kafka.settings import KafkaSettings

# What OpenSSL calls them; `ssl` has no names for these.
_NOT_YET_VALID, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64
# The first two bytes of a TLS record, which a Kafka client takes for the length of an answer.
_TLS_RECORDS = range(0x1500, 0x1704)
_HTTP = int.from_bytes(b"HTTP", "big")


def explained(address: str, error: BaseException, settings: KafkaSettings) -> TransportError:
    """Return the failure of one connection: refused where only a change of settings can mend it."""
    match type(error).__name__:
        case "SaslAuthenticationFailed":
            return TransportRefused(
                f"wrong password for user {settings.user!r} at {address}, or no such user for {settings.mechanism}: "
                f"change {'password_file' if settings.password_file else 'password'}, user or mechanism"
            )
        case "UnsupportedSaslMechanismError":
            return TransportRefused(
                f"the listener at {address} does not offer {settings.mechanism}: "
                "set mechanism to one of its sasl.enabled.mechanisms"
            )
        case "IllegalSaslStateError":
            without = "SSL" if settings.with_tls else "PLAINTEXT"
            return TransportRefused(
                f"the listener at {address} takes no user and password: "
                f"set security={without} without a user, or connect to the port of its SASL listener"
            )
        case _:
            return _tls(address, error, settings) or _network(address, error)


def wants_password(address: str, settings: KafkaSettings) -> TransportError:
    """Return the failure of a client without a user at a listener that asks for one."""
    security = "SASL_SSL" if settings.with_tls else "SASL_PLAINTEXT"
    return TransportRefused(f"the listener at {address} wants a user and a password: set security={security} and user")


def speaks_no_tls(address: str, settings: KafkaSettings) -> TransportError:
    """Return the failure of a TLS client at a listener without TLS."""
    security = "SASL_PLAINTEXT" if settings.with_password else "PLAINTEXT"
    return TransportRefused(
        f"the client speaks TLS, the listener at {address} does not: "
        f"connect to the port of its TLS listener, or set security={security}"
    )


def advertised(bootstrap: str, address: str, failure: TransportError) -> TransportError:
    """Return the failure of an address that only the brokers themselves have named."""
    hint = "if it is not to be reached from here, change advertised.listeners of that broker"
    return type(failure)(f"a broker, found through {bootstrap}, calls itself {address}: {failure}; {hint}")


def _tls(address: str, error: BaseException, settings: KafkaSettings) -> TransportError | None:
    inner = error.__cause__ or error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return TransportRefused(_certificate(address, inner, settings))
    if isinstance(inner, ssl.SSLError) and "ALERT" in str(inner):
        named = settings.certificate_file
        told = f"{address} does not accept the client certificate in {named!r}" if named else ""
        told = told or f"{address} wants a client certificate: set certificate_file and key_file"
        return TransportRefused(f"{told} ({inner.reason})")
    if isinstance(inner, asyncio.IncompleteReadError) and inner.expected is not None:
        if inner.expected >> 16 in _TLS_RECORDS:
            security = "SASL_SSL" if settings.with_password else "SSL"
            return TransportRefused(
                f"the listener at {address} speaks TLS, the client does not: set security={security} and ca_file"
            )
        if inner.expected == _HTTP:
            return TransportRefused(f"at {address} is a web server, not Kafka: change the port")
    return None


def _certificate(address: str, error: ssl.SSLCertVerificationError, settings: KafkaSettings) -> str:
    why = error.verify_message.rstrip(".")
    match error.verify_code:
        case code if code in {_OTHER_HOST, _OTHER_ADDRESS}:
            return (
                f"the certificate of {address} is not for this host name ({why}): "
                "connect by a name the certificate carries, or give the broker one that carries this name"
            )
        case code if code in {_NOT_YET_VALID, _EXPIRED}:
            return f"the certificate of {address} is out of its time ({why}): renew it, or set the clock right"
        case _:
            by = repr(settings.ca_file) if settings.ca_file else "this machine's authorities"
            return (
                f"the certificate of {address} is not trusted by {by} ({why}): "
                "set ca_file to the certificate of the authority that signed it"
            )


def _network(address: str, error: BaseException) -> TransportError:
    if isinstance(error, socket.gaierror):
        return TransportUnavailable(f"the host name of {address} is not known here ({error.strerror})")
    if isinstance(error, ConnectionRefusedError):
        return TransportUnavailable(f"nothing listens at {address}")
    if isinstance(error, TimeoutError):
        return TransportUnavailable(f"{address} does not answer (a firewall, or a broker that hangs)")
    told = str(error.__cause__ or error) or type(error).__name__
    return TransportUnavailable(f"{address} closed the connection ({told})")
