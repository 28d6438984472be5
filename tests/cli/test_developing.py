"""`saga dev` runs everything in one process, and anew when the source changes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.abc import SocketStream
from typer.testing import CliRunner

from saga.cli.commands import app
from saga.cli.developing import settings_for
from saga.cli.reloading import Reloader, changed, marks_of, source_of
from saga.cli.scaffolding import write_project
from saga.cli.targets import BadTarget
from saga.settings import read_settings
from tests.cli.processes import read_until, running, told

ORDER = 'order.placed={"order_id": "o-1", "sku": "book", "cents": 900}'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write a project and be in its folder; what is imported of it is forgotten."""
    folder = write_project("web-shop", tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "web_shop"]:
        del sys.modules[name]


def test_it_runs_a_saga_shows_it_and_starts_anew_when_the_source_changes(project: Path) -> None:
    arguments = ["--console", "127.0.0.1:0", "--health", "127.0.0.1:0", "--start", ORDER]
    with running("dev", "web_shop.services:services", *arguments) as process:
        health = read_until(process, "answers /livez and /readyz").split("http://")[1].split()[0]
        at = read_until(process, "dev: console:").split("http://")[1].strip()
        started = read_until(process, "has started").split()[2]
        read_until(process, f"saga {started} is completed")
        assert httpx.get(f"http://{health}/livez").status_code == 200
        assert started[:8] in httpx.get(f"http://{at}/sagas").text

        source = project / "web_shop" / "services.py"
        source.write_text(source.read_text() + "\n\nnothing = None\n")
        read_until(process, "web_shop/services.py has changed")
        again = read_until(process, "has started").split()[2]
        assert again != started
        read_until(process, f"saga {again} is completed")

        source.write_text(source.read_text() + "this is no Python\n")
        assert "SyntaxError" in read_until(process, "error:")
        read_until(process, "the next change starts it again")
        source.write_text(source.read_text().removesuffix("this is no Python\n"))
        read_until(process, "has started")
        assert told(process) == 0
    assert (project / ".saga" / "dev.db").is_file()
    assert (project / ".saga" / ".gitignore").read_text() == "*\n"


def test_who_is_killed_leaves_nothing_running(project: Path) -> None:
    with running("dev", "web_shop.services:services", "--console", "127.0.0.1:0") as process:
        read_until(process, "dev: console:")
        process.kill()
        assert process.stderr is not None
        assert "saga has stopped" in process.stderr.read()  # it ends where nobody holds it any more


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere:services"], "there is no module nowhere"),
        (["web_shop.services:services", "--no-reload", "--start", "order.lost={}"], "what does is order.placed"),
        (["web_shop.services:services", "--no-reload", "--start", "order.placed={}"], "order_id: Field required"),
        (["web_shop.services:services", "--no-reload", "--start", "order.placed=x"], "the JSON: Invalid JSON"),
    ],
)
def test_what_is_wrong_is_said_and_exits_2(project: Path, arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["dev", *arguments], env={"COLUMNS": "200"})
    assert said in done.output
    assert done.exit_code == 2


def test_settings_that_are_there_are_kept(project: Path) -> None:
    mine = {
        "SAGA_STORE": "sqlite:///mine.db",
        "SAGA_TRANSPORT": "kafka://h:1",
        "SAGA_DRAIN_SECONDS": "9",
        "SAGA_PLANS": "p",
    }
    kept = settings_for(read_settings(mine))
    assert (kept.store, kept.transport, kept.drain_seconds) == ("sqlite:///mine.db", "kafka://h:1", 9.0)
    assert kept.plans == ""  # they are made from the code
    assert not (project / ".saga").exists()
    shared = settings_for(read_settings({"SAGA_STORE": "sqlite:///:memory:"}))
    assert shared.store_url == shared.coordinator_url == "sqlite:///:memory:?name=dev"
    assert settings_for(read_settings({})).transport == "memory://"
    assert (settings_for(read_settings({})).console is not None) is (find_spec("starlette") is not None)


# --- watching -----------------------------------------------------------------------------------------------------


def test_source_is_watched_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a.py", "deep/b.sql", "c.txt", ".hidden/d.py", "__pycache__/e.py", "env/f.py", "env/pyvenv.cfg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert {str(path.relative_to(tmp_path)) for path in marks_of(tmp_path)} == {"a.py", "deep/b.sql"}


def test_a_change_is_a_file_that_is_new_or_gone_or_newer() -> None:
    one, two = Path("one.py"), Path("two.py")
    assert changed({one: 1}, {one: 1}) is None
    assert changed({one: 1}, {one: 2}) == one
    assert changed({one: 1}, {one: 1, two: 1}) == two
    assert changed({one: 1, two: 1}, {one: 1}) == two


def test_the_source_of_a_package_and_of_a_module(project: Path) -> None:
    assert source_of("web_shop.services:services") == project / "web_shop"
    (project / "alone.py").touch()
    assert source_of("alone:services") == project
    with pytest.raises(BadTarget, match="run from the folder it lies in"):
        source_of("nowhere.at.all:services")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_program_runs_until_its_source_changes_and_stops_when_told(tmp_path: Path, anyio_backend: str) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra_attributes[anyio.abc.SocketAttribute.local_port]()
    script = f"import signal, socket; s = socket.create_connection(('127.0.0.1', {port})); signal.pause()"
    said: list[str] = []
    reloader = Reloader(command=[sys.executable, "-c", script], folder=tmp_path, say=said.append, look_seconds=0.01)
    starts, starting = anyio.create_memory_object_stream[SocketStream](10)
    codes: list[int] = []

    async def watch() -> None:
        codes.append(await reloader.run())

    async with listener, starts, starting, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, starts.send)
        tasks.start_soon(watch)
        first = await starting.receive()
        (tmp_path / "new.py").touch()
        second = await starting.receive()
        with pytest.raises(anyio.EndOfStream):
            await first.receive()  # it is gone
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(anyio.EndOfStream):
            await second.receive()
        await first.aclose()
        await second.aclose()
        tasks.cancel_scope.cancel()
    assert said == [f"{tmp_path / 'new.py'} has changed"]
