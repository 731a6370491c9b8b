"""Graph of a decoder in memory, and the keys and values that it takes and returns.

The keys and values of several answers are one array for each input, padded at the beginning to the longest answer:
`attention_mask` hides the padding, `position_ids` count from behind it. They stay on the device from one run to the
next, and pass through numpy only if an answer joins or leaves. A batch has memory of its own, allocated once: arrays
that grow by a token with each run would leave holes in any allocator's memory.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtimes.decoder.layout import LOGITS, read_layout
from runtimes.decoder.sampling import Logits
from runtimes.processing.steps import IDS, MASK, POSITIONS
from schemas.errors import InvalidRequest

KeyArrays = list[NDArray[Any]]
"""Keys and values of earlier tokens, [rows, heads, tokens, size], in the order of the graph's inputs."""
_CPU: Final = "cpu"
_DTYPES: Final[dict[str, Any]] = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
_TRIED: Final = (1, 2, 3, 4, 5, 6)
"""Tokens on which ways to compute are compared."""
_TOLERANCE: Final = 0.1
"""Share of the range of logits by which they may differ; scales of dynamic INT8 depend on the tokens beside."""
_ROUNDING: Final = 1e-3
"""The same, where the tokens beside are the same."""


class BoundKeys(NamedTuple):
    """Keys or values on the device: those of one input of the graph, at the beginning of some memory."""

    memory: Any
    shape: tuple[int, ...]

    def numpy(self) -> NDArray[Any]:
        """Return them as an array, on a CPU without a copy."""
        count = int(np.prod(self.shape))
        return self.memory.numpy().reshape(-1)[:count].reshape(self.shape)


