"""Run the command as `python -m saga.cli`."""

from __future__ import annotations

from saga.cli import main

main()
