"""Schema of the JSON in torch's exported programs, and the rewriting that reduces a program to data.

`torch.export.load` trusts its file. It evaluates expressions (`size_expression`), resolves operators as arbitrary
attributes of the module `torch`, imports modules named in output trees, and inserts names into the source of functions
that it compiles. So torch never gets a file from an untrusted author. This module parses the file by a schema and
writes it again: unknown fields, metadata and the code of guards are dropped, and everything else must match.

The schema follows `torch/_export/serde/schema.py` (version 8), without custom objects, tokens and user-defined
operators.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from runtimes.torch.size_expression import check_expression

_NAMESPACES: Final = frozenset({"aten", "prims", "quantized_decomposed", "torchvision"})
_OPERATOR: Final = re.compile(
    r"torch\.ops\.([a-z_]+)\.((?!__)\w+|__i?(?:and|or|xor|lshift|rshift)__)\.([A-Za-z]\w*)", re.ASCII
)
_HIGHER_ORDER: Final = frozenset(
    f"torch.ops.higher_order.{name}"
    for name in (
        *("cond", "map_impl", "while_loop", "scan", "associative_scan"),
        *("wrap_with_set_grad_enabled", "wrap_with_autocast"),
    )
)
_ON_SIZES: Final = frozenset(
    (
        *(f"_operator.{name}" for name in ("eq", "ne", "le", "ge", "lt", "gt", "neg", "pos", "mul", "add", "sub")),
        *(f"_operator.{name}" for name in ("floordiv", "mod", "pow", "truediv", "and_", "or_", "lshift", "rshift")),
        *(f"torch.sym_{name}" for name in ("not", "int", "float", "ite", "max", "min", "sqrt")),
        *("math.trunc", "torch._sym_sqrt"),
    )
)
_OF_FILES: Final = re.compile(r"from_file|.*(?:save|load).*", re.ASCII)
_OF_OLD_MEMORY: Final = re.compile(r"_?(?:new_)?empty(?:_.*)?|_?resize.*", re.ASCII)
_MESSAGES: Final = re.compile(r"torch\.ops\.aten\._assert_(?:scalar|async)\.\w+", re.ASCII)
_NO_TEXT: Final = re.compile(r"[^A-Za-z0-9_.,:;<>= +-]")
_LONGEST_TEXT: Final = 500

_Name: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\Z", max_length=500)]
_Path: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.@]*\Z", max_length=2000)]
_Symbol: TypeAlias = Annotated[str, Meta(pattern=r"\A(?!.*\d{7})[A-Za-z0-9_*/%+(),. -]+\Z", max_length=200)]
"""Symbol, or product of one, with a known range. Torch counts up to its number, so that has at most six digits."""
_Text: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.,:;<>= +-]*\Z", max_length=_LONGEST_TEXT)]
"""Text without special characters: it is safe in every quoting of the Python and C++ sources that torch generates."""
_Float: TypeAlias = float | Literal["Infinity", "-Infinity", "NaN"]


class _Dropped:
    """Field that torch requires, whose content is dropped."""


class _Choice(Struct, omit_defaults=True):
    """Union of torch's schema: an object with exactly one of the fields."""

    def __post_init__(self) -> None:
        if sum(getattr(self, name) is not UNSET for name in self.__struct_fields__) != 1:
            raise ValueError(f"a value must be one of: {', '.join(self.__struct_fields__)}")


class _Fields(Struct, omit_defaults=True):
    """Record of torch's schema; fields without a value are omitted."""


# -- sizes -------------------------------------------------------------------------------------------------------------
class _Hint(_Choice):
    as_int: int | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET
    as_float: _Float | UnsetType = UNSET


class _Expression(_Fields):
    expr_str: str
    hint: _Hint | None = None

    def __post_init__(self) -> None:
        check_expression(self.expr_str)


class _Size(_Choice):
    as_expr: _Expression | UnsetType = UNSET
    as_int: int | UnsetType = UNSET


class _SizeFloat(_Choice):
    as_expr: _Expression | UnsetType = UNSET
    as_float: _Float | UnsetType = UNSET


class _SizeBool(_Choice):
    as_expr: _Expression | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET


class _Device(_Fields):
    type: Annotated[str, Meta(pattern=r"\A[a-z]{1,16}\Z")]
    index: int | None = None


class _Tensor(_Fields):
    dtype: int
    sizes: list[_Size]
    requires_grad: bool
    device: _Device
    strides: list[_Size]
    storage_offset: _Size
    layout: int


