"""A tree of plain values as settings, and every refusal with the place it is about.

msgspec checks shapes and bounds; this module turns its complaint into a path in the file's own words, names the field
that was probably meant, and says who gave the value. No reason repeats a value, since any may be a misplaced secret.
Must not know: where trees come from, what must hold between settings.
"""

import difflib
import re
from typing import Any, Literal, Never, Protocol, TypeVar, cast, get_args, get_origin

import msgspec

from trollproxy.config.settings import Section
from trollproxy.config.text import ConfigError

_Kind = TypeVar("_Kind")

_MESSAGE = re.compile(r"(?P<reason>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (?P<kind>contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL)
_STEP = re.compile(r"[^.\[\]]+")
_ANY_KEY = "[...]"  # msgspec does not say which entry of a mapping it is about


class _Readable(Protocol):
    @classmethod
    def parse(cls, value: object) -> object: ...


class Sources:
    """Who gave which setting, so that an error names the variable or flag and not a file that never held it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._origins: dict[str, tuple[str, str]] = {}

    def note(self, path: str, *, source: str, name: str) -> None:
        self._origins[path] = (source, name)

    def refuse(self, path: str, reason: str) -> Never:
        source, name = self._origins.get(path, (self.file, path))
        raise ConfigError(source, name, reason) from None


def decode(tree: object, kind: type[_Kind], *, sources: Sources, at: str = "") -> _Kind:
    """The tree as `kind`; text counts as the number or switch it spells, since variables are always text."""
    try:
        return msgspec.convert(tree, kind, strict=False, dec_hook=_parse)
    except msgspec.ValidationError as error:
        found = _MESSAGE.fullmatch(str(error))
        assert found is not None
        inner = found["path"] or ""
        if _ANY_KEY in inner:
            _refuse_entry(tree, kind, inner=inner.partition(_ANY_KEY)[0], at=at, sources=sources)
        path, reason = _explain(found["reason"], kind, inner)
        sources.refuse(join(at, path), reason)


def join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _parse(kind: type, value: object) -> object:
    return cast(_Readable, kind).parse(value)


def _refuse_entry(tree: object, kind: type, *, inner: str, at: str, sources: Sources) -> None:
    steps = _STEP.findall(inner)
    value_kind = get_args(_kind_at(kind, steps))[1]
    for name, value in _entries_at(tree, steps).items():
        decode(value, value_kind, sources=sources, at=join(at, inner, name))


def _entries_at(tree: Any, steps: list[str]) -> dict[str, object]:
    for step in steps:
        tree = tree[int(step)] if isinstance(tree, list) else tree[step]
    return cast("dict[str, object]", tree)


def _explain(reason: str, kind: type, path: str) -> tuple[str, str]:
    here = _kind_at(kind, _STEP.findall(path))
    field = _FIELD.fullmatch(reason)
    if field is not None:
        missing = field["kind"] == "missing required"
        return join(path, field["name"]), "is required" if missing else _explain_unknown(field["name"], here)
    if reason.startswith("Invalid enum value"):
        return path, "must be one of " + ", ".join(_choices(here))
    words = reason.replace("`object`", "a mapping").replace("`array`", "a list").replace("`null`", "nothing")
    return path, words[:1].lower() + words[1:]


def _explain_unknown(name: str, kind: Any) -> str:
    known = list(_fields(kind))
    near = difflib.get_close_matches(name, known, n=1) or [field for field in known if field.lower() == name.lower()]
    return f"unknown field; did you mean `{near[0]}`?" if near else f"unknown field; known: {', '.join(known)}"


def _kind_at(kind: Any, steps: list[str]) -> Any:
    for step in steps:
        if not step.isdigit():
            kind = _fields(kind)[step]
    return kind


def _fields(kind: Any) -> dict[str, Any]:
    section = _section_in(kind)
    return {field.encode_name: field.type for field in msgspec.structs.fields(section)} if section else {}


def _section_in(kind: Any) -> type[Section] | None:
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind
    return next((found for part in get_args(kind) if (found := _section_in(part))), None)


def _choices(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    return [choice for part in get_args(kind) for choice in _choices(part)]
