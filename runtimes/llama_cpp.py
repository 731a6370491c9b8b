"""Language models in GGUF files with llama.cpp, by the package xllamacpp, which wraps the engine of llama.cpp's server.

Rules:
* The engine makes the next token of all running answers in one step (continuous batching). An answer that begins joins
  at the next step. On a CPU a step computes at most `_STEP_TOKENS`, so that the running answers go on during a prompt.
* Each answer has a share of the context of its own, reserved when the model is loaded, so that no answer can end for
  lack of memory. The engine keeps the last prompt of each share, and computes only the rest of one that begins alike.
* Each running answer occupies a thread that waits for its next event: a piece of its prompt was computed, or a token
  was made. A cancelled answer ends with its next event; its place is free one step later.
* The engine opens an HTTP server on a loopback port, which cannot be turned off. It requires a random key that nobody
  gets.

llama.cpp's own processes and threads are in the process of the worker: a crash ends the worker, as with each runtime.
"""

import importlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, Final

import msgspec

from runtimes.answer_progress import AnswerEnd, AnswerProgress, OnEnd, OnPart, prompt_too_long
from runtimes.answer_session import AnswerSession
from runtimes.chat import decode_chat
from runtimes.device import missing_device, missing_package, runtime_availability
from runtimes.gguf_header import read_gguf_header
from runtimes.protocol import Availability, LoadOptions
from schemas.errors import InvalidRequest, ModelFailed, QueryError
from schemas.generation import GenerationOptions, TokenLogprob
from schemas.hardware import Hardware

_PACKAGE: Final = "xllamacpp"
_STEP_TOKENS: Final = 128
"""Tokens that one step computes on a CPU: 512 take 2 % less CPU time a token, but hold the running answers four times
as long."""
_CONTEXT_STEP: Final = 256
"""Tokens of which llama.cpp makes the context of an answer a multiple."""
_ALL_LAYERS: Final = 1000
_PENALISED_TOKENS: Final = 8192
"""Last tokens that the penalties count."""
_CONTEXT_ERROR: Final = "exceed_context_size_error"
_GPU_WHEELS: Final = "https://xorbitsai.github.io/xllamacpp/whl/cu128"


class LlamaCppRuntime:
    """Runtime that loads GGUF files with llama.cpp."""

    name = "llama.cpp"
    concurrent = False
    """One engine makes all answers of a session: more batches at once would only share its threads."""
    hardware: tuple[str, ...] = (Hardware.CPU, Hardware.CUDA)

    def availability(self, hardware: str) -> Availability:
        """Return an availability that is true if xllamacpp is installed, and built for the hardware type."""
        return runtime_availability(self.name, hardware, self.hardware, lambda: _missing(hardware))

    def load(self, artifact: Path, hardware: str, options: LoadOptions) -> "LlamaCppSession":
        """Load a GGUF file; blocks.

        Raises:
            OperatorError: the runtime is not available for `hardware`.
            ModelFailed: llama.cpp rejects the model.
        """
        self.availability(hardware).check()
        context = min(options.context_tokens, read_gguf_header(artifact).context_tokens)
        context = -(-context // _CONTEXT_STEP) * _CONTEXT_STEP
        options = msgspec.structs.replace(options, context_tokens=context)
        try:
            server = _package().Server(_parameters(artifact, hardware, options))
            # Only an engine that has begun to work can be stopped: stopping it before that never ends.
            server.handle_completions({"prompt": "a", "max_tokens": 1})
        except Exception as error:  # the package raises any error for a file that it does not accept
            raise ModelFailed(f"llama.cpp cannot load the model: {error}") from error
        return LlamaCppSession(server, options)


def _package() -> Any:
    return importlib.import_module(_PACKAGE)


def _missing(hardware: str) -> str:
    absent = missing_package(_PACKAGE, "llama.cpp", "generative")
    if absent or hardware == Hardware.CPU or missing_device(hardware):
        return absent
    gpu = _package().ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_GPU
    if any(device["type"] == gpu for device in _package().get_device_info()):
        return ""
    return f"the installed xllamacpp computes on CPUs only: pip install xllamacpp --index-url {_GPU_WHEELS}"


def _parameters(artifact: Path, hardware: str, options: LoadOptions) -> Any:
    package = _package()
    given = package.CommonParams()
    given.model.path = str(artifact)
    given.n_parallel = options.max_batch
    given.n_ctx = options.context_tokens * options.max_batch
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = options.threads
    given.n_gpu_layers = _ALL_LAYERS if hardware == Hardware.CUDA else 0
    if hardware == Hardware.CPU:
        given.n_batch = given.n_ubatch = _STEP_TOKENS
    given.fit_params = False  # it would change the context to fit the memory
    given.cache_ram_mib = 0  # prompts of ended answers beyond those in the shares of the context
    given.reasoning_format = package.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    given.verbosity = -1
    given.api_keys = [secrets.token_urlsafe()]
    given.endpoint_slots = given.ui = False
    given.n_threads_http = 1
    return given


def _request(text: str, options: GenerationOptions) -> dict[str, Any]:
    """Return the request of the engine, in the terms of llama.cpp's server."""
    given: dict[str, Any] = {
        "stream": True,
        "return_progress": True,
        "timings_per_token": True,
        "max_tokens": -1 if options.max_tokens is None else options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "min_p": 0.0,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "repeat_last_n": _PENALISED_TOKENS,
        "ignore_eos": options.ignore_eos,
        "stop": [options.stop] if isinstance(options.stop, str) else options.stop,
    }
    if options.seed is not None:
        given["seed"] = options.seed & 0xFFFFFFFF
    if options.json_schema:
        given["json_schema"] = _schema(options.json_schema)
    if options.logprobs is not None:
        alternatives = max(options.logprobs, 1)
        given |= {"n_probs": alternatives, "logprobs": True, "top_logprobs": alternatives}
    if options.chat:
        return given | {"messages": msgspec.to_builtins(decode_chat(text))}
    return given | {"prompt": text, "logprobs": given.get("n_probs")}


def _schema(text: str) -> Any:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"option json_schema must be a JSON object: {error}") from error


