"""Test of the smaller model of the goodput of chats, with tiny models."""

from pathlib import Path

from bench.chat_goodput import shorten
from runtimes.llama_cpp import LlamaCppRuntime
from runtimes.protocol import LoadOptions
from schemas.generation import TEXT_INPUT, TEXT_OUTPUT
from schemas.hardware import Hardware
from schemas.tensors import bytes_array
from tests.gguf_models import write_gguf


def answer(file: Path) -> bytes:
    session = LlamaCppRuntime().load(file, Hardware.CPU, LoadOptions(precision="fp16", context_tokens=256))
    try:
        return session.infer({TEXT_INPUT: bytes_array(["hello"])})[TEXT_OUTPUT].item()
    finally:
        session.close()


def test_shorten_keeps_first_layers(tmp_path: Path) -> None:
    shortened = tmp_path / "shortened.gguf"
    shorten(write_gguf(tmp_path / "three.gguf", layers=3), shortened, 2)
    assert answer(shortened) == answer(write_gguf(tmp_path / "two.gguf", layers=2))
    assert answer(shortened) != answer(tmp_path / "three.gguf")
