"""Protobuf schemas as tables: the message classes of a few fields, without generated code.

The package name and the descriptor pool belong to costax alone, so that they cannot clash with other packages'
descriptors. The decoder skips fields that a schema does not name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD: Final = descriptor_pb2.FieldDescriptorProto
_TYPES: Final = {
    "int": _FIELD.TYPE_INT64,
    "uint": _FIELD.TYPE_UINT64,
    "bool": _FIELD.TYPE_BOOL,
    "double": _FIELD.TYPE_DOUBLE,
    "bytes": _FIELD.TYPE_BYTES,
}

Fields = Mapping[str, tuple[int, str]]
"""Field name: (number, type). A type ending in * is repeated, a capitalised one is a message of the same schema."""


def message_classes(package: str, schema: Mapping[str, Fields]) -> dict[str, Any]:
    """Return the class of each message of a schema, by its name."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package.replace('.', '/')}", package=package, syntax="proto3")
    for name, fields in schema.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            base = kind.rstrip("*")
            field_proto = message.field.add(name=field_name, number=number)
            field_proto.label = _FIELD.LABEL_REPEATED if kind.endswith("*") else _FIELD.LABEL_OPTIONAL
            if base in _TYPES:
                field_proto.type = _TYPES[base]
            else:
                field_proto.type = _FIELD.TYPE_MESSAGE
                field_proto.type_name = f".{package}.{base}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in schema}
