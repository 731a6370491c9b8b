"""Tests of requests to register models, as gateways store them for registrars."""

import msgspec

from schemas.registrations import FileRef, ModelToRegister


def test_request_with_defaults_is_within_its_bounds() -> None:
    """A default is checked only when the row is read."""
    request = ModelToRegister(name="m", task="t", file=FileRef(name="m.onnx", upload="0" * 64))
    assert msgspec.json.decode(msgspec.json.encode(request), type=ModelToRegister) == request
