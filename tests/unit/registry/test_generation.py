"""Tests of the registration of language models: labelled prompts, measures, quantisation and the latency of batches."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from registry.labelled_files import read_rows
from registry.pipeline.generation_timing import batch_latencies, cascade_profile
from registry.pipeline.generators.gguf import requantise
from registry.pipeline.measurement import Measurement, with_escalated_share
from registry.pipeline.source_format import SourceFormat, source_format, weights_precision
from registry.plan import recipes_of
from registry.quality import CONTAINS, EXACT_MATCH, guess_measure, quality
from runtimes.gguf_header import read_gguf_header
from schemas import generation
from schemas.errors import InvalidRequest
from schemas.generation import GenerationProfile, PrefillTime, StepTime
from schemas.latency import fit_latency
from schemas.tensors import bytes_array
from tests.gguf_models import write_gguf

PROFILE = GenerationProfile(
    context_tokens=100,
    sequences=4,
    prefill=(PrefillTime(10, 0.1, 0.2), PrefillTime(20, 0.2, 0.4)),
    step=(StepTime(1, 0.01, 0.02), StepTime(4, 0.03, 0.06)),
    prompt_tokens=15,
    answer_tokens=50,
    bytes_per_token=4.0,
)


def test_batch_latencies_are_prompts_and_steps() -> None:
    found = [(one.batch, round(one.p50_s, 6), round(one.p99_s, 6)) for one in batch_latencies(PROFILE)]
    assert found == [(1, 0.65, 1.3), (4, 2.1, 4.2)]
    assert all(one.mean_s is None for one in batch_latencies(PROFILE))


def test_profile_of_cascade_shares_cores_between_stages() -> None:
    draft = replace(PROFILE, step=(StepTime(1, 0.001, 0.002), StepTime(4, 0.009, 0.009)), answer_tokens=60)
    made = cascade_profile(draft, PROFILE)
    assert made.draft is not None
    assert made.step[0] == StepTime(1, 0.01, 0.02)
    assert made.step[1].p50_s == pytest.approx(2 * (0.01 + 0.02 * 2 / 3))
    assert made.step[1].p99_s == pytest.approx(2 * made.step[1].p50_s)
    assert made.draft.step[1].p50_s == pytest.approx(2 * (0.001 + 0.008 * 2 / 3))
    assert (made.answer_tokens, made.escalated) == (60, 1.0)


def test_batch_latencies_of_cascade_are_mean_and_promise() -> None:
    made = replace(PROFILE, draft=PROFILE, escalated=0.25)
    (one, _) = batch_latencies(made)
    assert (one.p50_s, one.p99_s, one.mean_s) == pytest.approx((1.3, 2.6, 0.65 * 1.25))


def test_share_that_escalates_changes_mean_of_measurement() -> None:
    made = replace(PROFILE, draft=PROFILE)
    latency = batch_latencies(made)
    measured = Measurement("a", 1.0, 1, latency, fit_latency(latency), generation=made)
    found = with_escalated_share(measured, 0.5)
    assert found.generation is not None
    assert found.generation.escalated == 0.5
    assert found.latency[0].typical_s == pytest.approx(0.65 * 1.5)
    assert found.latency[0].promised_s == latency[0].promised_s


def test_quality_of_answers_ignores_case_punctuation_and_articles() -> None:
    answers = bytes_array(["The capital is Paris.", "paris!", "A Parisian cafe", "It is four, or 4.0?"])
    labels = bytes_array(["Paris", "Paris", "Paris", "4\nfour"])
    assert quality(CONTAINS, answers, labels) == 0.75
    assert quality(EXACT_MATCH, answers, labels) == 0.25
    with pytest.raises(InvalidRequest, match="must be texts"):
        quality(CONTAINS, np.ones(4), labels)


def test_guess_measure_of_answers_is_contains() -> None:
    text = next(spec for spec in generation.OUTPUTS if spec.name == generation.TEXT_OUTPUT)
    assert guess_measure(text, np.array(["a"], object)).measure == CONTAINS


def test_read_rows_takes_prompts_and_chats(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = ['{"prompt": "1 + 1 =", "answer": ["2", "two"]}', '{"messages": [{"role": "user"}], "answer": "x"}'] * 5
    file.write_text("\n".join(rows))
    found = read_rows(file, generation.INPUTS, 100)
    assert found.inputs["text_input"].tolist()[:2] == [b"1 + 1 =", b'[{"role":"user"}]']
    assert found.labels is not None
    assert found.labels.tolist()[:2] == ["2\ntwo", "x"]


@pytest.mark.parametrize(
    "row", ["[1]", '{"answer": "x"}', '{"prompt": "a", "messages": [{}]}', '{"prompt": "a", "b": 1}']
)
def test_read_rows_refuses_other_rows(tmp_path: Path, row: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{row}\n" * 10)
    with pytest.raises(InvalidRequest, match=r"rows\.jsonl"):
        read_rows(file, generation.INPUTS, 100)


def test_requantise_writes_loadable_format(tmp_path: Path) -> None:
    source, target = write_gguf(tmp_path / "tiny.gguf"), tmp_path / "made.gguf"
    assert source_format(source) is SourceFormat.GGUF
    assert weights_precision(source, SourceFormat.GGUF) == "fp16"
    requantise(source, target, "q8-0")
    header = read_gguf_header(target)
    assert (header.precision, header.tensor_types) == ("q8-0", {0: 5, 8: 16})
    assert header.has_chat_template
    assert target.stat().st_size < source.stat().st_size


@pytest.mark.parametrize(
    ("precision", "labels"),
    [
        ("q4-1", ["llamacpp-q4-1", "llamacpp-q8-0", "llamacpp-q4-0"]),
        ("q4-0", ["llamacpp-q4-0", "llamacpp-q8-0"]),
        ("fp32", ["llamacpp-fp32", "llamacpp-q8-0", "llamacpp-q4-0"]),
    ],
)
def test_recipes_of_gguf_name_formats_once(precision: str, labels: list[str]) -> None:
    assert [recipe.label for recipe in recipes_of(SourceFormat.GGUF, precision)] == labels
