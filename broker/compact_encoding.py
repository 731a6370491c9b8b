"""Variable-length integers and compact strings of newer versions of Kafka's protocol (KIP-482).

A length is written as length + 1; 0 stands for null. Tagged fields, which are optional, end each structure.
"""


def varint(value: int) -> bytes:
    """Encode an integer that is not negative."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def compact(text: str) -> bytes:
    """Encode a string."""
    data = text.encode()
    return varint(len(data) + 1) + data


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode an integer; return it and the position behind it."""
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
    """Decode a string; return it and the position behind it."""
    length, at = read_varint(data, at)
    end = at + length - 1
    return data[at:end].decode(), end


def skip_tags(data: bytes, at: int) -> int:
    """Return the position behind the tagged fields that begin at `at`."""
    count, at = read_varint(data, at)
    for _ in range(count):
        _tag, at = read_varint(data, at)
        size, at = read_varint(data, at)
        at += size
    return at


def find_tag(data: bytes, at: int, wanted: int) -> tuple[int, int]:
    """Find a tagged field; return the position of its value, or -1, and the position behind all tagged fields."""
    count, at = read_varint(data, at)
    found = -1
    for _ in range(count):
        tag, at = read_varint(data, at)
        size, at = read_varint(data, at)
        if tag == wanted:
            found = at
        at += size
    return found, at
