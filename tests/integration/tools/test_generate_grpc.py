"""Test that the code generated from the gateway's `.proto` is up to date."""

from pathlib import Path

from tools.generate_grpc import generated

ROOT = Path(__file__).parents[3]


def test_generated_grpc_is_current() -> None:
    for path, text in generated(ROOT).items():
        assert (ROOT / path).read_text() == text, f"{path} is not what its .proto says: make docs"
