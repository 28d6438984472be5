"""Serve the page, its saga and the coordinator in one process: `python -m examples.approval [port] [folder]`."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from examples.approval.travel import SERVICES
from examples.approval.web import travel_web
from saga.app import App, Coordinator


def serve(port: str = "8902", folder: str = ".") -> None:
    """Serve until SIGTERM or SIGINT; what waits for a person is in `folder`/travel.db, and is there after a restart."""
    database = Path(folder) / "travel.db"
    app = App(SERVICES, store=f"sqlite:///{database}", transport="memory://", coordinator=Coordinator())
    uvicorn.run(travel_web(app, database), port=int(port))


if __name__ == "__main__":
    serve(*sys.argv[1:3])
