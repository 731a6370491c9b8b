"""Decompression of record batches with a size limit: three kilobytes may become a hundred megabytes.

Brokers limit only the compressed size of a batch, and aiokafka's decoders use any amount of memory.
"""

import struct
from typing import Any, Final

import cramjam
from aiokafka.codec import snappy_decode

MOST_BYTES: Final = 128 * 1024 * 1024
_FIRST_GUESS: Final = 16
_LEAST_BYTES: Final = 64 * 1024
_HEAD_BYTES: Final = 61
_LENGTH_AT: Final = 8
_ATTRIBUTES_AT: Final = 21
_CODEC: Final = 0x07
_SNAPPY: Final = 2  # expands by a factor of 20 at most
_modules: Final[dict[int, Any]] = {1: cramjam.gzip, 3: cramjam.lz4, 4: cramjam.zstd}


def decompressed(batch: bytes) -> bytes:
    """Return the batch (format 2) with its records decompressed; its checksum no longer matches.

    Raises:
        ValueError: the records cannot be decompressed, or become more than `MOST_BYTES`.
    """
    (attributes,) = struct.unpack_from(">h", batch, _ATTRIBUTES_AT)
    if not attributes & _CODEC:
        return batch
    records = _expand(attributes & _CODEC, batch[_HEAD_BYTES:])
    length = struct.pack(">i", _HEAD_BYTES - _LENGTH_AT - 4 + len(records))
    plain = struct.pack(">h", attributes & ~_CODEC)
    head = batch[:_LENGTH_AT] + length + batch[_LENGTH_AT + 4 : _ATTRIBUTES_AT] + plain
    return head + batch[_ATTRIBUTES_AT + 2 : _HEAD_BYTES] + records


def _expand(codec: int, data: bytes) -> bytes:
    if codec == _SNAPPY:
        return _unsnapped(data)
    if codec not in _modules:
        raise ValueError(f"unknown codec {codec}")
    room = min(max(_FIRST_GUESS * len(data), _LEAST_BYTES), MOST_BYTES)
    while True:
        into = bytearray(room)
        try:
            size: int = _modules[codec].decompress_into(data, into)
        except cramjam.DecompressionError as error:
            if room == MOST_BYTES:
                raise ValueError(f"it does not decompress to {MOST_BYTES} bytes or less: {error}") from None
            room = MOST_BYTES
        else:
            return bytes(memoryview(into)[:size])


def _unsnapped(data: bytes) -> bytes:
    try:
        return snappy_decode(data)
    except Exception as error:
        raise ValueError(f"it does not decompress: {error!r}") from error
