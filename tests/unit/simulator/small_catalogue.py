"""A catalogue of one task with a fast and an accurate variant on cores."""

from schemas.latency import BatchLatency
from simulator.catalogue import Catalogue, CatalogueHardware, CatalogueVariant

CPU = CatalogueHardware(
    name="cpu", price_per_hour=0.36, memory_bytes=32 << 30, slots=4, threads=2, start_s=5.0, maximum=3,
    runtimes=("onnx",), source="a test",
)  # fmt: skip


def variant(architecture: str, accuracy: float, one_s: float, task: str = "digits") -> CatalogueVariant:
    """Return a variant whose batch of four takes three times as long as one input."""
    return CatalogueVariant(
        name=f"{architecture}.onnx-fp32.cpu", task=task, architecture=architecture, hardware="cpu", runtime="onnx",
        precision="fp32", max_batch=4, accuracy=accuracy, load_s=0.5, memory_bytes=1 << 20, threads=2,
        latency=(BatchLatency(1, one_s, 1.3 * one_s), BatchLatency(4, 3 * one_s, 4 * one_s)), source="a test",
    )  # fmt: skip


CATALOGUE = Catalogue(hardware=(CPU,), variants=(variant("mlp", 0.9, 0.003), variant("cnn", 0.97, 0.012)))
