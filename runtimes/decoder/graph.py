"""Graph of a decoder in memory, and the keys and values that it takes and returns.

The keys and values of several answers are one array for each input, padded at the beginning to the longest answer:
`attention_mask` hides the padding, `position_ids` count from behind it. They stay on the device from one run to the
next, and pass through numpy only if an answer joins or leaves. On a CPU nothing is copied for that.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtimes.decoder.layout import LOGITS, read_layout
from runtimes.processing.steps import IDS, MASK, POSITIONS

KeyArrays = list[NDArray[Any]]
"""Keys and values of earlier tokens, [rows, heads, tokens, size], in the order of the graph's inputs."""
_CPU: Final = "cpu"
_DTYPES: Final[dict[str, Any]] = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
_TRIED_TOKENS: Final = (1, 2, 3, 4)
_TOLERANCE: Final = 0.05
"""Share of the range of logits by which they may differ; scales of dynamic INT8 depend on the tokens beside."""


class DecoderGraph:
    """Graph of a decoder; one thread at a time may compute with it."""

    def __init__(self, session: Any, device: str) -> None:
        """Take a session of onnxruntime. Raises `InvalidRequest` if its graph is not a decoder's."""
        self._session: Any = session
        self._device = device
        self._inputs = {node.name: node for node in session.get_inputs()}
        shapes = {name: node.shape for name, node in self._inputs.items()}
        self._layout = read_layout(shapes, [node.name for node in session.get_outputs()])

    @property
    def has_positions(self) -> bool:
        """True if rows may be padded, since the places of tokens are an input."""
        return self._layout.has_positions

    def nothing(self) -> KeyArrays:
        """Return the keys and values of one answer without tokens."""
        return self._zeros(1, 0)

    def bind(self, arrays: KeyArrays) -> list[Any]:
        """Return keys and values on the device."""
        import onnxruntime

        return [
            onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device, 0) for array in arrays
        ]

    def compute(self, tokens: Sequence[Sequence[int]], past: list[Any], pads: Sequence[int]) -> tuple[Any, list[Any]]:
        """Compute the next tokens of some answers.

        Args:
            tokens: as many for each answer.
            past: bound keys and values of their earlier tokens.
            pads: padding in these, for each answer.

        Returns:
            The logits behind the last token of each answer, [answers, vocabulary], and the new keys and values, bound.
        """
        ids, before = np.array(tokens, np.int64), past[0].shape()[2]
        places = np.arange(before + ids.shape[1]) - np.array(pads)[:, None]
        binding = self._session.io_binding()
        binding.bind_cpu_input(IDS, ids)
        binding.bind_cpu_input(MASK, (places >= 0).astype(np.int64))
        if self._layout.has_positions:
            binding.bind_cpu_input(POSITIONS, np.ascontiguousarray(places[:, before:]))
        for name, value in zip(self._layout.past, past, strict=True):
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(LOGITS, _CPU)
        for name in self._layout.present:
            binding.bind_output(name, self._device, 0)
        self._session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        return logits.numpy()[:, -1].astype(np.float32, copy=False), present

    def reserve(self, answers: int, tokens: int) -> None:
        """Allocate the memory of this many answers with this many tokens, by computing the last two tokens.

        onnxruntime keeps the memory, so that no answer fails later because others have grown.
        """
        before = self.bind([array + 1 for array in self._zeros(answers, tokens - 2)])  # zeros take no memory yet
        past = before
        for _ in range(2):
            _, past = self.compute([[0]] * answers, past, [0] * answers)

    def computes_pieces(self) -> bool:
        """Return true if a prompt in pieces gives the logits of the whole prompt: some graphs mask only whole ones."""
        past = self.bind(self.nothing())
        whole, _ = self.compute([_TRIED_TOKENS], past, [0])
        try:
            half = len(_TRIED_TOKENS) // 2
            _, past = self.compute([_TRIED_TOKENS[:half]], past, [0])
            pieced, _ = self.compute([_TRIED_TOKENS[half:]], past, [0])
        except Exception:  # noqa: BLE001 - onnxruntime raises any error for sizes that a graph does not take
            return False
        return bool(np.abs(whole - pieced).max() <= _TOLERANCE * np.ptp(whole))

    def close(self) -> None:
        """Free the graph."""
        self._session = None

    def _zeros(self, rows: int, tokens: int) -> KeyArrays:
        kinds = [_DTYPES[self._inputs[name].type] for name in self._layout.past]
        shapes = [(rows, heads, tokens, size) for heads, size in self._layout.shapes]
        return [np.zeros(shape, kind) for shape, kind in zip(shapes, kinds, strict=True)]


def rows_of(past: list[Any], pads: Sequence[int]) -> list[KeyArrays]:
    """Return the keys and values of each answer, without padding."""
    arrays = [value.numpy() for value in past]
    return [[array[row : row + 1, :, pad:] for array in arrays] for row, pad in enumerate(pads)]


def joined(rows: Sequence[KeyArrays]) -> tuple[KeyArrays, list[int]]:
    """Return the keys and values of several answers as one, and the padding of each."""
    lengths = [row[0].shape[2] for row in rows]
    pads = [max(lengths) - length for length in lengths]
    arrays: KeyArrays = []
    for parts in zip(*rows, strict=True):
        _, heads, _, size = parts[0].shape
        array = np.zeros((len(rows), heads, max(lengths), size), parts[0].dtype)
        for number, part in enumerate(parts):
            array[number, :, pads[number] :] = part[0]
        arrays.append(array)
    return arrays, pads


def first_tokens(arrays: KeyArrays, count: int) -> KeyArrays:
    """Return the keys and values of the first tokens of an answer."""
    return [array[:, :, :count] for array in arrays]