# -- arguments ---------------------------------------------------------------------------------------------------------
class _IntArgument(_Choice):
    as_name: _Name | UnsetType = UNSET
    as_int: int | UnsetType = UNSET


class _FloatArgument(_Choice):
    as_name: _Name | UnsetType = UNSET
    as_float: _Float | UnsetType = UNSET


class _BoolArgument(_Choice):
    as_name: _Name | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET


class _TensorArgument(_Fields):
    name: _Name


class _OptionalTensor(_Choice):
    as_tensor: _TensorArgument | UnsetType = UNSET
    as_none: bool | UnsetType = UNSET


class _GraphArgument(_Fields):
    name: _Name
    graph: "_Graph"


class _Complex(_Fields):
    real: _Float
    imag: _Float


class _Argument(_Choice):
    as_none: bool | UnsetType = UNSET
    as_tensor: _TensorArgument | UnsetType = UNSET
    as_tensors: list[_TensorArgument] | UnsetType = UNSET
    as_int: int | UnsetType = UNSET
    as_ints: list[int] | UnsetType = UNSET
    as_float: _Float | UnsetType = UNSET
    as_floats: list[_Float] | UnsetType = UNSET
    as_string: _Text | UnsetType = UNSET
    as_strings: list[_Text] | UnsetType = UNSET
    as_sym_int: _IntArgument | UnsetType = UNSET
    as_sym_ints: list[_IntArgument] | UnsetType = UNSET
    as_scalar_type: int | UnsetType = UNSET
    as_memory_format: int | UnsetType = UNSET
    as_layout: int | UnsetType = UNSET
    as_device: _Device | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET
    as_bools: list[bool] | UnsetType = UNSET
    as_sym_bool: _BoolArgument | UnsetType = UNSET
    as_sym_bools: list[_BoolArgument] | UnsetType = UNSET
    as_graph: _GraphArgument | UnsetType = UNSET
    as_optional_tensors: list[_OptionalTensor] | UnsetType = UNSET
    as_sym_float: _FloatArgument | UnsetType = UNSET
    as_sym_floats: list[_FloatArgument] | UnsetType = UNSET
    as_optional_tensor: _OptionalTensor | UnsetType = UNSET
    as_complex: _Complex | UnsetType = UNSET
    as_nested_tensors: list[list[_TensorArgument]] | UnsetType = UNSET
    as_int_lists: list[list[int]] | UnsetType = UNSET
    as_float_lists: list[list[_Float]] | UnsetType = UNSET


class _NodeArgument(_Argument):
    as_string: str | UnsetType = UNSET


class _NamedArgument(_Fields):
    name: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_]*\Z", max_length=500)]
    arg: _NodeArgument
    kind: int | None = None


# -- the graph ---------------------------------------------------------------------------------------------------------
class _Node(Struct):
    target: str
    inputs: list[_NamedArgument]
    outputs: list[_Argument]
    metadata: _Dropped = msgspec.field(default_factory=_Dropped)
    is_hop_single_tensor_return: bool | None = None
    name: _Name | None = None

    def __post_init__(self) -> None:
        _check_operator(self.target)
        for given in self.inputs:
            text = given.arg.as_string
            if text is UNSET:
                continue
            plain = _NO_TEXT.sub(" ", text)[:_LONGEST_TEXT]
            if text != plain and not _MESSAGES.fullmatch(self.target):
                raise ValueError(f"{text[:80]!r} is not a valid argument of {self.target[:120]!r}")
            given.arg.as_string = plain


class _Graph(_Fields):
    inputs: list[_Argument]
    outputs: list[_Argument]
    nodes: list[_Node]
    tensor_values: dict[_Name, _Tensor]
    sym_int_values: dict[_Name, _Size]
    sym_bool_values: dict[_Name, _SizeBool]
    is_single_tensor_return: bool | UnsetType = UNSET
    sym_float_values: dict[_Name, _SizeFloat] | UnsetType = UNSET


class _Given(_Fields):
    arg: _Argument


class _Parameter(_Fields):
    arg: _TensorArgument
    parameter_name: _Path


class _Buffer(_Fields):
    arg: _TensorArgument
    buffer_name: _Path
    persistent: bool | UnsetType = UNSET


class _Constant(_Fields):
    arg: _TensorArgument
    tensor_constant_name: _Path


class _ConstantValue(_Choice):
    as_none: bool | UnsetType = UNSET
    as_int: int | UnsetType = UNSET
    as_float: _Float | UnsetType = UNSET
    as_string: _Text | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET


