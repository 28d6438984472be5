"""Carry messages over Kafka; needs the extra `[kafka]`."""

from __future__ import annotations

from transports.kafka.query import settings_of
from transports.kafka.settings import KafkaSettings, Mechanism, Security
from transports.kafka.transport import KafkaTransport

__all__ = ["KafkaSettings", "KafkaTransport", "Mechanism", "Security", "settings_of"]
