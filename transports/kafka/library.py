"""Import aiokafka: the only file that does.

It carries no usable types, so everything of it is Any; the facades next to this file (producer,
consumer, admin) are typed, bound every wait and raise our errors. They lean on a few private names of
aiokafka 0.14 where the public ones wait for ever or hide a state; each use says why.
"""

from __future__ import annotations

from typing import Any

import aiokafka
import aiokafka.admin
import aiokafka.admin.config_resource
import aiokafka.conn
import aiokafka.coordinator.assignors.roundrobin
import aiokafka.coordinator.protocol
import aiokafka.errors
import aiokafka.protocol.admin
import aiokafka.protocol.fetch
import aiokafka.protocol.metadata

KAFKA: Any = aiokafka
ADMIN: Any = aiokafka.admin
RESOURCE: Any = aiokafka.admin.config_resource
ERRORS: Any = aiokafka.errors
FETCH: Any = aiokafka.protocol.fetch
CONNECTIONS: Any = aiokafka.conn
CONSUMERS: Any = aiokafka.coordinator.protocol.ConsumerProtocol
ROUND_ROBIN: Any = aiokafka.coordinator.assignors.roundrobin.RoundRobinPartitionAssignor
# What a broker says to a static member whose place another one has taken; the library knows no such code.
FENCED_INSTANCE_ID = 82
ERRORS.kafka_errors.setdefault(
    FENCED_INSTANCE_ID, type("FencedInstanceIdError", (ERRORS.BrokerResponseError,), {"errno": FENCED_INSTANCE_ID})
)
ASK_BROKERS: Any = aiokafka.protocol.metadata.MetadataRequest
ASK_MECHANISMS: Any = aiokafka.protocol.admin.SaslHandShakeRequest
