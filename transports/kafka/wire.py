"""Write a fetch request and read its answer (version 11) in one go.

The client library takes several calls for each number in them, and a service makes a request for every few events.
"""

from __future__ import annotations

import struct
from typing import Any, cast

from transports.kafka.library import FETCH

VERSION = 11
Parts = list[tuple[str, list[tuple[Any, ...]]]]
"""Topics with partitions: number, error, high watermark, last stable offset, log start, aborted, replica, bytes."""

_HEADER = struct.Struct(">hhih")
_FRONT = struct.Struct(">iiiibiii")
_NAME = struct.Struct(">h")
_NUMBER = struct.Struct(">i")
_PLACE = struct.Struct(">iiqqi")
_ANSWER = struct.Struct(">ihii")
_PARTITION = struct.Struct(">ihqqqi")
_ABORTED = struct.Struct(">qq")
_BYTES = struct.Struct(">ii")


class Header:
    """Be the header of a request, or of an answer, where only the number it answers counts."""

    def __init__(self, correlation_id: int, raw: bytes = b"") -> None:
        self.correlation_id = correlation_id
        self._raw = raw

    def encode(self) -> bytes:
        """Return the bytes."""
        return self._raw


class FetchAnswer(FETCH.FetchResponse_v11):  # type: ignore[misc] # the base is Any
    """Be the library's answer, read in one go."""

    @classmethod
    def decode(cls, data: Any) -> Any:
        """Read an answer from where the buffer stands; raises struct.error when it is cut off."""
        raw: bytes = data.getvalue()
        throttle_ms, error, session, count = _ANSWER.unpack_from(raw, data.tell())
        at = data.tell() + _ANSWER.size
        topics: Parts = []
        for _ in range(count):
            (length,) = _NAME.unpack_from(raw, at)
            at += _NAME.size + length
            name = raw[at - length : at].decode()
            (several,) = _NUMBER.unpack_from(raw, at)
            at += _NUMBER.size
            partitions: list[tuple[Any, ...]] = []
            for _ in range(several):
                partition, at = _partition(raw, at)
                partitions.append(partition)
            topics.append((name, partitions))
        return cls(throttle_ms, error, session, topics)


def _partition(raw: bytes, at: int) -> tuple[tuple[Any, ...], int]:
    """Return what is said of one partition, and where the next one begins."""
    *front, count = _PARTITION.unpack_from(raw, at)
    at += _PARTITION.size
    aborted: list[tuple[int, int]] | None = None
    if count >= 0:
        aborted = [cast("tuple[int, int]", _ABORTED.unpack_from(raw, at + _ABORTED.size * i)) for i in range(count)]
        at += _ABORTED.size * count
    replica, length = _BYTES.unpack_from(raw, at)
    at += _BYTES.size
    records = None if length < 0 else raw[at : at + length]
    return (*front, aborted, replica, records), at + max(length, 0)


class FetchQuestion(FETCH.FetchRequest_v11):  # type: ignore[misc] # the base is Any
    """Be the library's request, written in one go."""

    RESPONSE_TYPE = FetchAnswer

    def build_request_header(self, correlation_id: int, client_id: str) -> Header:
        """Return the header in version 1."""
        name = client_id.encode()
        return Header(correlation_id, _HEADER.pack(self.API_KEY, VERSION, correlation_id, len(name)) + name)

    def parse_response_header(self, read_buffer: Any) -> Header:
        """Return the header of the answer in version 0."""
        return Header(_NUMBER.unpack(read_buffer.read(_NUMBER.size))[0])

    def encode(self) -> bytes:
        """Return the body."""
        found = [
            _FRONT.pack(
                self.replica_id,
                self.max_wait_time,
                self.min_bytes,
                self.max_bytes,
                self.isolation_level,
                self.session_id,
                self.session_epoch,
                len(self.topics),
            )
        ]
        for topic, partitions in self.topics:
            found += (_text(topic), _NUMBER.pack(len(partitions)), *[_PLACE.pack(*one) for one in partitions])
        found.append(_NUMBER.pack(len(self.forgotten_topics_data)))
        for topic, numbers in self.forgotten_topics_data:
            found += (_text(topic), _NUMBER.pack(len(numbers)), *[_NUMBER.pack(one) for one in numbers])
        found.append(_text(self.rack_id))
        return b"".join(found)


def _text(text: str) -> bytes:
    raw = text.encode()
    return _NAME.pack(len(raw)) + raw
