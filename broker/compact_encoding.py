"""Lengths and numbers as newer versions of Kafka's requests write them (KIP-482): in as few bytes as they need.

A length is written as one more than it is, so that 0 says that there is nothing; tags, fields that may be absent, end
each structure.
"""


def varint(value: int) -> bytes:
    """Encode a number that is not negative."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def compact(text: str) -> bytes:
    """Encode a text."""
    data = text.encode()
    return varint(len(data) + 1) + data


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode a number; returns it and where it ends."""
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    shift = 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7


def read_compact(data: bytes, at: int) -> tuple[str, int]:
    """Decode a text; returns it and where it ends."""
    length, at = read_varint(data, at)
    end = at + length - 1
    return data[at:end].decode(), end


def skip_tags(data: bytes, at: int) -> int:
    """Return where the tags end that begin here."""
    count, at = read_varint(data, at)
    for _ in range(count):
        _tag, at = read_varint(data, at)
        size, at = read_varint(data, at)
        at += size
    return at


def find_tag(data: bytes, at: int, wanted: int) -> tuple[int, int]:
    """Return where a tag's value begins, -1 if it is absent, and where the tags end that begin here."""
    count, at = read_varint(data, at)
    found = -1
    for _ in range(count):
        tag, at = read_varint(data, at)
        size, at = read_varint(data, at)
        if tag == wanted:
            found = at
        at += size
    return found, at
