"""Tests of processing around models: texts and images are registered, placed and queried; invalid inputs fail alone."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from broker.kafka.topics import TopicSpec, ensure_system_topics, ensure_topics
from broker.producing.producer import Producer
from registry.artifacts import ArtifactStore
from registry.register import register
from registry.request import Registration
from schemas import headers as h
from schemas.oip import decode_response
from schemas.rows.catalog import DecodeImage, Processing, Softmax, Tokenise, TopClasses
from store.registry import get_architecture, get_profile, get_task, list_variants
from tests.integration.workers.conftest import PARTITIONS, Site, results_of
from tests.model_files import Quiet
from tests.processing_files import encoded_image, image_model, text_model, write_tokenizer

TEXTS = ("good", "a very bad film", "good good film", "bad")
LABELS = (1, 0, 1, 0)


async def registered(site: Site, model: Path, processing: Processing, samples: Path) -> str:
    """Register a model as the site's only variant; return the name of its architecture."""
    architecture = site.variant.split(".")[0]
    request = Registration(
        architecture=architecture,
        task=site.task,
        file=model,
        validation=samples,
        processing=processing,
        max_batch=8,
        partitions=PARTITIONS,
        variants=("onnx-fp32",),
    )
    await ensure_system_topics(site.kafka)
    await ensure_topics(site.kafka, [TopicSpec(site.replies)])
    await register(request, site.pool, site.kafka, ArtifactStore(site.home / "artifacts"), Quiet())
    return architecture


def labels_file(folder: Path) -> str:
    file = folder / "labels.txt"
    file.write_text("negative\npositive\n")
    return str(file)


@pytest.fixture
async def texts(site: Site, tmp_path: Path) -> Site:
    """Register a variant that takes texts of at most 64 tokens; return the site."""
    samples = tmp_path / "texts.npz"
    np.savez(samples, text=np.array(TEXTS * 10), label=np.array(LABELS * 10))
    step = Tokenise(tokenizer=str(write_tokenizer(tmp_path / "tokenizer.json")), max_tokens=64)
    after = (Softmax(), TopClasses(labels=labels_file(tmp_path)))
    processing = Processing(before=step, after=after)
    await registered(site, text_model(tmp_path / "model.onnx"), processing, samples)
    return site


def asked(name: str, *values: str) -> bytes:
    tensor = {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": list(values)}
    return msgspec.json.encode({"inputs": [tensor]})


async def test_registered_task_describes_client_inputs(texts: Site, tmp_path: Path) -> None:
    task = await get_task(texts.pool, texts.task)
    (variant,) = await list_variants(texts.pool, task=texts.task)
    architecture = await get_architecture(texts.pool, variant.architecture)
    profile = await get_profile(texts.pool, variant.name)
    assert task is not None
    assert profile is not None
    assert architecture is not None
    assert architecture.processing is not None
    assert [(spec.name, spec.datatype, spec.shape) for spec in task.inputs] == [("text", "BYTES", (-1,))]
    assert [(spec.name, spec.shape) for spec in task.outputs] == [("scores", (-1, 2)), ("label", (-1, 1))]
    assert task.classes == ("negative", "positive"), "as its labels name them"
    assert (profile.accuracy, variant.mixes_lengths) == (1.0, True)
    kept = architecture.processing
    assert [spec.name for spec in kept.tensors] == ["input_ids", "attention_mask"]
    artifacts = ArtifactStore(texts.home / "artifacts")
    assert isinstance(kept.before, Tokenise)
    assert artifacts.path(kept.before.tokenizer).read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


async def test_invalid_text_fails_alone(texts: Site, producer: Producer) -> None:
    async with results_of(texts) as results, texts.worker("cpu-0"):
        await texts.place("cpu-0", [0])
        two = [(h.BATCH, b"2")]
        for number in range(12):
            good = asked("text", "a good film", "very bad " * (number + 1))
            await texts.ask_soon(producer, f"good{number}", good, two)
            await texts.ask_soon(producer, f"long{number}", asked("text", "film", "film " * (65 + number)), two)
        found = await results.until(24)
    for number in range(12):
        answered, refused = found[f"good{number}"], found[f"long{number}"]
        outputs = decode_response(answered.value).outputs
        assert outputs["label"].tolist() == [[b"positive"], [b"negative"]]
        np.testing.assert_allclose(outputs["scores"].sum(axis=1), 1.0, rtol=1e-5)
        assert refused.status == "invalid_request"
        assert f"has {65 + number} tokens, but at most 64" in str(refused.error())


async def test_invalid_image_fails_alone(site: Site, producer: Producer, tmp_path: Path) -> None:
    brightness = np.arange(0, 240, 12, dtype=np.uint8)
    files = [encoded_image(np.full((9, 7, 3), value, np.uint8)) for value in brightness]
    samples = tmp_path / "images.npz"
    np.savez(samples, image=np.array(files, dtype="S"), label=(brightness > 127).astype(int))
    processing = Processing(before=DecodeImage(width=4, height=4, channels="grey"), after=(TopClasses(),))
    await registered(site, image_model(tmp_path / "image.onnx"), processing, samples)
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0", [0])
        for number, file in enumerate(files):
            size = {"binary_data_size": len(file) + 4}
            tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": size}
            head = msgspec.json.encode({"inputs": [tensor]})
            headers = [("inference-header-content-length", str(len(head)).encode())]
            value = head + len(file).to_bytes(4, "little") + file
            await site.ask_soon(producer, f"q{number}", value, headers)
        await site.ask_soon(producer, "broken", asked("image", "no image"))
        found = await results.until(len(files) + 1)
    for number, value in enumerate(brightness):
        assert decode_response(found[f"q{number}"].value).outputs["class"].tolist() == [[int(value > 127)]]
    assert "cannot be decoded as PNG or JPEG" in str(found["broken"].error())
