"""Crash journal: records the batches being computed, to find and give up a query that kills the process.

A model's native code may crash on one input. The query is delivered again after each restart and would crash the worker
for ever. So before a slot computes a batch, it writes the keys of its records (topic, partition, offset) into its
region of a memory-mapped file, and clears the region afterwards. The pages outlive the process, however it dies. A
write takes microseconds and no system call.

The records of a batch that never ends are treated alike: all become suspects at once, in the same process.

At the start, the records still named in a region were being computed when the process died. They are suspects. Each is
computed alone, so that a harmless record is cleared. Two suspects are never computed at the same time, because a crash
would count against both. A record that has crashed the process `max_crashes` times is given up. The counts are in a
small file beside the journal, which is written at the start and at each change of a count.

Limits: a machine that loses power may lose the pages, but then no query caused the crash. Each worker keeps its own
counts: a query that moves to another worker starts there at 0. It ends after at most `max_crashes` times the number of
workers.
"""

import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

import msgspec

from broker.delivery.consumer import Record

RecordKey: TypeAlias = tuple[str, int, int]
"""Topic, partition and offset of a record: the same at every delivery."""

_REGION: Final = 64 * 1024
OTHER_REGIONS: Final = 16
"""Regions for instances that compute outside the slots; further ones note nothing."""
_MAX_KEYS: Final = 4000
"""Number of keys that fit into a region; of a batch with more queries, only the first ones are noted."""
_HEAD: Final = struct.Struct("<II")
_PAIR: Final = struct.Struct("<qq")
_EMPTY: Final = _HEAD.pack(0, 0)

_counts = msgspec.json.Decoder(dict[str, int])


def record_key(record: Record) -> RecordKey:
    """Return the key by which the journal identifies a record."""
    return record.topic, record.partition, record.offset


class CrashJournal:
    """Journal of one worker's slots; a context manager.

    The threads of the slots call `begin` and `end`; the event loop calls the rest.
    """

    def __init__(self, file: Path, slots: int, max_crashes: int) -> None:
        self._file = file
        self._counts_file = file.with_suffix(".crashes")
        self._slots = slots
        self._max_crashes = max_crashes
        self._crashes: dict[RecordKey, int] = {}
        self._free = [*range(slots, slots + OTHER_REGIONS)]
        self.has_suspect = False
        """True if a suspect is computed, or is about to be."""

    def __enter__(self) -> Self:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        found = self._file.read_bytes() if self._file.exists() else b""
        self._crashes = _read_counts(self._counts_file)
        for key in _read_regions(found):
            self._crashes[key] = self._crashes.get(key, 0) + 1
        self._save()
        with self._file.open("wb") as file:
            file.truncate((self._slots + OTHER_REGIONS) * _REGION)
        with self._file.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), (self._slots + OTHER_REGIONS) * _REGION)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()

    def crashes(self, key: RecordKey) -> int:
        """Return the number of crashes during which a record was being computed."""
        return self._crashes.get(key, 0) if self._crashes else 0

    def is_given_up(self, key: RecordKey) -> bool:
        """Return true if a record has crashed the worker too often."""
        return self.crashes(key) >= self._max_crashes

    def suspect(self, keys: Iterable[RecordKey]) -> None:
        """Count a crash of each of these records, one of which never ends."""
        for key in keys:
            self._crashes[key] = self._crashes.get(key, 0) + 1
        self._save()

    def clear(self, key: RecordKey) -> None:
        """Forget the crashes of a record that was answered."""
        if self._crashes and self._crashes.pop(key, None) is not None:
            self._save()

    def claim(self) -> int | None:
        """Return a region for an instance that computes outside the slots, or None if all are taken."""
        return self._free.pop(0) if self._free else None

    def release(self, region: int) -> None:
        """Give back a region; its records are computed no more."""
        self.end(region)
        self._free.append(region)

    def begin(self, slot: int, keys: Sequence[RecordKey]) -> None:
        """Note that the slot begins to compute these records; all must be of one topic."""
        topic = keys[0][0].encode()
        pairs = b"".join(_PAIR.pack(partition, offset) for _, partition, offset in keys[:_MAX_KEYS])
        start = slot * _REGION
        body = topic + pairs
        self._map[start + _HEAD.size : start + _HEAD.size + len(body)] = body
        # The head is written last, so that a region is never read half written.
        self._map[start : start + _HEAD.size] = _HEAD.pack(len(topic), len(pairs) // _PAIR.size)

    def end(self, slot: int) -> None:
        """Note that the slot has computed its records."""
        start = slot * _REGION
        self._map[start : start + _HEAD.size] = _EMPTY

    def _save(self) -> None:
        counts = {f"{topic}/{partition}/{offset}": n for (topic, partition, offset), n in self._crashes.items()}
        fresh = self._counts_file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(counts))
        os.replace(fresh, self._counts_file)


def _read_counts(file: Path) -> dict[RecordKey, int]:
    try:
        counts = _counts.decode(file.read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}
    keys: dict[RecordKey, int] = {}
    for name, count in counts.items():
        topic, partition, offset = name.rsplit("/", 2)
        keys[topic, int(partition), int(offset)] = count
    return keys


def _read_regions(data: bytes) -> list[RecordKey]:
    keys: list[RecordKey] = []
    for start in range(0, len(data) - _REGION + 1, _REGION):
        length, count = _HEAD.unpack_from(data, start)
        if not 0 < length <= 512 or count > _MAX_KEYS:
            continue
        topic = data[start + _HEAD.size : start + _HEAD.size + length].decode(errors="replace")
        for pair in range(count):
            partition, offset = _PAIR.unpack_from(data, start + _HEAD.size + length + pair * _PAIR.size)
            keys.append((topic, partition, offset))
    return keys
