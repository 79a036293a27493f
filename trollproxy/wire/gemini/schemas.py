"""The vendor's first form of schemas (OpenAPI 3.0: upper-case types, `nullable`), as the JSON Schema it stands for."""

import msgspec

from trollproxy.errors import InvalidRequest
from trollproxy.wire.body import decode_reply
from trollproxy.wire.gemini.spelling import camel

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_MAX_DEPTH = 32  # the vendor's own bound

_MAPS = {"properties": "properties", "defs": "$defs", "$defs": "$defs"}  # members that hold schemas by name
_ONE = {"items", "additionalProperties"}
_COUNTS = {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
_GONE = {"propertyOrdering"}  # the order in which the vendor's model writes; the properties' own order tells the same


def json_schema(raw: msgspec.Raw, place: str, depth: int = 0) -> msgspec.Raw:
    """The schema in JSON Schema. One that is in JSON Schema already stays what it is."""
    if depth > _MAX_DEPTH:
        raise InvalidRequest("The schema is nested too deeply.", param=place)
    members = decode_reply(_OBJECT, bytes(raw))
    if members is None:
        return raw  # `true`, `false`
    written: dict[str, msgspec.Raw] = {}
    is_nullable = False
    for given, value in members.items():
        name = given if given in _MAPS else camel(given)
        if name == "nullable":
            is_nullable = bytes(value) == b"true"
        elif name not in _GONE:
            _put(written, name, _Value(value, place, depth + 1))
    if is_nullable:
        _allow_null(written)
    return msgspec.Raw(msgspec.json.encode(written))


class _Value(msgspec.Struct, frozen=True):
    raw: msgspec.Raw
    place: str
    depth: int

    def schema(self, raw: msgspec.Raw) -> msgspec.Raw:
        return json_schema(raw, self.place, self.depth)


def _put(written: dict[str, msgspec.Raw], name: str, value: _Value) -> None:
    if name in _MAPS:
        named = decode_reply(_OBJECT, bytes(value.raw)) or {}
        inner = {key: value.schema(schema) for key, schema in named.items()}
        written[_MAPS[name]] = msgspec.Raw(msgspec.json.encode(inner))
    elif name in _ONE:
        written[name] = value.schema(value.raw)
    elif name in {"anyOf", "oneOf", "allOf", "prefixItems"}:
        options = [value.schema(option) for option in decode_reply(_LIST, bytes(value.raw)) or []]
        written[name] = msgspec.Raw(msgspec.json.encode(options))
    elif name == "type":
        _put_type(written, value.raw)
    elif name in _COUNTS:
        number = bytes(value.raw).strip(b'"')  # 64-bit numbers are strings in protocol buffers
        written[name] = msgspec.Raw(number) if number.isdigit() else value.raw
    elif name == "example":
        written["examples"] = msgspec.Raw(b"[" + bytes(value.raw) + b"]")
    elif name == "ref":
        written["$ref"] = msgspec.Raw(bytes(value.raw).replace(b"#/defs/", b"#/$defs/"))
    elif name != "format" or bytes(value.raw) != b'"enum"':
        written[name] = value.raw


def _put_type(written: dict[str, msgspec.Raw], raw: msgspec.Raw) -> None:
    text = decode_reply(_TEXT, bytes(raw))
    if text is None:
        written["type"] = raw  # JSON Schema's list of types
    elif text != "TYPE_UNSPECIFIED":
        written["type"] = msgspec.Raw(msgspec.json.encode(text.lower()))


def _allow_null(written: dict[str, msgspec.Raw]) -> None:
    kind = bytes(written.get("type", msgspec.Raw()))
    if kind.startswith(b'"') and kind != b'"null"':
        written["type"] = msgspec.Raw(b"[" + kind + b',"null"]')
    if "anyOf" in written:
        options = decode_reply(_LIST, bytes(written["anyOf"])) or []
        written["anyOf"] = msgspec.Raw(msgspec.json.encode([*options, msgspec.Raw(b'{"type":"null"}')]))
    values = decode_reply(_LIST, bytes(written["enum"])) if "enum" in written else None
    if values is not None:
        written["enum"] = msgspec.Raw(msgspec.json.encode([*values, None]))
