from __future__ import annotations

import pytest

from saga.testing import ASYNCIO, trio_backend
from tests.testing.shop import Shop


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, object]:
    """Run asynchronous tests in virtual time, on both libraries."""
    return ASYNCIO if request.param == "asyncio" else trio_backend()


@pytest.fixture
def shop() -> Shop:
    return Shop()
