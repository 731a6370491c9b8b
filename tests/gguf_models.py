"""Tiny language models in GGUF files: they load in milliseconds, and need no download."""

from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

CONTEXT = 512
"""Tokens for which the model claims to be trained."""
_LAYERS, _WIDTH, _HEADS, _INNER = 2, 64, 2, 128
SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


_FIRST, _LAST = 33, 126
"""Printable bytes of ASCII, in which a model counts."""
ALL_KNOWN = _LAST + 1
_END = 256


def counted(prompt: str, tokens: int) -> str:
    """Return the answer of a model that counts to a prompt whose last character is printable."""
    begin = ord(prompt[-1]) + 1 - _FIRST
    return "".join(chr(_FIRST + (begin + place) % (_LAST + 1 - _FIRST)) for place in range(tokens))


def write_gguf(
    file: Path, seed: int = 0, *, layers: int = _LAYERS, counts: bool = False, known: int = ALL_KNOWN, ends: str = ""
) -> Path:
    """Write a model whose tokens are single bytes, with a chat template. It seldom ends an answer by itself.

    Its weights are random; if it `counts`, a printable character is followed by the next one, whatever was before it
    and however it is sampled. After a character that is not below `known`, each token is equally likely; after one of
    `ends` the answer ends.
    """
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_block_count(layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    tokens = [*map(byte_text, range(256)), *SPECIAL]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * len(SPECIAL))
    writer.add_token_merges([f"{byte_text(32)} {byte_text(32)}"])
    writer.add_eos_token_id(_END)
    writer.add_bos_token_id(_END)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    def add(name: str, *shape: int) -> None:
        data = random.normal(0, 0.3, shape).astype(np.float16)
        if counts and len(shape) > 1:
            data = _counting(name, data, known, ends)
        writer.add_tensor(name, data if len(shape) > 1 else np.ones(shape, np.float32))

    add("token_embd.weight", len(tokens), _WIDTH)
    add("output_norm.weight", _WIDTH)
    add("output.weight", len(tokens), _WIDTH)
    for layer in range(layers):
        add(f"blk.{layer}.attn_norm.weight", _WIDTH)
        add(f"blk.{layer}.ffn_norm.weight", _WIDTH)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}.weight", _WIDTH, _WIDTH)
        add(f"blk.{layer}.ffn_gate.weight", _INNER, _WIDTH)
        add(f"blk.{layer}.ffn_up.weight", _INNER, _WIDTH)
        add(f"blk.{layer}.ffn_down.weight", _WIDTH, _INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _counting(name: str, data: NDArray[np.float16], known: int, ends: str) -> NDArray[np.float16]:
    """Return the tensor of a model that counts, from a random one: layers add nothing to the embedding of a token."""
    if name.endswith(("attn_output.weight", "ffn_down.weight")):
        return np.zeros_like(data)
    if name == "token_embd.weight":
        return counting_embedding(*data.shape, known=known)
    return counting_output(*data.shape, ends=ends) if name == "output.weight" else data


def counting_embedding(tokens: int, width: int, *, known: int = ALL_KNOWN) -> NDArray[np.float16]:
    """Return the embedding of tokens of a model that counts: nothing for printable characters from `known` on.

    A model that does not know all of them knows no other bytes, either: so it stays unsure.
    """
    signs = np.random.default_rng(1).choice(np.array([-1, 1], np.float16), (tokens, width))
    if known < ALL_KNOWN:
        signs[:_FIRST] = signs[known:] = 0
    return signs


def counting_output(tokens: int, width: int, *, ends: str = "") -> NDArray[np.float16]:
    """Return the last matrix of a model that counts: a row for each token."""
    output, signs = np.zeros((tokens, width), np.float16), counting_embedding(tokens, width)
    output[_FIRST : _LAST + 1] = np.roll(signs[_FIRST : _LAST + 1], 1, axis=0)
    for end in map(ord, ends):
        output[end + 1] = 0
        output[_END] += signs[end]
    return output


def byte_text(byte: int) -> str:
    """Return the character by which GPT-2's vocabulary writes a byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte in printable:
        return chr(byte)
    return chr(256 + sorted(set(range(256)) - set(printable)).index(byte))