class DecoderGraph:
    """Graph of a decoder; one thread at a time may compute with it."""

    def __init__(self, session: Any, device: str) -> None:
        """Take a session of onnxruntime. Raises `InvalidRequest` if its graph is not a decoder's."""
        self._session: Any = session
        self._device = device
        inputs = {node.name: node for node in session.get_inputs()}
        shapes = {name: node.shape for name, node in inputs.items()}
        self._layout = read_layout(shapes, [node.name for node in session.get_outputs()])
        kinds = [inputs[name].type for name in self._layout.past]
        if unknown := set(kinds) - set(_DTYPES):
            raise InvalidRequest(f"the graph's keys and values are {min(unknown)}: export it in FP32 or FP16")
        self._dtypes = [_DTYPES[kind] for kind in kinds]

    def zeros(self, rows: int, tokens: int) -> KeyArrays:
        """Return keys and values of this size."""
        shapes = [(rows, heads, tokens, size) for heads, size in self._layout.shapes]
        return [np.zeros(shape, dtype) for shape, dtype in zip(shapes, self._dtypes, strict=True)]

    def bind(self, arrays: KeyArrays) -> list[BoundKeys]:
        """Return keys and values on the device."""
        import onnxruntime

        on_device = onnxruntime.OrtValue.ortvalue_from_numpy
        return [BoundKeys(on_device(np.ascontiguousarray(one), self._device, 0), one.shape) for one in arrays]

    def compute(
        self,
        tokens: Sequence[Sequence[int]],
        past: list[BoundKeys],
        pads: Sequence[int],
        target: list[BoundKeys] | None = None,
    ) -> tuple[Logits, list[BoundKeys]]:
        """Compute the next tokens of some answers.

        Args:
            tokens: as many for each answer.
            past: keys and values of their earlier tokens.
            pads: padding in these, for each answer.
            target: memory for the new keys and values; None: new memory.

        Returns:
            The logits behind the last token of each answer, [answers, vocabulary], and the new keys and values.
        """
        ids, before = np.array(tokens, np.int64), past[0].shape[2]
        places = np.arange(before + ids.shape[1]) - np.array(pads)[:, None]
        given = {IDS: ids, MASK: (places >= 0).astype(np.int64)}
        if self._layout.has_positions:
            given[POSITIONS] = np.ascontiguousarray(places[:, before:])
        binding = self._session.io_binding()
        for name, array in given.items():
            binding.bind_cpu_input(name, array)
        for name, keys, dtype in zip(self._layout.past, past, self._dtypes, strict=True):
            binding.bind_input(name, self._device, 0, dtype, keys.shape, keys.memory.data_ptr())
        binding.bind_output(LOGITS, _CPU)
        shapes = [(len(ids), heads, places.shape[1], size) for heads, size in self._layout.shapes]
        memory = [None] * len(shapes) if target is None else [keys.memory for keys in target]
        for name, keys, dtype, shape in zip(self._layout.present, memory, self._dtypes, shapes, strict=True):
            if keys is None:
                binding.bind_output(name, self._device, 0)
            else:
                binding.bind_output(name, self._device, 0, dtype, shape, keys.data_ptr())
        self._session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        values = present if target is None else memory
        found = [BoundKeys(value, shape) for value, shape in zip(values, shapes, strict=True)]
        return logits.numpy()[:, -1].astype(np.float32, copy=False), found

    def computes_pieces(self) -> bool:
        """Return true if a prompt in pieces gives the logits of the whole prompt: some graphs mask only whole ones."""
        return _agree(self._pieced_and_whole, _TOLERANCE)

    def computes_padded(self) -> bool:
        """Return true if answers of different lengths may share a run: some graphs count places, or pad at the end."""
        return self._layout.has_positions and _agree(self._padded_in_two_ways, _ROUNDING)

    def _pieced_and_whole(self) -> tuple[Logits, Logits]:
        nothing, half = self.bind(self.zeros(1, 0)), len(_TRIED) // 2
        whole, _ = self.compute([_TRIED], nothing, [0])
        _, past = self.compute([_TRIED[:half]], nothing, [0])
        pieced, _ = self.compute([_TRIED[half:]], past, [0])
        return pieced, whole

    def _padded_in_two_ways(self) -> tuple[Logits, Logits]:
        """Return the logits of a padded row with other numbers in its padding, which the mask must hide, and with 0."""
        _, past = self.compute([_TRIED], self.bind(self.zeros(1, 0)), [0])
        (longer,) = rows_of(past, [0])
        arrays, pads = joined([longer, first_tokens(longer, 1)])
        zeros, _ = self.compute([_TRIED[:1]] * 2, self.bind(arrays), pads)
        for array in arrays:
            array[1, :, : pads[1]] = 1
        ones, _ = self.compute([_TRIED[:1]] * 2, self.bind(arrays), pads)
        return ones, zeros

    def close(self) -> None:
        """Free the graph."""
        self._session = None


def _agree(compute: Callable[[], tuple[Logits, Logits]], tolerance: float) -> bool:
    try:
        one, other = compute()
    except Exception:  # noqa: BLE001 - onnxruntime raises any error for sizes that a graph does not take
        return False
    return bool(np.abs(one - other).max() <= tolerance * np.ptp(other))


class KeyMemory:
    """Memory for the keys and values of a batch, allocated once: a step reads one half of it, and writes the other."""

    def __init__(self, graph: DecoderGraph, answers: int, tokens: int) -> None:
        """Allocate the memory of this many answers with this many tokens, and compute a step of that size."""
        rows = [array + 1 for array in graph.zeros(answers, tokens - 1)]  # zeros take no memory yet
        self._halves = [graph.bind([array + 1 for array in graph.zeros(answers, tokens)]) for _ in range(2)]
        graph.compute([[0]] * answers, graph.bind(rows), [0] * answers, self._halves[0])

    def other(self, past: list[BoundKeys]) -> list[BoundKeys]:
        """Return the half to write if `past` is read."""
        first, second = self._halves
        return second if past[0].memory is first[0].memory else first


def rows_of(past: list[BoundKeys], pads: Sequence[int]) -> list[KeyArrays]:
    """Return the keys and values of each answer, without padding."""
    arrays = [keys.numpy() for keys in past]
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
