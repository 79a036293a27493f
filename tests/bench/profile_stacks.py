"""Whose time a sample is: perf's stacks read, and summed up by part of the house and by function of ours.

Text in, counts out. A sample is the part's whose frame is innermost of those that are ours (a compiled function's name
tells its module), the event loop's or its parser's; what these call, in Python's library or the kernel, is their own.
The kernel's part of reading and writing sockets, the garbage collector and the threads beside the loop's are parts too.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal, NamedTuple

LOOP, COLLECTOR, INTERPRETED, UNTOLD = "event loop and parser", "garbage collector", "interpreted Python", "not told"
WRITTEN, READ = "kernel: sockets written", "kernel: sockets read"

Kind = Literal["all", "ours", "loop", "kernel", "other"]

_FRAME = re.compile(r"(?P<ip>[0-9a-f]+) (?P<symbol>.*?)(?: \((?P<library>[\[/].*)\))?$")
_UNKNOWN = "[unknown]"
_KERNEL_FROM = 1 << 63  # addresses of the kernel's half
_END_OF_STACK = (1 << 64) - 1

_OURS = re.compile(r"CPy(?:Def|Py)_(?P<name>[^.]+)")
_DOT = re.compile(r"___(?!3_)")
_SET_UP = re.compile(r"(?:__mypyc__(?P<made>\w+)_setup|(?P<ended>\w+)_clear_on_completion)$")
_GENERATOR = re.compile(r"(?P<function>\w+?)(?:_(?P<owner>_?[A-Z]\w*))?_(?:gen|env|obj)$")

_LOOP = re.compile(r"__pyx_\w+?_(?:6uvloop|9httptools|7aiohttp)_|uv_|llhttp_")
_COLLECTOR = re.compile(r"_?(?:Py)?gc_collect", re.IGNORECASE)
_INTERPRETER = "_PyEval_EvalFrameDefault"
_CALL = re.compile(r"(?:__GI_|__libc_|_)*(?:(?P<write>write|send)|(?P<read>read|recv))(?:v|to|from|msg)?$")
_LOOP_RUNS = "uv_run"


class Frame(NamedTuple):
    name: str
    is_kernel: bool = False


class Sample(NamedTuple):
    """Where a thread stood, innermost first."""

    thread: int
    frames: tuple[Frame, ...]


class Function(NamedTuple):
    package: str
    name: str


class Box(NamedTuple):
    """A frame as a flame graph shows it."""

    name: str
    kind: Kind


def read(lines: Iterable[str]) -> Iterator[Sample]:
    """The samples of `perf script -F tid,ip,sym,dso`: a line with the thread, one for each frame, an empty one."""
    thread, frames = 0, list[Frame]()
    for line in lines:
        if not line.startswith(("\t", "\n")):
            thread, frames = int(line), []
        elif not line.strip():
            yield Sample(thread, tuple(frames))
        elif frame := _frame(line.strip()):
            frames.append(frame)


def _frame(text: str) -> Frame | None:
    found = _FRAME.match(text)
    assert found is not None, text
    address, name = int(found["ip"], 16), found["symbol"]
    if address == _END_OF_STACK:
        return None
    if name == _UNKNOWN and found["library"]:
        name = f"[{found['library'].rpartition('/')[2].strip('[]')}]"
    return Frame(name, is_kernel=address >= _KERNEL_FROM)


class Names:
    """The compiled modules, each by the shortest end of its dotted name that no other has: so mypyc writes it."""

    def __init__(self, modules: Iterable[str]) -> None:
        self._packages: dict[tuple[str, ...], str] = {}
        self._found: dict[str, Function | None] = {}
        for module in modules:
            parts = tuple(module.split("."))
            self._packages |= {parts[start:]: parts[0] for start in range(len(parts))}

    def find(self, symbol: str) -> Function | None:
        if symbol not in self._found:
            self._found[symbol] = self._read(symbol)
        return self._found[symbol]

    def _read(self, symbol: str) -> Function | None:
        found = _OURS.match(symbol)
        if found is None:
            return None
        parts = tuple(part.replace("___3_", "___") for part in _DOT.split(found["name"]))
        for length in range(len(parts) - 1, 0, -1):
            if package := self._packages.get(parts[:length]):
                return Function(package, ".".join([*parts[:length], *_as_written(parts[length:])]))
        return None


def _as_written(parts: tuple[str, ...]) -> list[str]:
    """A class and a method as they stand in the source: what runs of a coroutine is a class that mypyc makes of it."""
    first, *others = parts
    if made := _SET_UP.match(first):
        first = made["made"] or made["ended"]
    if generator := _GENERATOR.match(first):
        return [part for part in (generator["owner"], generator["function"]) if part]
    return [first, *others]


class Seen(NamedTuple):
    """What one stack tells: the part, our innermost function, and what that was in."""

    part: str
    function: Function | None
    is_kernel: bool
    is_interpreted: bool


def look(frames: Sequence[Frame], names: Names) -> Seen:
    inside = list(takewhile(lambda frame: names.find(frame.name) is None, frames))
    function = names.find(frames[len(inside)].name) if len(inside) < len(frames) else None
    called = list(takewhile(lambda frame: not _is_loop(frame), inside))
    is_interpreted = any(frame.name == _INTERPRETER for frame in called)
    if any(_COLLECTOR.match(frame.name) for frame in frames):
        part, function = COLLECTOR, None
    elif len(called) < len(inside) and not is_interpreted:
        part = _of_loop(called)
    elif function is not None:
        part = function.package
    else:
        part = INTERPRETED if is_interpreted else UNTOLD
    return Seen(part, function, bool(frames) and frames[0].is_kernel, is_interpreted)


def _is_loop(frame: Frame) -> bool:
    return not frame.is_kernel and _LOOP.match(frame.name) is not None


def _of_loop(called: Sequence[Frame]) -> str:
    """What the event loop was in. It writes and reads nothing but sockets and what wakes it."""
    call = _CALL.match(called[-1].name) if called and called[0].is_kernel else None
    if call is None:
        return LOOP
    return WRITTEN if call["write"] else READ


@dataclass
class Tally:
    """Samples, by what they are of. `kernel` and `interpreted`: how many of a function's were in these."""

    parts: Counter[str] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)
    kernel: Counter[str] = field(default_factory=Counter)
    interpreted: Counter[str] = field(default_factory=Counter)
    stacks: Counter[tuple[Box, ...]] = field(default_factory=Counter)


