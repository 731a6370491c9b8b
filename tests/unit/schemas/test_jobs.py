"""Tests of the ids of jobs, and of requests to register models as gateways store them."""

from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.jobs import new_job_id
from schemas.registrations import FileRef, ModelToRegister

TIMES, BITS = st.integers(0, 2**47), st.integers(0, 2**74 - 1)


@given(TIMES, BITS, TIMES, BITS)
def test_new_job_id_orders_by_time_and_bits(one: int, bits: int, other: int, more: int) -> None:
    ids = [new_job_id(one, bits), new_job_id(other, more)]
    assert (ids[0] < ids[1]) == ((one, bits) < (other, more))
    assert UUID(ids[0]).version == 7
    assert UUID(ids[0]).int >> 80 == one


def test_registration_with_defaults_is_within_its_bounds() -> None:
    """A default is checked only when the row is read."""
    request = ModelToRegister(name="m", task="t", file=FileRef(name="m.onnx", upload="0" * 64))
    assert msgspec.json.decode(msgspec.json.encode(request), type=ModelToRegister) == request
