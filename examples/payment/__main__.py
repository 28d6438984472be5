"""Run the payment example: `python -m examples.payment demo`, or any of its processes."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from dataclasses import replace

import anyio

from examples.payment.heartbeat import is_alive
from examples.payment.settings import Settings, settings

SERVICE_NAMES = ("orders", "inventory", "payment", "shipping")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(prog="python -m examples.payment", description=__doc__)
    top.add_argument("--verbose", action="store_true", help="show what the framework logs")
    roles = top.add_subparsers(dest="role", required=True)
    demo = roles.add_parser("demo", help="everything in one process, with everything that can go wrong")
    demo.add_argument("--plain", action="store_true", help="print lines even to a terminal")
    run = roles.add_parser("run", help="all processes over a Kafka and a PostgreSQL server")
    run.add_argument("--kafka", help="kafka://host:port (SAGA_KAFKA_URL)")
    run.add_argument("--postgres", help="postgresql://user@host:port/database (SAGA_POSTGRES_URL)")
    service = roles.add_parser("service", help="one service")
    service.add_argument("name", choices=SERVICE_NAMES)
    coordinator = roles.add_parser("coordinator", help="one coordinator")
    for replica in (service, coordinator):
        replica.add_argument("--slot", help="number of this replica (SAGA_SLOT)")
    place = roles.add_parser("place", help="place orders and wait for their ends")
    for ordering, count in ((run, 50), (place, 100)):
        ordering.add_argument("--count", type=int, default=count)
        ordering.add_argument("--seed", type=int, default=7)
    place.add_argument("--wait", type=float, default=120.0, help="seconds to wait for the ends")
    roles.add_parser("gateway", help="the payment gateway")
    roles.add_parser("init", help="create the databases")
    roles.add_parser("ledger", help="add everything up")
    roles.add_parser("health", help="tell whether the process of this container is alive")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    options = parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.ERROR, format="%(asctime)s %(name)s %(message)s"
    )
    if options.role == "demo":
        return _demo(plain=options.plain)
    if options.role == "health":
        return int(not is_alive(settings().heartbeat_file))
    return _role(options, _settings(options))


def _settings(options: argparse.Namespace) -> Settings:
    given = {
        "kafka_url": getattr(options, "kafka", None),
        "postgres_url": getattr(options, "postgres", None),
        "slot": getattr(options, "slot", None),
    }
    return replace(settings(), **{name: value for name, value in given.items() if value})


def _demo(*, plain: bool) -> int:
    from examples.payment.demo import demo, summary  # noqa: PLC0415 - the demo needs no Kafka, PostgreSQL or HTTP

    report = anyio.run(lambda: demo(live=False if plain else None))
    print("\n".join(summary(report)))
    return 0 if report.well else 1


def _role(options: argparse.Namespace, known: Settings) -> int:
    from examples.payment import distributed, ordering, roles  # noqa: PLC0415 - see _demo

    match options.role:
        case "run":
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # its processes must end with it
            count, seed = options.count, options.seed
            return int(not anyio.run(lambda: distributed.run(known, count=count, seed=seed)))
        case "service":
            anyio.run(roles.serve_service, options.name, known)
        case "coordinator":
            anyio.run(roles.serve_coordinator, known)
        case "gateway":
            roles.serve_gateway(known)
        case "place":
            count, seed, wait = options.count, options.seed, options.wait
            return int(not anyio.run(lambda: ordering.place_orders(known, count=count, seed=seed, wait_seconds=wait)))
        case "init":
            anyio.run(roles.init, known)
        case _:
            return int(bool(anyio.run(roles.check_ledger, known)))
    return 0


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