def tally(samples: Iterable[Sample], names: Names, threads: Mapping[int, str]) -> Tally:
    """`threads`: those beside the event loop's, by name."""
    total = Tally()
    for sample in samples:
        thread = f"thread {threads[sample.thread]}" if sample.thread in threads else None
        seen = look(sample.frames, names)
        total.parts[thread if thread and seen.part != COLLECTOR else seen.part] += 1
        total.stacks[tuple(_boxes(sample.frames, names, thread))] += 1
        if seen.function is not None:
            name = seen.function.name
            total.functions[name] += 1
            total.kernel[name] += seen.is_kernel
            total.interpreted[name] += seen.is_interpreted
    return total


def _boxes(frames: Sequence[Frame], names: Names, thread: str | None) -> Iterator[Box]:
    """Outermost first, from what the event loop calls: above that, some stacks are cut off and some are not."""
    yield Box(thread or "event loop", "all")
    last = None
    for frame in reversed(list(takewhile(lambda frame: frame.name != _LOOP_RUNS, frames))):
        function = names.find(frame.name)
        kind: Kind = "ours" if function else "kernel" if frame.is_kernel else "loop" if _is_loop(frame) else "other"
        box = Box(function.name if function else frame.name, kind)
        if kind != "ours" or box != last:  # a function and what Python calls it by
            yield box
        last = box


def thread_name(name: str) -> str:
    """Without the number that a pool of one thread gives it."""
    return re.sub(r"[-_ ]?[0-9]+$", "", name) or "without a name"
