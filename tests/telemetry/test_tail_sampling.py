"""The tail sampling that compose/ offers goes by what the spans say; test_jaeger.py tries it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
POLICIES: list[dict[str, Any]] = yaml.safe_load((COMPOSE / "jaeger-tail-sampling.yaml").read_text())["processors"][
    "tail_sampling"
]["policies"]


def test_it_stands_beside_the_file_it_changes() -> None:
    usual = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    ((name, changed),) = yaml.safe_load((COMPOSE / "tail-sampling.yaml").read_text())["services"].items()
    assert name in usual
    ((source, target, _),) = (volume.split(":") for volume in changed["volumes"])
    assert (COMPOSE / source).is_file()
    assert target == changed["command"][-1]


@pytest.mark.parametrize(
    "policy", [each for each in POLICIES if "string_attribute" in each], ids=lambda each: each["name"]
)
def test_what_it_looks_for_is_what_spans_have(policy: dict[str, Any]) -> None:
    code = "".join(path.read_text() for path in (ROOT / "saga").glob("_*/*.py"))
    wanted = policy["string_attribute"]
    assert f'"{wanted["key"]}"' in code
    assert all(f'"{value}"' in code for value in wanted["values"])
