"""Settings come from the environment and from files; whatever is wrong names its variable; nothing shows a password."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saga import SettingsError
from saga._http import Address
from saga._masking import masked_url
from saga.cli.commands import app
from saga.cli.configuring import services_or_set
from saga.settings import LogFormat, LogLevel, Origin, Settings, Source, read_settings

POSTGRES = "postgresql://orders@db/orders"


def test_nothing_set_is_all_defaults() -> None:
    reading = read_settings({})
    assert reading.settings == Settings()
    assert (reading.settings.store_url, reading.settings.coordinator_url) == ("", "")
    assert set(reading.origins.values()) == {Origin(source=Source.DEFAULT)}


def test_variables_are_read_and_empty_ones_count_as_not_set() -> None:
    reading = read_settings(
        {
            "SAGA_STORE": "sqlite:///one.db",
            "SAGA_SLOT": "",
            "SAGA_MIGRATE": "no",
            "SAGA_DRAIN_SECONDS": "2.5",
            "SAGA_LOG_LEVEL": "WARNING",
            "SAGA_LOG_FORMAT": "json",
            "SAGA_HEALTH": "8080",
            "SAGA_CONSOLE": "[::1]:8081",
        }
    )
    found = reading.settings
    assert (found.store, found.slot, found.migrate, found.drain_seconds) == ("sqlite:///one.db", "0", False, 2.5)
    assert (found.log_level, found.log_format) == (LogLevel.WARNING, LogFormat.JSON)
    assert found.health == Address(host="127.0.0.1", port=8080)
    assert found.console == Address(host="::1", port=8081)
    assert reading.origins["store"] == Origin(source=Source.VARIABLE, name="SAGA_STORE")
    assert reading.origins["slot"].source is Source.DEFAULT


def test_an_option_goes_before_its_variable() -> None:
    reading = read_settings(
        {"SAGA_STORE": "sqlite:///one.db", "SAGA_SLOT": "3"}, {"store": "sqlite:///two.db", "slot": None}
    )
    assert (reading.settings.store, reading.settings.slot) == ("sqlite:///two.db", "3")
    assert reading.origins["store"] == Origin(source=Source.OPTION, name="--store")


def test_a_url_and_a_password_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{POSTGRES}\n")
    (tmp_path / "password").write_text("p@ss/w:rd\n")
    reading = read_settings(
        {"SAGA_STORE_FILE": str(tmp_path / "url"), "SAGA_STORE_PASSWORD_FILE": str(tmp_path / "password")}
    )
    assert reading.settings.store_url == "postgresql://orders:p%40ss%2Fw%3Ard@db/orders"
    assert reading.origins["store"] == Origin(source=Source.FILE, name="SAGA_STORE_FILE", path=str(tmp_path / "url"))


def test_the_coordinator_has_a_database_of_its_own_or_that_of_the_services() -> None:
    assert read_settings({"SAGA_STORE": POSTGRES}).settings.coordinator_url == POSTGRES
    own = {
        "SAGA_STORE": POSTGRES,
        "SAGA_COORDINATOR_STORE": "postgresql://saga@db/saga",
        "SAGA_COORDINATOR_STORE_PASSWORD": "x",
    }
    assert read_settings(own).settings.coordinator_url == "postgresql://saga:x@db/saga"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SAGA_DRAIN_SECONDS": "-1"}, "SAGA_DRAIN_SECONDS='-1' cannot be used: write seconds above 0, such as 30"),
        ({"SAGA_MIGRATE": "perhaps"}, "SAGA_MIGRATE='perhaps' cannot be used: write yes or no"),
        ({"SAGA_LOG_LEVEL": "loud"}, "SAGA_LOG_LEVEL='loud' cannot be used: write one of debug, info"),
        ({"SAGA_HEALTH": "here"}, "SAGA_HEALTH='here' cannot be used: write host:port"),
        ({"SAGA_HEALTH": "1.2.3.4:99999"}, "SAGA_HEALTH="),
        ({"SAGA_SLOT": "a b"}, "SAGA_SLOT='a b' cannot be used"),
        ({"SAGA_STORE": "mysql://u:hunter2@h/d"}, "SAGA_STORE: a database URL with scheme 'mysql' cannot be used"),
        ({"SAGA_TRANSPORT": "kafka://nowhere"}, "SAGA_TRANSPORT: kafka:// needs host:port"),
        ({"SAGA_STORE": POSTGRES, "SAGA_STORE_FILE": "x"}, "SAGA_STORE and SAGA_STORE_FILE are both set"),
        ({"SAGA_STORE_FILE": "/nowhere"}, "SAGA_STORE_FILE=/nowhere cannot be read: No such file"),
        ({"SAGA_SLOT_FILE": "x"}, "SAGA_SLOT_FILE is set, but that is no secret: set SAGA_SLOT itself"),
        ({"SAGA_STORE_PASSWORD": "x"}, "SAGA_STORE_PASSWORD is set, but SAGA_STORE is not"),
        ({"SAGA_STORE": "sqlite:///a.db", "SAGA_STORE_PASSWORD": "x"}, "SAGA_STORE is no postgresql:// URL"),
        ({"SAGA_STORE": "postgresql://db/orders", "SAGA_STORE_PASSWORD": "x"}, "SAGA_STORE names no user"),
        ({"SAGA_STORE": "postgresql://u:p@db/o", "SAGA_STORE_PASSWORD": "x"}, "SAGA_STORE has a password already"),
    ],
)
def test_what_cannot_be_used_names_its_variable_and_says_what_to_write(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(environ)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsError, match=r"SAGA_SLOT.*; SAGA_PARTITIONS") as caught:
        read_settings({"SAGA_PARTITIONS": "0", "SAGA_SLOT": ""} | {"SAGA_SLOT": "/"})
    assert "write a whole number above 0" in str(caught.value)


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SettingsError, match="is empty: write the value into it"):
        read_settings({"SAGA_STORE_FILE": str(tmp_path / "empty")})


def test_names_that_are_almost_right_are_pointed_out_and_others_left_alone() -> None:
    environ = {
        "SAGA_STOER": "x",
        "saga_slot": "1",
        "SAGA_KAFKA_URL": "x",
        "SAGA_TEST_KAFKA": "x",
        "SAGA_STORE_FIEL": "x",
    }
    assert read_settings(environ).warnings == (
        "SAGA_STOER is no setting and is ignored: did you mean SAGA_STORE?",
        "SAGA_STORE_FIEL is no setting and is ignored: did you mean SAGA_STORE_FILE?",
        "saga_slot is no setting and is ignored: did you mean SAGA_SLOT?",
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h/d", "postgresql://u:***@h/d"),
        ("postgresql+asyncpg://u:se/c@ret@h/d?x=1", "postgresql+asyncpg://u:***@h/d?x=1"),
        ("postgresql://h/d?user=u&password=secret", "postgresql://h/d?user=u&password=***"),
        ("kafka://h:9092?user=u&password_file=/run/p", "kafka://h:9092?user=u&password_file=/run/p"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
        ("sqlite:////srv/one.db", "sqlite:////srv/one.db"),
        ("memory://", "memory://"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert masked_url(url) == shown


def test_settings_show_no_password() -> None:
    settings = read_settings({"SAGA_STORE": "postgresql://u:hunter2@h/d", "SAGA_KAFKA_PASSWORD": "hunter2"}).settings
    assert "hunter2" not in f"{settings!r} {settings}"
    assert "postgresql://u:***@h/d" in repr(settings)


# --- saga config ------------------------------------------------------------------------------------------------


def config(*arguments: str, **environ: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["config", *arguments], env=environ)
    return done.exit_code, done.output


def test_config_prints_what_is_in_force_and_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://u:hunter2@h/d")
    code, said = config(SAGA_STORE_FILE=str(tmp_path / "url"), SAGA_SLOT="4", SAGA_STOER="x")
    assert code == 0
    assert "warning: SAGA_STOER is no setting and is ignored: did you mean SAGA_STORE?" in said
    lines = {line.split()[0]: line.split()[1:] for line in said.splitlines()}
    assert lines["SAGA_STORE"] == ["postgresql://u:***@h/d", str(tmp_path / "url"), "(SAGA_STORE_FILE)"]
    assert lines["SAGA_SLOT"] == ["4", "environment"]
    assert lines["SAGA_MIGRATE"] == ["yes", "default"]
    assert "hunter2" not in said


def test_config_prints_json() -> None:
    code, said = config("--json", SAGA_STORE_PASSWORD="hunter2", SAGA_STORE=POSTGRES, SAGA_HEALTH="8080")
    assert code == 0
    rows = {row["variable"]: row for row in map(json.loads, said.splitlines())}
    assert rows.keys() == {f"SAGA_{name.upper()}" for name in Settings.model_fields}
    assert rows["SAGA_STORE_PASSWORD"]["value"] == "***"
    assert rows["SAGA_HEALTH"]["value"] == "127.0.0.1:8080"
    assert rows["SAGA_STORE"] == {
        "variable": "SAGA_STORE",
        "setting": "store",
        "value": POSTGRES,
        "source": "variable",
        "from": "SAGA_STORE",
        "path": "",
    }
    assert (rows["SAGA_PARTITIONS"]["value"], rows["SAGA_MIGRATE"]["value"]) == (8, True)


def test_config_exits_2_when_something_cannot_be_used() -> None:
    code, said = config(SAGA_PARTITIONS="many")
    assert (code, "SAGA_PARTITIONS='many' cannot be used" in said) == (2, True)


def test_verbs_take_their_databases_from_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text(f"sqlite:///{tmp_path / 'none.db'}")
    environ = {"SAGA_STORE_FILE": str(tmp_path / "url")}
    done = CliRunner().invoke(app, ["dlq", "ls"], env=environ)
    assert (done.exit_code, "none.db" in done.output) == (2, True)
    away = {"SAGA_STORE": f"sqlite:///{tmp_path / 'c.db'}", "SAGA_PARTITIONS": "x", "COLUMNS": "120"}
    done = CliRunner().invoke(app, ["explain", "saga-1", "--store", "sqlite:///c.db"], env=away)
    assert (done.exit_code, "SAGA_PARTITIONS='x' cannot be used" in done.output) == (2, True)
    assert services_or_set(["sqlite:///a.db"]) == ["sqlite:///a.db"]
    monkeypatch.setenv("SAGA_SERVICE_STORES", "sqlite:///a.db sqlite:///b.db")
    assert services_or_set(None) == ["sqlite:///a.db", "sqlite:///b.db"]
    monkeypatch.delenv("SAGA_SERVICE_STORES")
    done = CliRunner().invoke(app, ["dlq", "ls"], env={"COLUMNS": "120"})
    assert (done.exit_code, "name a URL, or set SAGA_STORE" in done.output) == (2, True)