class LlamaCppSession(AnswerSession):
    """Model in the memory of llama.cpp."""

    def __init__(self, server: Any, options: LoadOptions) -> None:
        super().__init__(options.context_tokens)
        self._server: Any = server
        self._threads = ThreadPoolExecutor(options.max_batch, "answer")
        self._lock = Lock()
        self._answers: set[_Answer] = set()

    @property
    def running(self) -> int:
        """Number of answers that are being made."""
        return len(self._answers)

    def start(self, text: str, options: GenerationOptions, on_part: OnPart, on_end: OnEnd) -> "_Answer":
        """Start an answer, and return at once; see `GenerativeSession`."""
        answer = _Answer(on_part, options)
        with self._lock:
            self._answers.add(answer)
        self._threads.submit(self._run, answer, text, options, on_end)
        return answer

    def close(self) -> None:
        """Cancel the running answers, and free the memory."""
        with self._lock:
            answers = list(self._answers)
        for answer in answers:
            answer.cancel()
        self._threads.shutdown()
        self._server = None

    def _run(self, answer: "_Answer", text: str, options: GenerationOptions, on_end: OnEnd) -> None:
        """Make one answer in a thread of its own."""
        end: AnswerEnd
        try:
            request = _request(text, options)
            if not answer.cancelled:
                handle = self._server.handle_chat_completions if options.chat else self._server.handle_completions
                handle(request, answer.take)
            end = answer.end()
        except QueryError as error:
            end = error
        except (ValueError, RuntimeError) as error:  # the engine's words for a chat that the template rejects
            end = InvalidRequest(f"the model does not accept this request: {error}")
        except Exception as error:  # noqa: BLE001 - the package may raise any error; only this answer must fail
            end = ModelFailed(f"the model failed on this input: {error}")
        with self._lock:
            self._answers.discard(answer)
        on_end(end)


class _Answer(AnswerProgress):
    """Answer that is being made, from the events of the engine."""

    def __init__(self, on_part: OnPart, options: GenerationOptions) -> None:
        super().__init__(on_part)
        self._with_alternatives = bool(options.logprobs)

    def take(self, event: dict[str, Any]) -> bool:
        """Take an event of the engine. Returns true to end the answer."""
        if "error" in event:
            self.error = _as_error(event["error"])
            return True
        if "timings" in event:
            self.cached_tokens = event["timings"]["cache_n"]
            self.prompt_tokens = self.cached_tokens + event["timings"]["prompt_n"]
        for choice in event["choices"]:
            self._take_choice(choice, event.get("timings"))
        return self.cancelled

    def _take_choice(self, choice: dict[str, Any], timings: dict[str, Any] | None) -> None:
        made = timings["predicted_n"] - self.tokens if timings else 0
        text = (choice["delta"].get("content") if "delta" in choice else choice["text"]) or ""
        logprobs = [_logprob(one, self._with_alternatives) for one in (choice.get("logprobs") or {}).get("content", ())]
        # Tokens whose text may begin a stop text come without it: they are a part too. So is a piece of the prompt.
        if text or logprobs or made or (timings is not None and choice["finish_reason"] is None):
            self.grow(text, made, logprobs)
        if choice["finish_reason"] is not None:
            self.finish_reason = "length" if choice["finish_reason"] == "length" else "stop"


def _logprob(entry: dict[str, Any], with_alternatives: bool) -> TokenLogprob:
    top = entry["top_logprobs"] if with_alternatives else ()
    return TokenLogprob(
        token=entry["token"], logprob=entry["logprob"], top=[(one["token"], one["logprob"]) for one in top]
    )


def _as_error(error: dict[str, Any]) -> QueryError:
    if error.get("type") == _CONTEXT_ERROR:
        return prompt_too_long(error["n_prompt_tokens"], error["n_ctx"])
    message = str(error.get("message", "no details given"))
    if error.get("code") == 400:
        return InvalidRequest(f"the model does not accept this request: {message}")
    return ModelFailed(f"llama.cpp failed: {message}")