class _ConstantInput(_Fields):
    name: _Name
    value: _ConstantValue


class _Input(_Choice):
    user_input: _Given | UnsetType = UNSET
    parameter: _Parameter | UnsetType = UNSET
    buffer: _Buffer | UnsetType = UNSET
    tensor_constant: _Constant | UnsetType = UNSET
    constant_input: _ConstantInput | UnsetType = UNSET


class _MutatedInput(_Fields):
    arg: _TensorArgument
    user_input_name: _Name


class _Output(_Choice):
    user_output: _Given | UnsetType = UNSET
    buffer_mutation: _Buffer | UnsetType = UNSET
    user_input_mutation: _MutatedInput | UnsetType = UNSET


class _Signature(_Fields):
    input_specs: list[_Input]
    output_specs: list[_Output]


class _Range(Struct):
    min_val: int | None
    max_val: int | None


class _Tree(Struct):
    type: Literal["builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"] | None
    context: str | None
    children_spec: list["_Tree"]

    def __post_init__(self) -> None:
        if self.context is not None:
            keys = msgspec.json.decode(self.context, type=list[_Text] | None)
            self.context = msgspec.json.encode(keys).decode()


class _CallSignature(_Fields):
    inputs: list[_Argument]
    outputs: list[_Argument]
    in_spec: str
    out_spec: str
    forward_arg_names: list[_Name] | None = None

    def __post_init__(self) -> None:
        self.in_spec, self.out_spec = _rewritten_tree(self.in_spec, inputs=True), _rewritten_tree(self.out_spec)


class _Call(_Fields):
    fqn: _Path
    signature: _CallSignature | None = None


class _GraphModule(_Fields):
    graph: _Graph
    signature: _Signature
    module_call_graph: list[_Call]


class _Version(_Fields):
    major: int
    minor: int


class _Program(_Fields):
    graph_module: _GraphModule
    opset_version: dict[_Text, int]
    range_constraints: dict[_Symbol, _Range]
    schema_version: _Version
    verifiers: list[_Name] = []
    torch_version: _Text | UnsetType = UNSET


# -- stored tensors ----------------------------------------------------------------------------------------------------
class _Payload(_Fields):
    path_name: Annotated[str, Meta(pattern=r"\A(?:weight|tensor)_\d+\Z")]
    is_param: bool
    use_pickle: Literal[False]
    tensor_meta: _Tensor


class _Payloads(_Fields):
    config: dict[_Path, _Payload]


def rewritten_graph(content: bytes) -> bytes:
    """Return the JSON of a program, rewritten to hold only data that this schema knows.

    Raises:
        ValueError: it holds anything else, is malformed (`msgspec.DecodeError`), or is nested too deeply.
    """
    return _rewritten(content, _Program)


def rewritten_payloads(content: bytes) -> bytes:
    """Return the JSON that lists the stored tensors, rewritten; raises the errors of `rewritten_graph`."""
    return _rewritten(content, _Payloads)


def _rewritten(content: bytes, kind: type[Struct]) -> bytes:
    try:
        return msgspec.json.encode(msgspec.json.decode(content, type=kind, dec_hook=_drop), enc_hook=_empty)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _drop(_kind: type, _value: object) -> _Dropped:
    return _Dropped()


def _empty(_value: object) -> Mapping[str, Any]:
    return {}


def _rewritten_tree(text: str, *, inputs: bool = False) -> str:
    """Return a checked description of nested inputs or outputs. Torch puts names of inputs into source code."""
    version, tree = msgspec.json.decode(text, type=tuple[Literal[1], _Tree])
    if inputs:
        for child in tree.children_spec:
            msgspec.json.decode(child.context or "null", type=list[_Name] | None)
    return msgspec.json.encode((version, tree)).decode()


def _check_operator(target: str) -> None:
    """Raise ValueError unless the target is an operator that only computes on its arguments."""
    if target in _ON_SIZES or target in _HIGHER_ORDER:
        return
    found = _OPERATOR.fullmatch(target)
    if found is None or found[1] not in _NAMESPACES:
        raise ValueError(f"{target[:120]!r} is not an operator that a program may call")
    if _OF_FILES.fullmatch(found[2]):
        raise ValueError(f"{target[:120]!r} reads or writes files, which a program may not")
    if _OF_OLD_MEMORY.fullmatch(found[2]):
        raise ValueError(
            f"{target[:120]!r} returns uninitialised memory: export the program with zeros or a value instead"
        )
