"""Replaces ONNX's `ZipMap`, the last operator of converted scikit-learn models: a list of maps from class to score.

Such a list cannot be batched. The scores behind it are served instead, and its class names are kept.
"""

from typing import Any

from onnx import TensorProto, helper


def unzip_maps(graph: Any) -> tuple[str, ...]:
    """Replace maps by scores; return the names of the classes, or an empty tuple if there were no maps."""
    classes: tuple[str, ...] = ()
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        output = next((value for value in graph.output if value.name == node.output[0]), None)
        if output is None:
            continue
        names = [_value_of(attribute) for attribute in node.attribute if attribute.name.startswith("classlabels")]
        classes = tuple(str(name) for name in (names[0] if names else ()))
        scores = helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["batch", len(classes) or "classes"])
        output.CopyFrom(scores)
        identity = helper.make_node("Identity", [node.input[0]], [output.name])
        graph.node.remove(node)
        graph.node.append(identity)
    return classes


def _value_of(attribute: Any) -> list[str]:
    value = helper.get_attribute_value(attribute)
    return [item.decode() if isinstance(item, bytes) else str(item) for item in value]
