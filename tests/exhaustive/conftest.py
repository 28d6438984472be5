"""Print what was explored at the end of the run."""

from __future__ import annotations

import pytest

from tests.exhaustive.summary import LINES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each exploration and each mutant."""
    if LINES:
        terminalreporter.write_sep("-", "exhaustive exploration")
        for line in LINES:
            terminalreporter.write_line(line)
