"""Start a Kafka broker with every kind of listener: plain, TLS with client certificates, SASL with or without TLS."""

from __future__ import annotations

import shutil
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from tests.testbed.broker import JVM, cluster_id, fetch_jars, kafka_answers, run
from tests.testbed.certificates import authority, issued
from tests.testbed.server import LOOPBACK, LocalServer, free_port, run_apart

PASSWORDS = {"alice": "alice-secret", "bob": "bob-secret", "carol": "carol-secret"}
# Kafka's numbers in an ACL.
TOPIC, LITERAL, DESCRIBE, ALLOW = 2, 3, 8, 3
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl_tls},\
SASL_PLAINTEXT://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl_tls},\
SASL_PLAINTEXT://127.0.0.1:{sasl}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,\
SASL_PLAINTEXT:SASL_PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={broker_file}
ssl.truststore.type=PEM
ssl.truststore.location={ca_file}
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config={plain_users}
listener.name.sasl_plaintext.plain.sasl.jaas.config={plain_users}
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram_users}
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram_users}
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config={scram_users}
listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:alice;User:carol
default.replication.factor=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
min.insync.replicas=1
offsets.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.dirs={data}
"""


class LocalSecureKafka(LocalServer):
    """One broker; alice and carol may do everything, bob nothing that no ACL allows; `plain` is for its keeper.

    `tls` wants the certificate in `client_file`. `ca_file` is whom to trust, `other_ca_file` somebody else.
    """

    name = "kafka"

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.tls, self.sasl_tls, self.sasl, controller_port = (free_port() for _ in range(5))
        ours = authority(self.scratch, "ca")
        self.ca_file = ours.file
        self.other_ca_file = authority(self.scratch, "other-ca").file
        self.client_file = issued(self.scratch, ours, "client")
        self._properties = self.scratch / "server.properties"
        module = "org.apache.kafka.common.security"
        users = " ".join(f'user_{name}="{password}"' for name, password in PASSWORDS.items())
        self._properties.write_text(
            PROPERTIES.format(
                plain=self.plain,
                tls=self.tls,
                sasl_tls=self.sasl_tls,
                sasl=self.sasl,
                controller_port=controller_port,
                broker_file=issued(self.scratch, ours, "broker", LOOPBACK),
                ca_file=self.ca_file,
                plain_users=f"{module}.plain.PlainLoginModule required {users};",
                scram_users=f"{module}.scram.ScramLoginModule required;",
                data=self.scratch / "data",
            )
        )
        try:
            self._jars = fetch_jars()
            scram = [f"{way}=[name={name},password={word}]" for name, word in PASSWORDS.items() for way in SCRAM]
            given = [argument for one in scram for argument in ("--add-scram", one)]
            arguments = ["format", "-t", cluster_id(), "-c", str(self._properties), *given]
            run([*self._java(), "kafka.tools.StorageTool", *arguments], "formatting Kafka's storage")
        except BaseException:
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise

    def command(self) -> list[str]:
        return [*self._java(), "kafka.Kafka", str(self._properties)]

    def ready(self) -> bool:
        return kafka_answers(f"{LOOPBACK}:{self.plain}")

    def change_password(self, user: str, password: str) -> None:
        """Give a user another password for PLAIN; it counts when the broker starts again."""
        text = self._properties.read_text()
        self._properties.write_text(text.replace(f'user_{user}="{PASSWORDS[user]}"', f'user_{user}="{password}"'))

    def allow_describe(self, user: str, topic: str) -> None:
        """Let a user see that a topic is there."""

        async def add() -> None:
            admin: Any = AIOKafkaAdminClient(bootstrap_servers=f"{LOOPBACK}:{self.plain}")
            try:
                await admin.start()
                rule = CreateAclsRequest(TOPIC, topic, LITERAL, f"User:{user}", "*", DESCRIBE, ALLOW)
                answer: Any = await admin._send_to_controller(rule)
                assert [row[0] for row in answer.creation_responses] == [0]
            finally:
                await admin.close()

        run_apart(add)

    def _java(self) -> list[str]:
        return ["java", *JVM, "-cp", f"{self._jars}/*"]
