from __future__ import annotations

import docker
from docker.errors import DockerException
from docker.models.containers import Container
from testcontainers.core.container import DockerContainer

from tests.testbed.broker import kafka_answers
from tests.testbed.cluster import postgres_answers
from tests.testbed.server import ServerFailed, free_port, wait_until

KAFKA_IMAGE = "apache/kafka:4.1.1"
POSTGRES_IMAGE = "postgres:17"
START_SECONDS = 120.0


def engine_version() -> str | None:
    """Return the version of the Docker engine, or None if none answers."""
    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return None
    try:
        return str(client.version().get("Version", "unknown"))
    except (DockerException, OSError):
        return None
    finally:
        client.close()


class ContainerServer:
    """A server in Docker with the same control as a local one; its host port stays the same across restarts."""

    def __init__(self, container: DockerContainer, inner_port: int) -> None:
        self.host = container.get_container_host_ip()
        self.port = free_port()
        self.container = container.with_bind_ports(inner_port, self.port)
        self._created = False

    def ready(self) -> bool:
        """Tell whether clients are served."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the container and wait until it serves clients."""
        if self._created:
            self._inner().start()
        else:
            self.container.start()
            self._created = True
        if not wait_until(self.ready, START_SECONDS):
            raise ServerFailed(f"{self.container.image} does not answer after {START_SECONDS:.0f} s")

    def stop(self) -> None:
        """End the server in order and keep its data."""
        self._inner().stop(timeout=20)

    def stop_immediate(self) -> None:
        """End the server as a crash would, and keep its data."""
        self._inner().kill()
        self._inner().wait(timeout=20)

    def restart(self) -> None:
        """Stop in order, then start on the same port and data."""
        self.stop()
        self.start()

    def restart_immediate(self) -> None:
        """Crash, then start on the same port and data."""
        self.stop_immediate()
        self.start()

    def close(self) -> None:
        """Remove the container."""
        if self._created:
            self.container.stop()

    def _inner(self) -> Container:
        return self.container.get_wrapped_container()


class ContainerKafka(ContainerServer):
    """One Kafka broker (KRaft) in Docker."""

    def __init__(self) -> None:
        super().__init__(DockerContainer(KAFKA_IMAGE), 9092)
        self.bootstrap = f"{self.host}:{self.port}"
        settings = {
            "NODE_ID": "1",
            "PROCESS_ROLES": "broker,controller",
            "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "ADVERTISED_LISTENERS": f"PLAINTEXT://{self.bootstrap}",
            "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
            "LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "AUTO_CREATE_TOPICS_ENABLE": "false",
        }
        for name, value in settings.items():
            self.container.with_env(f"KAFKA_{name}", value)

    def ready(self) -> bool:
        return kafka_answers(self.bootstrap)


class ContainerPostgres(ContainerServer):
    """A PostgreSQL cluster in Docker, with durable commits."""

    def __init__(self) -> None:
        super().__init__(DockerContainer(POSTGRES_IMAGE), 5432)
        self.url = f"postgresql://postgres:postgres@{self.host}:{self.port}/postgres"
        self.container.with_env("POSTGRES_PASSWORD", "postgres")
        self.container.with_command("postgres -c max_connections=200")

    def ready(self) -> bool:
        return postgres_answers(self.url)
