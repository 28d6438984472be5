from __future__ import annotations

import base64
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.testbed.server import LOOPBACK, LocalServer, ServerFailed, accepts, free_port, run_apart

POM = Path(__file__).parent / "kafka" / "pom.xml"
JVM = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN"]

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
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


def cache() -> Path:
    """Return the directory outside the checkout which keeps what is fetched once."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "saga-testbed"


def jars_directory() -> Path:
    """Return where the jars of the present `pom.xml` lie, or will lie."""
    return cache() / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"


def fetch_jars() -> Path:
    """Fetch Kafka's jars with Maven unless they are there; two sessions at once do not disturb each other."""
    target = jars_directory()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fresh = Path(scratch) / "jars"
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
        run(["mvn", "-q", "-B", "-f", str(POM), *goal], "fetching Kafka's jars")
        try:
            fresh.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target


def run(command: list[str], what: str) -> None:
    """Run a command to its end; its output is shown only when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerFailed(f"{what} failed:\n{(done.stdout + done.stderr)[-3000:]}")


def kafka_answers(bootstrap: str) -> bool:
    """Tell whether a broker is registered and serves metadata."""
    host, _, port = bootstrap.split(",", maxsplit=1)[0].rpartition(":")
    if not accepts(host, int(port)):
        return False  # the client would log an error for every try
    logger = logging.getLogger("aiokafka")
    before, logger.disabled = logger.disabled, True
    try:
        return run_apart(lambda: _has_broker(bootstrap))
    finally:
        logger.disabled = before


async def _has_broker(bootstrap: str) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()


def cluster_id() -> str:
    """Return a new cluster ID; one that begins with a dash would be read as an option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        continue
    return made


class LocalKafka(LocalServer):
    """One Kafka broker (KRaft) in a JVM of its own; `bootstrap` stays the same across restarts."""

    name = "kafka"

    def __init__(self, port: int | None = None) -> None:
        super().__init__()
        self.port = port or free_port()
        self.bootstrap = f"{LOOPBACK}:{self.port}"
        self._properties = self.scratch / "server.properties"
        try:
            self._jars = fetch_jars()
            self._format()
        except BaseException:
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise

    def command(self) -> list[str]:
        return [*self._java(), "kafka.Kafka", str(self._properties)]

    def ready(self) -> bool:
        return kafka_answers(self.bootstrap)

    def _java(self) -> list[str]:
        return ["java", *JVM, "-cp", f"{self._jars}/*"]

    def _format(self) -> None:
        text = PROPERTIES.format(port=self.port, controller_port=free_port(), data=self.scratch / "data")
        self._properties.write_text(text)
        cluster = cluster_id()
        arguments = ["format", "-t", cluster, "-c", str(self._properties)]
        run([*self._java(), "kafka.tools.StorageTool", *arguments], "formatting Kafka's storage")
