from __future__ import annotations

from typing import Any

import aiokafka.partitioner
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga._core.partition import murmur2, partition_of

ORACLE: Any = aiokafka.partitioner
# From org.apache.kafka.common.utils.UtilsTest#testMurmur2 (signed there).
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), JAVA.items())
def test_murmur2_is_javas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


@given(st.binary(max_size=70), st.integers(1, 5000))
def test_murmur2_is_the_client_librarys(key: bytes, partitions: int) -> None:
    theirs = ORACLE.murmur2(key)
    assert murmur2(key) == theirs
    assert partition_of(key, partitions) == (theirs & 0x7FFFFFFF) % partitions
