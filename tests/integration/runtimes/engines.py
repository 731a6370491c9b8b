"""Engines of language models as runtimes, loaded with tiny models whose tokens are bytes."""

from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from registry.importers.hugging_face import read_hugging_face
from runtimes.answer_progress import AnswerEnd
from runtimes.catalog import find_runtime
from runtimes.decoder.session import DecoderSession
from runtimes.protocol import FinishedAnswer, GenerativeSession, LoadOptions
from schemas.generation import AnswerPart, GenerationOptions
from schemas.hardware import Hardware
from tests.decoder_models import decoder_weights, write_decoder
from tests.gguf_models import ALL_KNOWN, write_gguf
from tests.waiting import PATIENCE_S


class Load(Protocol):
    """Loads a tiny model of random weights, or one that counts, of whose characters it knows those below `known`."""

    def __call__(
        self, folder: Path, *, layers: int = 2, sequences: int = 2, context: int = 256, counts: bool = False,
        known: int = ALL_KNOWN,
    ) -> GenerativeSession: ...  # fmt: skip


def load_llama_cpp(
    folder: Path, *, layers: int = 2, sequences: int = 2, context: int = 256, counts: bool = False,
    known: int = ALL_KNOWN,
) -> GenerativeSession:  # fmt: skip
    file = write_gguf(folder / "tiny.gguf", layers=layers, counts=counts, known=known)
    return _loaded("llama.cpp", file, sequences, context)


def load_decoder(
    folder: Path, *, layers: int = 2, sequences: int = 2, context: int = 256, counts: bool = False,
    known: int = ALL_KNOWN,
) -> GenerativeSession:  # fmt: skip
    written = write_decoder(folder / "model", decoder_weights(layers=layers, counts=counts, known=known))
    return load_folder(written, sequences=sequences, context=context)


def load_folder(folder: Path, *, sequences: int = 4, context: int = 256) -> DecoderSession:
    """Load a decoder from a folder of Hugging Face's exporter."""
    return _loaded("onnx-decoder", import_folder(folder), sequences, context)


def import_folder(folder: Path) -> Path:
    """Return the one file that is registered of a folder."""
    return read_hugging_face(folder, folder.with_suffix(".onnx")).file


def load_file(file: Path) -> DecoderSession:
    """Load a decoder from its file."""
    return _loaded("onnx-decoder", file, 1, 64)


def _loaded(runtime: str, file: Path, sequences: int, context: int) -> Any:
    options = LoadOptions(precision="fp32", max_batch=sequences, context_tokens=context)
    return find_runtime(runtime).load(file, Hardware.CPU, options)


def ends_of(session: GenerativeSession, *texts: str, **options: Any) -> list[AnswerEnd]:
    """Make answers at once; return their ends in this order."""
    ends = [SimpleQueue[AnswerEnd]() for _ in texts]
    for text, end in zip(texts, ends, strict=True):
        session.start(text, GenerationOptions(**options), ignore, end.put)
    return [end.get(timeout=PATIENCE_S) for end in ends]


def answers_of(session: GenerativeSession, *texts: str, **options: Any) -> list[FinishedAnswer]:
    """Make answers at once, none of which may fail."""
    ends = ends_of(session, *texts, **options)
    answers = [end for end in ends if isinstance(end, FinishedAnswer)]
    assert len(answers) == len(ends), ends
    return answers


def ignore(_event: AnswerPart | AnswerEnd) -> None:
    """Ignore a part, or the end, of an answer."""
