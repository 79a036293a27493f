"""Arguments of a call that arrive piece by piece, put together by their JSON paths (Vertex AI's partialArgs)."""

import re
from itertools import pairwise

import msgspec

from trollproxy.errors import UpstreamBroken

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,4})\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")
_MAX_STEPS = 64

Node = dict[str, object] | list[object]


class PartialArg(msgspec.Struct, gc=False, rename="camel"):
    json_path: str = "$"
    string_value: str | None = None
    number_value: msgspec.Raw = msgspec.Raw()
    bool_value: bool | None = None
    null_value: str | None = None
    will_continue: bool | None = None


class PartialArgs:
    """The arguments of one call, as far as they have come."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: dict[str, object] = {}

    def add(self, arg: PartialArg) -> None:
        steps = _steps_of(arg.json_path)
        node: Node = self._root
        for step, following in pairwise(steps):
            node = _enter(node, step, [] if isinstance(following, int) else {})
        _set(node, steps[-1], arg)

    def text(self) -> str:
        return msgspec.json.encode(self._root).decode()


def _steps_of(path: str) -> list[str | int]:
    """The names and numbers of a path such as `$.trip.stops[0]['zip code']`."""
    steps: list[str | int] = []
    position = 1
    while position < len(path) and len(steps) < _MAX_STEPS:
        found = _STEP.match(path, position)
        if found is None:
            break
        name, number, quoted, double = found.groups()
        steps.append(int(number) if number is not None else re.sub(r"\\(.)", r"\1", name or quoted or double or ""))
        position = found.end()
    if not path.startswith("$") or position < len(path) or not steps:
        raise UpstreamBroken("The provider sent arguments of a call at a place that does not exist.")
    return steps


def _enter(node: Node, step: str | int, fresh: Node) -> Node:
    found = _get(node, step)
    if found is None:
        _put(node, step, fresh)
        return fresh
    if not isinstance(found, dict | list):
        raise UpstreamBroken("The provider sent arguments of a call that contradict each other.")
    return found


def _set(node: Node, step: str | int, arg: PartialArg) -> None:
    if arg.string_value is not None:
        known = _get(node, step)
        _put(node, step, (known if isinstance(known, str) else "") + arg.string_value)
    elif bytes(arg.number_value) not in {b"", b"null"}:
        _put(node, step, arg.number_value)
    elif arg.bool_value is not None:
        _put(node, step, arg.bool_value)
    elif arg.null_value is not None:
        _put(node, step, None)


def _get(node: Node, step: str | int) -> object:
    if isinstance(node, dict) and isinstance(step, str):
        return node.get(step)
    if isinstance(node, list) and isinstance(step, int):
        return node[step] if step < len(node) else None
    raise UpstreamBroken("The provider sent arguments of a call that contradict each other.")


def _put(node: Node, step: str | int, value: object) -> None:
    if isinstance(node, dict) and isinstance(step, str):
        node[step] = value
    elif isinstance(node, list) and isinstance(step, int):
        node.extend([None] * (step + 1 - len(node)))
        node[step] = value
    else:
        raise UpstreamBroken("The provider sent arguments of a call that contradict each other.")
