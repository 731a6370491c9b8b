"""Tests of finding the files that registered variants need."""

from pathlib import Path

import msgspec
from msgspec.structs import replace

from registry.artifacts import ArtifactStore
from registry.removal.unused_files import files_of
from runtimes.composite import (
    CASCADE,
    CHAIN,
    CascadeDocument,
    ChainDocument,
    CompositeDocument,
    ConfidenceMeasure,
    Stage,
)
from tests.example_rows import a_variant

LEAVES = tuple(letter * 64 for letter in "abc")


def _stage(runtime: str, artifact: str) -> Stage:
    return Stage(variant="gone.onnx-fp32.cpu", runtime=runtime, precision="fp32", artifact=artifact)


def test_files_of_includes_files_of_nested_composites(tmp_path: Path) -> None:
    """A chain still needs the files of its cascade stage after the cascade itself is unregistered."""
    artifacts = ArtifactStore(tmp_path / "artifacts")

    def kept(document: CompositeDocument) -> str:
        file = tmp_path / "document"
        file.write_bytes(msgspec.json.encode(document))
        return artifacts.put(file)

    cascade = CascadeDocument(
        stages=(_stage("onnx", LEAVES[0]), _stage("onnx", LEAVES[1])), thresholds=(0.9,), output="scores",
        measure=ConfidenceMeasure.PROBABILITY,
    )  # fmt: skip
    within = kept(cascade)
    whole = kept(ChainDocument(stages=(_stage(CASCADE, within), _stage("onnx", LEAVES[2])), feeds=({},)))
    chain = replace(a_variant("both.chain.cpu", runtime=CHAIN), artifact=whole)
    assert files_of([chain], [], artifacts) == {whole, within, *LEAVES}
