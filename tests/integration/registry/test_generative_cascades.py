"""Tests of the registration of cascades of language models: calibration, measured profile, and the search for them."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from broker.kafka.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from registry.composites.cascades import register_cascade
from registry.composites.proposals import find_cascades
from registry.register import register
from registry.request import CascadeRequest, Registration
from runtimes.composite import CascadeDocument, ConfidenceMeasure, read_document
from runtimes.generative_cascade import GenerativeCascadeSession
from schemas.errors import InvalidRequest
from schemas.generation_model import GenerationModel
from schemas.latency import BatchLatency
from schemas.rows.catalog import Profile
from store.catalog import load_catalog
from store.pool import Pool
from store.registry import get_profile, get_variant, put_variant
from tests.gguf_models import ALL_KNOWN, counted, write_gguf
from tests.integration.runtimes.engines import answers_of
from tests.model_files import Quiet
from workers.serving.model import find_model, load_session

pytestmark = pytest.mark.needs_language_model

TASK, SMALL, LARGE = "counting", "small.llamacpp-fp16.cpu", "large.llamacpp-fp16.cpu"
KNOWN, ROWS, TOKENS = ord("a"), 230, 8
EASY, HARD = "R", "r"
"""Letters from which the models count to the end of the alphabet; the small one knows large letters only."""


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Return prompts of which the small model answers two of three, and the right answers."""
    letters = [EASY if number % 3 else HARD for number in range(ROWS)]
    rows = [{"prompt": f"{n} {letter}", "answer": counted(letter, TOKENS)} for n, letter in enumerate(letters)]
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.fixture
async def stages(
    labels: Path, tmp_path: Path, store_pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore
) -> tuple[Profile, Profile]:
    """Register a small model and a large one; return their profiles."""
    for name, known, layers in ((SMALL, KNOWN, 2), (LARGE, ALL_KNOWN, 24)):
        architecture, label, _ = name.split(".")
        file = write_gguf(tmp_path / f"{architecture}.gguf", layers=layers, counts=True, known=known, ends="Zz")
        request = Registration(
            architecture=architecture, task=TASK, file=file, validation=labels, sequences=2, context_tokens=256,
            variants=(label,),
        )  # fmt: skip
        await register(request, store_pool, kafka, artifacts, Quiet())
    small, large = [await get_profile(store_pool, name) for name in (SMALL, LARGE)]
    assert small is not None
    assert large is not None
    return small, large


async def test_cascade_is_calibrated_measured_and_answers_as_promised(
    stages: tuple[Profile, Profile],
    labels: Path,
    store_pool: Pool,
    kafka: KafkaSettings,
    artifacts: ArtifactStore,
    tmp_path: Path,
) -> None:
    small, large = stages
    assert small.accuracy == pytest.approx(2 / 3, abs=0.1)
    assert large.accuracy == 1.0
    request = CascadeRequest(task=TASK, first=SMALL, then=LARGE, validation=labels, min_accuracies=(1.0,))
    (made,) = await register_cascade(request, store_pool, kafka, artifacts, Quiet())
    assert made.calibrated is not None
    assert made.calibrated.escalated == pytest.approx(1 / 3, abs=0.1)
    variant, profile = made.variant, await get_profile(store_pool, made.variant.name)
    assert profile is not None
    assert (variant.runtime, variant.max_batch, profile.accuracy) == ("cascade", 2, 1.0)
    document = read_document(tmp_path / "artifacts" / variant.artifact)
    assert isinstance(document, CascadeDocument)
    assert (document.output, document.measure) == ("mean_logprob", ConfidenceMeasure.LOGPROB)
    generation = profile.generation
    assert generation is not None
    assert generation.draft is not None
    assert generation.escalated == pytest.approx(1 / 3, abs=0.1)
    assert generation.context_tokens == 256
    model = GenerationModel(generation)
    typical_s = profile.latency[0].typical_s
    assert model.token_s(offline=False) == pytest.approx(typical_s / generation.answer_tokens, rel=0.1)
    assert typical_s < profile.latency[0].promised_s
    assert profile.memory_bytes > max(small.memory_bytes, large.memory_bytes) / 2

    loaded = load_session(find_model(await load_catalog(store_pool), variant.name, 2), artifacts, 1)
    with loaded.resources:
        assert isinstance(loaded.session, GenerativeCascadeSession)
        easy, hard = answers_of(loaded.session, f"a {EASY}", f"a {HARD}", temperature=0, max_tokens=48)
        assert (easy.text, easy.draft_tokens) == (counted(EASY, TOKENS), None)
        assert (hard.text, hard.draft_tokens) == (counted(HARD, TOKENS), 48)


async def test_find_cascades_proposes_cheap_draft_before_large_model(
    stages: tuple[Profile, Profile], labels: Path, store_pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore
) -> None:
    for profile, seconds in zip(stages, (0.1, 1.0), strict=True):
        variant = await get_variant(store_pool, profile.variant)
        assert variant is not None
        await put_variant(store_pool, variant, replace(profile, latency=(BatchLatency(1, seconds, seconds),)))
    (found,) = await find_cascades(TASK, labels, None, store_pool, artifacts, Quiet())
    assert (found.first, found.then, found.beats) == (SMALL, LARGE, LARGE)
    assert found.point.accuracy == 1.0
    assert found.saving == pytest.approx(0.9 - found.point.escalated, abs=0.001)
    request = CascadeRequest(task=TASK, first=LARGE, then=SMALL, validation=labels)
    with pytest.raises(InvalidRequest, match="is no more accurate"):
        await register_cascade(request, store_pool, kafka, artifacts, Quiet())
