"""Torchvision's architectures as ONNX files; in torch's environment: `python -m bench.zoo.models FOLDER COUNT`.

Weights are random, from one seed, because no package contains the trained ones; latency does not depend on them.
Accuracy is the one that torchvision publishes for its own weights. Images are 64 pixels wide instead of 224, a twelfth
of the computation, so that all can be measured within the hour on two cores. Existing files are kept.
"""

import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec

PIXELS: Final = 64
COUNT: Final = 45
"""One more than INFaaS registers, for the same number of variants: 270. Some variants are refused, because with random
weights a quantised one often answers differently from its source."""
_INDEX: Final = "models.json"
_OPSET: Final = 17
_SEED: Final = 0
_LARGER_INPUTS: Final = ("alexnet", "inception_v3", "maxvit_t")
"""Architectures that reject such small images, or cannot be exported for them."""


class ZooArchitecture(msgspec.Struct, frozen=True):
    """Architecture of torchvision."""

    name: str
    accuracy: float
    """Published top-1 accuracy on ImageNet, 0..1."""
    parameters: int

    def file(self, folder: Path) -> Path:
        """Return its ONNX file."""
        return folder / f"{self.name}.onnx"


def read_architectures(folder: Path) -> list[ZooArchitecture]:
    """Read the index that `write_all` wrote, the smallest architecture first."""
    return msgspec.json.decode((folder / _INDEX).read_bytes(), type=list[ZooArchitecture])


def write_all(folder: Path, count: int) -> None:
    """Write the `count` architectures with the fewest parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = _smallest(count)
    for number, architecture in enumerate(chosen, 1):
        if not architecture.file(folder).exists():
            print(f"{number} of {count}: {architecture.name}", flush=True)
            _write(architecture, folder)
    (folder / _INDEX).write_bytes(msgspec.json.encode(chosen))


def _smallest(count: int) -> list[ZooArchitecture]:
    models: Any = import_module("torchvision.models")
    found = [_describe(models, name) for name in models.list_models(module=models) if name not in _LARGER_INPUTS]
    return sorted(found, key=lambda architecture: architecture.parameters)[:count]


def _describe(models: Any, name: str) -> ZooArchitecture:
    meta = models.get_model_weights(name).DEFAULT.meta
    return ZooArchitecture(name.replace("_", "-"), meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100, meta["num_params"])


def _write(architecture: ZooArchitecture, folder: Path) -> None:
    torch: Any = import_module("torch")
    torch.manual_seed(_SEED)
    partial = folder / ".partial"
    images = torch.randn(2, 3, PIXELS, PIXELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and ten times as fast as its replacement
        model = _make(architecture.name.replace("-", "_"))
        torch.onnx.export(
            model, (images,), str(partial), dynamo=False, opset_version=_OPSET, input_names=["image"],
            output_names=["scores"], dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
        )  # fmt: skip
    partial.replace(architecture.file(folder))


def _make(name: str) -> Any:
    models: Any = import_module("torchvision.models")
    options: dict[str, Any] = {"image_size": PIXELS} if name.startswith("vit_") else {}
    return models.get_model(name, weights=None, **options).eval()


if __name__ == "__main__":
    write_all(Path(sys.argv[1]), int(sys.argv[2]))
