"""Models of transformers' classes with random weights, saved as folders, and their answers to texts."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.processing_files import WORDS, write_tokenizer

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SENTENCES = ("good", "a very bad film", "a good film a bad film a very good film a film a film a film")
WIDE = {"initializer_range": 0.5, "vocab_size": len(WORDS), "pad_token_id": 0}
BERT = WIDE | SMALL | {"max_position_embeddings": 64}
DISTILBERT = WIDE | {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 64}
GPT2 = WIDE | {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 1}
T5 = WIDE | {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
NAMES = ("O", "PER", "LOC")
TAGS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: number for number, name in enumerate(NAMES)}}


def made_model(folder: Path, name: str, config: str, **settings: Any) -> Any:
    """Create a model of a class, save it to the folder with a tokenizer of `WORDS`, and return it."""
    transformers, torch = import_module("transformers"), import_module("torch")
    torch.manual_seed(0)
    model = getattr(transformers, name)(getattr(transformers, config)(**settings)).eval()
    model.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json")
    return model


def made_classifier(folder: Path, name: str, config: str, **settings: Any) -> Any:
    """Create a classifier of texts with the classes `NAMES`, of which `SENTENCES` have several; save and return it."""
    torch, model = import_module("torch"), made_model(folder, name, config, **settings, **TAGS)
    with torch.no_grad():
        model.classifier.bias -= torch.from_numpy(np.mean(answers_alone(model, "logits"), axis=0))
    model.save_pretrained(folder)
    return model


def answers_alone(model: Any, output: str) -> list[NDArray[Any]]:
    """Return the output of a transformers model for each of `SENTENCES`, computed alone."""
    torch = import_module("torch")
    ids = [torch.tensor([[WORDS.index(word) for word in text.split()]]) for text in SENTENCES]
    with torch.no_grad():
        return [model(input_ids=one, attention_mask=torch.ones_like(one))[output][0].numpy() for one in ids]
