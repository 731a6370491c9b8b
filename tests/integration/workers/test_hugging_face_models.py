"""Tests of models of transformers' classes, from their registration to the answers of a worker."""

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from broker.producing.producer import Producer
from tests.integration.workers.conftest import Site
from tests.integration.workers.test_sequences import answers, asked, registered
from tests.transformers_models import BERT, NAMES, SENTENCES, T5, WORDS, answers_alone, made_classifier, made_model

pytestmark = pytest.mark.needs_torch
SHORT, MIDDLE, LONG = SENTENCES


async def test_classifier_answers_texts_of_different_lengths_at_once(
    site: Site, producer: Producer, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    model = made_classifier(folder, "BertForSequenceClassification", "BertConfig", **BERT)
    scores = dict[str, Any](zip(SENTENCES, answers_alone(model, "logits"), strict=True))
    np.savez(tmp_path / "texts.npz", text=np.array([SENTENCES[number % 3] for number in range(40)]))
    await registered(site, folder, tmp_path / "texts.npz")
    queries = [[SHORT, LONG], [SHORT], [LONG], [MIDDLE, SHORT, LONG]]
    sent = [(len(texts), asked({"text": np.array(texts, object)})) for texts in queries]
    for texts, outputs in zip(queries, await answers(site, producer, sent), strict=True):
        wanted = np.array([scores[text] for text in texts])
        np.testing.assert_allclose(outputs["logits"], wanted, atol=1e-4)
        assert outputs["label"].tolist() == [[NAMES[number].encode()] for number in wanted.argmax(axis=1)]


def exported_step(file: Path, model: Any) -> Path:
    """Export a step of a model with an encoder and a decoder, as one graph without past key values."""
    torch = import_module("torch")

    class Step(torch.nn.Module):
        def forward(self, input_ids: Any, attention_mask: Any, decoder_input_ids: Any) -> Any:
            taken = {"input_ids": input_ids, "attention_mask": attention_mask, "decoder_input_ids": decoder_input_ids}
            return model(**taken, use_cache=False).logits

    ids, begun = torch.arange(12).reshape(2, 6) % len(WORDS), torch.arange(6).reshape(2, 3) % len(WORDS)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": begun}
    lengths = {"input_ids": "sequence", "attention_mask": "sequence", "decoder_input_ids": "begun"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # axes of one name
        torch.onnx.export(
            Step().eval(), (), file, kwargs=inputs, dynamo=True, input_names=list(inputs), output_names=["logits"],
            dynamic_shapes={name: {0: "batch", 1: length} for name, length in lengths.items()}, external_data=False,
            verbose=False,
        )  # fmt: skip
    return file


def greedy_steps(model: Any, ids: NDArray[np.int64], count: int) -> list[tuple[dict[str, Any], Any]]:
    """Return the inputs and the logits of each step that makes the likeliest text for one row of tokens."""
    torch = import_module("torch")
    begun, steps = np.zeros((1, 1), np.int64), list[tuple[dict[str, Any], Any]]()
    for _ in range(count):
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "decoder_input_ids": begun}
        with torch.no_grad():
            logits = model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits.numpy()
        steps.append((inputs, logits))
        begun = np.concatenate([begun, logits[:, -1:].argmax(axis=2)], axis=1)
    return steps


async def test_steps_of_a_decoder_are_queries_of_tensors(site: Site, producer: Producer, tmp_path: Path) -> None:
    model = made_model(tmp_path / "model", "T5ForConditionalGeneration", "T5Config", **T5)
    random = np.random.default_rng(0)
    ids, begun = random.integers(2, len(WORDS), (40, 6)), random.integers(2, len(WORDS), (40, 3))
    rows = {"input_ids": ids, "attention_mask": np.ones_like(ids), "decoder_input_ids": begun}
    np.savez(tmp_path / "rows.npz", allow_pickle=False, **rows)
    await registered(site, exported_step(tmp_path / "step.onnx", model), tmp_path / "rows.npz", output="logits")
    steps = [step for length in (4, 9) for step in greedy_steps(model, ids[:1].repeat(2, axis=1)[:, :length], 5)]
    sent = [(1, asked(inputs)) for inputs, _ in steps]
    for (_, wanted), outputs in zip(steps, await answers(site, producer, sent), strict=True):
        np.testing.assert_allclose(outputs["logits"], wanted, atol=1e-4)
