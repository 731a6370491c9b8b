"""Builds MiniLM models as ONNX graphs without torch: two sentiment classifiers, and an encoder of sentences.

The weights of the classifiers are packed. The pack (`data/pack_l36.npz`, 26 MB instead of 160) holds one array per
weight: two-dimensional ones as INT8 rows `|q` with an FP16 scale per row `|s`, all others as FP16. Both models share
the word embeddings. The names are those of BERT's state dict, with the prefix `shared/` or `l<depth>/`.

The graph is a BERT encoder of `depth` layers and the mean over the tokens without padding. A classifier adds a linear
head; an encoder of sentences scales the mean to length 1, and counts the tokens. Batch and length are dynamic.
Positions are sliced from their table by the length, not gathered by a range: onnxruntime 1.32 fuses the gather into an
operator that fails at run time.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from zoo.samples import DATA
from zoo.whole_file import whole_file

_PACK: Final = DATA / "pack_l36.npz"
_OPSET: Final = 17
_IR_VERSION: Final = 9
_WIDTH: Final = 384
_HEADS: Final = 12
_HEAD_WIDTH: Final = _WIDTH // _HEADS
_EPSILON: Final = 1e-12
_MASKED: Final = -10000.0

Weights = dict[str, NDArray[np.float32]]


def build_minilm(depth: int, target: Path) -> None:
    """Write the model of `depth` layers to `target`, atomically. Blocks for about a second.

    Raises:
        OperatorError: the file cannot be written.
    """
    graph = _Graph(unpack(depth))
    graph.classifier(depth)
    _save(graph, f"minilm-l{depth}", target)


def build_sentence_encoder(weights: Weights, depth: int, target: Path) -> None:
    """Write an encoder of sentences to `target`, atomically, from weights named as in BERT's state dict; blocks.

    Its outputs are `embedding` [batch, 384] of length 1, and `tokens` [batch, 1], the tokens of each text.

    Raises:
        OperatorError: the file cannot be written.
    """
    graph = _Graph(weights)
    graph.sentence_encoder(depth)
    _save(graph, f"sentence-minilm-l{depth}", target)


def _save(graph: "_Graph", name: str, target: Path) -> None:
    with whole_file(target) as partial:
        onnx.save(graph.model(name), partial)


def unpack(depth: int) -> Weights:
    """Return the FP32 weights of the model of `depth` layers."""
    weights: Weights = {}
    with np.load(_PACK) as pack:
        for key in pack.files:
            owner, _, name = key.partition("/")
            if owner not in ("shared", f"l{depth}") or name.endswith("|s"):
                continue
            array = pack[key].astype(np.float32)
            if name.endswith("|q"):
                array *= pack[f"{key[:-2]}|s"].astype(np.float32)
            weights[name.removesuffix("|q")] = array
    return weights


class _Graph:
    """An ONNX graph under construction; each method adds nodes and returns the name of their output."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._outputs: list[Any] = []

    def classifier(self, depth: int) -> None:
        """Add a whole classifier, from `input_ids` and `attention_mask` to `logits`."""
        mean = self._encoded(depth)
        self._node("Gemm", [mean, self._weight("head_w"), self._weight("head_b")], "logits")
        self._output("logits", TensorProto.FLOAT, self._weights["head_b"].shape[0])

    def sentence_encoder(self, depth: int) -> None:
        """Add a whole encoder, from `input_ids` and `attention_mask` to `embedding` and `tokens`."""
        mean = self._encoded(depth)
        length = self._node("ReduceL2", [mean], "mean.length", axes=[-1], keepdims=1)
        length = self._node("Max", [length, self._number("least", _EPSILON)], "mean.divisor")
        self._node("Div", [mean, length], "embedding")
        self._output("embedding", TensorProto.FLOAT, _WIDTH)
        self._node("ReduceSum", ["attention_mask", self._integers("tokens.axis", [1])], "tokens", keepdims=1)
        self._output("tokens", TensorProto.INT64, 1)

    def _encoded(self, depth: int) -> str:
        """Add the encoder and the mean over its tokens."""
        hidden = self._embedding()
        mask = self._node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
        bias = self._attention_bias(mask)
        for layer in range(depth):
            hidden = self._layer(f"encoder.layer.{layer}", hidden, bias)
        return self._mean(hidden, mask)

    def _output(self, name: str, datatype: int, width: int) -> None:
        self._outputs.append(helper.make_tensor_value_info(name, datatype, ["batch", width]))

    def model(self, name: str) -> Any:
        """Return the finished model, checked."""
        ids, mask = (
            helper.make_tensor_value_info(text, TensorProto.INT64, ["batch", "tokens"])
            for text in ("input_ids", "attention_mask")
        )
        graph = helper.make_graph(self._nodes, name, [ids, mask], self._outputs, list(self._constants.values()))
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="infaas")
        onnx.checker.check_model(model)
        return model

    def _embedding(self) -> str:
        words = self._node("Gather", [self._weight("embeddings.word_embeddings.weight"), "input_ids"], "words")
        # All tokens have type 0, so its embedding is added to the position embeddings in advance.
        table = self._weights["embeddings.position_embeddings.weight"]
        table = table + self._weights["embeddings.token_type_embeddings.weight"][0]
        length = self._node("Shape", ["input_ids"], "length", start=1, end=2)
        zero = self._integers("zero", [0])
        positions = self._node("Slice", [self._constant("positions.table", table), zero, length, zero], "positions")
        return self._norm("embeddings.LayerNorm", self._node("Add", [words, positions], "embedded"))

    def _attention_bias(self, mask: str) -> str:
        """Add the attention bias of every head: 0 for a token, a large negative number for padding."""
        wide = self._node("Unsqueeze", [mask, self._integers("heads.axes", [1, 2])], "mask.wide")
        padding = self._node("Sub", [self._number("one", 1.0), wide], "mask.padding")
        return self._node("Mul", [padding, self._number("masked", _MASKED)], "attention.bias")

    def _layer(self, at: str, hidden: str, bias: str) -> str:
        context = self._attention(f"{at}.attention.self", hidden, bias)
        attended = self._linear(f"{at}.attention.output.dense", context)
        attended = self._node("Add", [attended, hidden], f"{at}.attended")
        attended = self._norm(f"{at}.attention.output.LayerNorm", attended)
        wide = self._gelu(f"{at}.gelu", self._linear(f"{at}.intermediate.dense", attended))
        narrow = self._linear(f"{at}.output.dense", wide)
        return self._norm(f"{at}.output.LayerNorm", self._node("Add", [narrow, attended], f"{at}.sum"))

    def _attention(self, at: str, hidden: str, bias: str) -> str:
        query = self._split(f"{at}.query", hidden, [0, 2, 1, 3])
        key = self._split(f"{at}.key", hidden, [0, 2, 3, 1])
        value = self._split(f"{at}.value", hidden, [0, 2, 1, 3])
        scores = self._node("MatMul", [query, key], f"{at}.scores")
        scores = self._node("Mul", [scores, self._number("scale", _HEAD_WIDTH**-0.5)], f"{at}.scaled")
        scores = self._node("Add", [scores, bias], f"{at}.biased")
        shares = self._node("Softmax", [scores], f"{at}.shares", axis=-1)
        context = self._node("MatMul", [shares, value], f"{at}.context")
        context = self._node("Transpose", [context], f"{at}.context.joined", perm=[0, 2, 1, 3])
        return self._node("Reshape", [context, self._integers("joined", [0, 0, _WIDTH])], f"{at}.output")

    def _split(self, at: str, hidden: str, order: list[int]) -> str:
        shape = self._integers("split", [0, 0, _HEADS, _HEAD_WIDTH])
        heads = self._node("Reshape", [self._linear(at, hidden), shape], f"{at}.heads")
        return self._node("Transpose", [heads], f"{at}.turned", perm=order)

    def _linear(self, at: str, value: str) -> str:
        weight = self._constant(f"{at}.weight.T", self._weights[f"{at}.weight"].T)
        product = self._node("MatMul", [value, weight], f"{at}.product")
        return self._node("Add", [product, self._weight(f"{at}.bias")], f"{at}.out")

    def _norm(self, at: str, value: str) -> str:
        inputs = [value, self._weight(f"{at}.weight"), self._weight(f"{at}.bias")]
        return self._node("LayerNormalization", inputs, f"{at}.out", axis=-1, epsilon=_EPSILON)

    def _gelu(self, at: str, value: str) -> str:
        """Add `x * (1 + erf(x / sqrt(2))) / 2`, in the form that onnxruntime recognises and fuses."""
        inner = self._node("Div", [value, self._number("sqrt2", 2**0.5)], f"{at}.inner")
        inner = self._node("Add", [self._node("Erf", [inner], f"{at}.erf"), self._number("one", 1.0)], f"{at}.gate")
        gated = self._node("Mul", [value, inner], f"{at}.gated")
        return self._node("Mul", [gated, self._number("half", 0.5)], f"{at}.out")

    def _mean(self, hidden: str, mask: str) -> str:
        places = self._node("Unsqueeze", [mask, self._integers("last", [-1])], "mask.tokens")
        axis = self._integers("tokens.axis", [1])
        kept = self._node("Mul", [hidden, places], "kept")
        total = self._node("ReduceSum", [kept, axis], "total", keepdims=0)
        count = self._node("ReduceSum", [places, axis], "count", keepdims=0)
        return self._node("Div", [total, count], "mean")

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _number(self, name: str, value: float) -> str:
        return self._constant(name, np.array(value, np.float32))

    def _integers(self, name: str, values: list[int]) -> str:
        return self._constant(name, np.array(values, np.int64))

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name
