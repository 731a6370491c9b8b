"""The small query of the benches: one 8x8 digit, 256 bytes of tensor, in the binary encoding."""

from schemas import headers as h
from schemas.oip import encode_request
from zoo.samples import labelled


def small_query() -> tuple[bytes, list[tuple[str, bytes]]]:
    """The record's value and the headers that describe it."""
    inputs, _labels = labelled("digits")
    query = encode_request({name: array[:1] for name, array in inputs.items()})
    return query.value, [
        (h.CONTENT_TYPE, query.content_type.encode()),
        (h.JSON_LENGTH, str(query.json_length).encode()),
    ]
