"""Hypothesis strategies for protobuf messages, derived from their descriptors: every field with any valid value."""

from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_MAX_DEPTH: Final = 4


def _integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


_SCALARS: Final[dict[int, st.SearchStrategy[Any]]] = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: _integers(32, signed=True),
    FieldDescriptor.TYPE_INT64: st.integers(0, 4) | _integers(64, signed=True),
    FieldDescriptor.TYPE_UINT32: _integers(32, signed=False),
    FieldDescriptor.TYPE_UINT64: _integers(64, signed=False),
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=64),
}


def messages(descriptor: Descriptor, words: st.SearchStrategy[str], depth: int = 0) -> st.SearchStrategy[Message]:
    """Return a strategy for messages of this type; texts come from `words`, so that some name existing objects."""
    fields = {field.name: _values(field, words, depth) for field in descriptor.fields if _may_have(field, depth)}
    return st.fixed_dictionaries({}, optional=fields).map(lambda found: _built(descriptor, found))


def _may_have(field: FieldDescriptor, depth: int) -> bool:
    return field.message_type is None or depth < _MAX_DEPTH


def _values(field: FieldDescriptor, words: st.SearchStrategy[str], depth: int) -> st.SearchStrategy[Any]:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        value = inner.fields_by_name["value"]
        return st.dictionaries(words, _one(value, words, depth), max_size=3)
    one = _one(field, words, depth)
    return st.lists(one, max_size=4) if field.is_repeated else one


def _one(field: FieldDescriptor, words: st.SearchStrategy[str], depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, words, depth + 1)
    return words if field.type == FieldDescriptor.TYPE_STRING else _SCALARS[field.type]


def _built(descriptor: Descriptor, values: dict[str, Any]) -> Message:
    message = GetMessageClass(descriptor)()
    for name, value in values.items():
        field = descriptor.fields_by_name[name]
        if isinstance(value, dict):
            for key, entry in value.items():
                found = getattr(message, name)
                if isinstance(entry, Message):
                    found[key].CopyFrom(entry)
                else:
                    found[key] = entry
        elif field.is_repeated:
            getattr(message, name).extend(value)
        elif isinstance(value, Message):
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
    return message
