"""Tests of ONNX decoders that torch's exporter made of transformers' classes: their tokens are those of the classes."""

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.decoder_models import END, byte_tokenizer
from tests.gguf_models import CONTEXT, SPECIAL
from tests.integration.runtimes.engines import load_folder
from tests.integration.runtimes.test_onnx_decoder import COUNT, PROMPTS, tokens_of

pytestmark = pytest.mark.needs_torch
VOCABULARY = {"vocab_size": END + len(SPECIAL), "initializer_range": 0.5, "bos_token_id": END, "eos_token_id": END}
GPT2 = VOCABULARY | {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}
LLAMA = VOCABULARY | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
}


def exported_folder(folder: Path, model: Any, heads: int, size: int) -> Path:
    """Export a model of two layers with past key values, named as optimum names them, with a tokenizer of bytes."""
    torch, transformers = import_module("torch"), import_module("transformers")

    class Step(torch.nn.Module):
        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, past: Any) -> Any:
            cache = transformers.DynamicCache()
            for layer, (key, value) in enumerate(past):
                cache.update(key, value, layer)
            found = model(
                input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, past_key_values=cache,
                use_cache=True,
            )  # fmt: skip
            present = [(layer.keys, layer.values) for layer in found.past_key_values.layers]
            return found.logits, *(tensor for pair in present for tensor in pair)

    model.save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    ids, places = torch.arange(8).reshape(2, 4), torch.arange(3, 7).repeat(2, 1)
    past = [tuple(torch.randn(2, heads, 3, size) for _ in range(2)) for _ in range(2)]
    parts = [f"{layer}.{part}" for layer in range(2) for part in ("key", "value")]
    names = ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{part}" for part in parts)]
    variable = torch.export.Dim.DYNAMIC
    tokens, cached = {0: variable, 1: variable}, {0: variable, 2: variable}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are deprecated
        torch.onnx.export(
            Step().eval(), (ids, torch.ones(2, 7, dtype=torch.long), places, past), folder / "model.onnx",
            dynamo=True, dynamic_shapes=(tokens, tokens, tokens, [(cached, cached)] * 2), input_names=names,
            output_names=["logits", *(f"present.{part}" for part in parts)], external_data=False, verbose=False,
        )  # fmt: skip
    return folder


def greedy_tokens(model: Any, prompt: str) -> list[int]:
    """Return the likeliest tokens after a prompt but for the end, each of which computes the whole text."""
    torch, tokens = import_module("torch"), list(prompt.encode())
    for _ in range(COUNT):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
        logits[END] = -torch.inf
        tokens.append(int(logits.argmax()))
    return tokens[-COUNT:]


@pytest.mark.parametrize(
    ("name", "settings", "heads"), [("GPT2LMHeadModel", GPT2, 2), ("LlamaForCausalLM", LLAMA, 1)], ids=["gpt2", "llama"]
)
def test_exported_decoder_writes_the_tokens_of_its_class(
    tmp_path: Path, name: str, settings: dict[str, Any], heads: int
) -> None:
    torch, transformers = import_module("torch"), import_module("transformers")
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**settings, attn_implementation="eager")).eval()
    session = load_folder(exported_folder(tmp_path / "model", model, heads, 16))
    wanted = [greedy_tokens(model, prompt) for prompt in PROMPTS]
    assert tokens_of(session, *PROMPTS) == wanted
    assert [tokens_of(session, prompt)[0] for prompt in PROMPTS] == wanted
    session.close()
