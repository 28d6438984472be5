"""Say how long the machines run: the same few examples every time, or as many as SAGA_MACHINES asks for."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, settings

# How many times as many examples as usual; above 1 they are drawn anew each time.
SCALE = int(os.environ.get("SAGA_MACHINES", "1"))


def profile(
    examples: int, steps: int = 30, phases: Sequence[Phase] = (Phase.explicit, Phase.generate, Phase.shrink)
) -> settings:
    """Return the settings of one machine."""
    return settings(
        max_examples=examples * SCALE,
        stateful_step_count=steps,
        derandomize=SCALE == 1,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
        phases=phases,
        print_blob=False,
    )
