"""Runtime of language models in ONNX files, with onnxruntime on CPUs and CUDA devices."""

from pathlib import Path

from runtimes.decoder.graph import DecoderGraph
from runtimes.decoder.prompts import PromptReader
from runtimes.decoder.session import DecoderSession
from runtimes.decoder.settings import read_settings
from runtimes.device import missing_package
from runtimes.onnx import OnnxRuntime
from runtimes.protocol import Availability, LoadOptions
from schemas.hardware import Hardware


class OnnxDecoderRuntime:
    """Runtime that loads decoders whose ONNX files have settings in their metadata."""

    name = "onnx-decoder"
    concurrent = False
    """One thread makes all answers of a session."""

    def __init__(self, providers: dict[str, str]) -> None:
        """Compute with these execution providers of onnxruntime, by hardware type."""
        self._onnx = OnnxRuntime(self.name, providers, concurrent=self.concurrent)
        self.hardware = self._onnx.hardware

    def availability(self, hardware: str) -> Availability:
        """Return an availability that is true if onnxruntime can compute there, and `tokenizers` is installed."""
        there = self._onnx.availability(hardware)
        if not there.available:
            return there
        missing = missing_package("tokenizers", "tokenizers", "text")
        return Availability(not missing, missing)

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> DecoderSession:
        """Load an ONNX file, and reserve the memory of all answers; blocks.

        Raises:
            OperatorError: the runtime is not available for `hardware`, or its provider did not start.
            InvalidRequest: the file is not a decoder with settings, or they are damaged.
        """
        self.availability(hardware).check()
        session = self._onnx.open(artifact, hardware, options)
        settings = read_settings(session.get_modelmeta().custom_metadata_map)
        context = min(options.context_tokens, settings.context_tokens or options.context_tokens)
        reader = PromptReader(settings, context)
        graph = DecoderGraph(session, "cpu" if hardware == Hardware.CPU else "cuda")
        return DecoderSession(graph, reader, settings.ends, context_tokens=context, answers=options.max_batch)
