r"""Log lines: one record is one line, as text or JSON, written by a thread of its own.

Owns the shape of a line and the hiding of secrets. Invariants: a record never spans lines, whatever is in it; nothing
that looks like a key leaves whole; logging never blocks the caller and never raises at it. When the stream is too slow,
records are dropped and counted in `dropped`.

    logs = configure(level="info", format="json", stream=sys.stderr)
    logging.getLogger(__name__).info("key added", extra={"fields": {"key": obfuscate(key), "user": "ann"}})
    logs.shutdown()

What is told of every request is too frequent for a record: its maker renders the line itself, from `lines.stamp` and
`text_value` or `json_value`, and gives it to `Logs.write`.

It must not know what is logged: callers choose words and fields, and do not rely on the redaction here.
"""

import logging
import re
import threading
from collections.abc import Callable, Mapping
from typing import Literal, TextIO

import msgspec

from trollproxy.telemetry.lines import Waiting, stamp

LineFormat = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]

# A line must fit the 16 kB that container runtimes split at, whatever somebody puts into one value.
MAX_TEXT = 4_096
MAX_DEPTH = 4
# A stream that takes nothing for this long at shutdown is not going to.
SHUTDOWN_TIMEOUT_S = 5.0

HIDDEN = "…"
# Below this the last four characters would be too large a part of the secret.
MIN_SHOWN_SECRET = 16
# Only these are known not to be part of a secret; another vendor's prefix is hidden with the rest.
_PREFIX = re.compile(r"(?:sk|fk)-(?:(?:troll|ant|proj)-)?")
# Most text holds none of these, and a pattern that begins with plain letters finds that out 10 times faster.
_SUSPECT = re.compile(r"[sfr]k[-_]|whsec|bearer", re.IGNORECASE | re.ASCII)
# Where a key may begin: after anything but a letter or digit (`risk-…` is a word), or after an escaped character, as in
# the repr of a string or a URL. Possessive and not followed by `…`, so that an obfuscated key stays as it is.
_START = r"(?:(?<![a-z0-9])|(?<=\\[nrtbf])|(?<=\\x[0-9a-f]{2})|(?<=\\u[0-9a-f]{4})|(?<=%[0-9a-f]{2}))"
_KEY = re.compile(
    rf"(?P<scheme>{_START}bearer(?:\s+|%20))(?P<token>[^\s\"',;]+)|{_START}(?:sk|fk|rk|whsec)[-_][\w-]{{6,}}+(?!…)",
    re.IGNORECASE | re.ASCII,
)
_SECRET_FIELDS = frozenset(("authorization", "api_key", "x-api-key", "password", "secret", "cookie"))

# Everything that ends a line or moves a terminal's cursor, for some reader of logs.
_BREAKING = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]
_TEXT_ESCAPES = {n: f"\\u{n:04x}" for n in _BREAKING} | {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
# JSON escapes the first 32 itself; within a document these others can only stand inside strings.
_JSON_ESCAPES = {n: f"\\u{n:04x}" for n in _BREAKING[0x20:]}
_BARE = re.compile(r"[^\s\"'=\\]+")


def obfuscate(key: str) -> str:
    """`sk-troll-…a1b2`: enough to tell keys apart, not enough to use or guess one."""
    found = _PREFIX.match(key)
    prefix = found.group() if found else ""
    if len(key) - len(prefix) < MIN_SHOWN_SECRET:
        return HIDDEN
    return f"{prefix}{HIDDEN}{key[-4:]}"


def redact(text: str) -> str:
    """Obfuscate whatever looks like a key."""
    return _KEY.sub(_hide, text) if _SUSPECT.search(text) else text


def _hide(found: re.Match[str]) -> str:
    scheme, token = found["scheme"], found["token"]
    if scheme is None:
        return obfuscate(found.group())
    return scheme + (token if HIDDEN in token else obfuscate(token))


def configure(*, level: Level, format: LineFormat, stream: TextIO) -> "Logs":  # noqa: A002 - logging's own word
    """Send everything that is logged in this process to `stream`; ends with `shutdown()` of what is returned."""
    return Logs(logging.getLogger(), level=level, line_format=format, stream=stream)


class Logs:
    """The way from the root logger to a stream. Until `shutdown` it replaces the root's other destinations."""

    def __init__(self, root: logging.Logger, *, level: Level, line_format: LineFormat, stream: TextIO) -> None:
        self.format = line_format
        self.shows_info = level in {"debug", "info"}
        self._waiting = Waiting()
        self._root = root
        self._before = (root.level, list(root.handlers))
        self._entry = _Entry(self._waiting)
        self._writer = _Writer(self._waiting, _FORMATTERS[line_format](), stream)
        self._writer.start()
        # Takes a line that its maker has rendered: no more than one, with nothing secret in it, without its end.
        self.write: Callable[[str], None] = self._waiting.put
        root.handlers[:] = [self._entry]
        root.setLevel(level.upper())

    @property
    def dropped(self) -> int:
        """Records that were lost: the queue was full, or the record or the stream was broken."""
        return self._waiting.dropped + self._writer.dropped

    def shutdown(self) -> None:
        """Write what is waiting and give the root logger back. Safe to call twice."""
        if self._entry in self._root.handlers:
            level, destinations = self._before
            self._root.handlers[:] = destinations
            self._root.setLevel(level)
        self._waiting.close()
        self._writer.join(SHUTDOWN_TIMEOUT_S)
        self._entry.close()


class _Entry(logging.Handler):
    """The way of records into the queue: settles a record's words, which may change after the call."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__()
        self._waiting = waiting

    def emit(self, record: logging.LogRecord) -> None:
        try:
            record.msg, record.args = record.getMessage(), None
            if record.exc_info:
                record.exc_text = _PLAIN.formatException(record.exc_info)
                record.exc_info = None
        except Exception:  # noqa: BLE001 - arguments that do not fit, or raise; the caller has other things to do
            self._waiting.dropped += 1
        else:
            self._waiting.put(record)


class _Writer(threading.Thread):
    """Renders records, and writes them and the lines that came rendered."""

    def __init__(self, waiting: Waiting, formatter: logging.Formatter, stream: TextIO) -> None:
        super().__init__(name="log", daemon=True)  # daemon: a stuck stream must not keep the process
        self.dropped = 0
        self._waiting, self._formatter, self._stream = waiting, formatter, stream

    def run(self) -> None:
        while ready := self._waiting.take():
            lines = [line for each in ready if (line := each if isinstance(each, str) else self._rendered(each))]
            if lines:
                self._write(lines)

    def _rendered(self, record: logging.LogRecord) -> str:
        try:
            return self._formatter.format(record)
        except Exception:  # noqa: BLE001 - a field's own __str__ can raise anything, and the thread must live
            self.dropped += 1
            return ""

    def _write(self, lines: list[str]) -> None:
        try:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream was closed, or cannot encode a character
            self.dropped += len(lines)


def _settle(value: object, depth: int = 0) -> object:
    """A value as JSON can hold it, without secrets and of bounded size."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else str(value)
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        return {_words(str(name)): _settle_member(str(name), inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)) and depth < MAX_DEPTH:
        return [_settle(inner, depth + 1) for inner in value]
    return _words(str(value))


def _settle_member(name: str, value: object, depth: int) -> object:
    if name.lower() in _SECRET_FIELDS and value is not None:
        return obfuscate(str(value))
    return _settle(value, depth)


def _words(text: str) -> str:
    """Redact before cutting: half a key would not be recognised."""
    text = redact(text)
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}{HIDDEN}"
    # A lone surrogate, from a client's JSON, cannot be encoded.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _members(record: logging.LogRecord) -> dict[str, object]:
    """What a line says beyond its head: the caller's fields, then the traceback."""
    fields = getattr(record, "fields", None)
    named = fields if isinstance(fields, Mapping) else {}
    members = {_words(str(name)): _settle_member(str(name), value, 0) for name, value in named.items()}
    if record.exc_text:
        # The end of a traceback says what happened.
        members["exception"] = redact(record.exc_text)[-MAX_TEXT:]
    return members


def text_value(text: str) -> str:
    """What stands after `name=`: bare where that can be, else as in JSON."""
    words = _words(text)
    quoted = words if _BARE.fullmatch(words) else msgspec.json.encode(words).decode()
    return quoted.translate(_TEXT_ESCAPES)


def json_value(text: str) -> str:
    return msgspec.json.encode(_words(text)).decode().translate(_JSON_ESCAPES)


class _TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO trollproxy.app started port=8080 note="two words"`."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{stamp(record.created)} {record.levelname} {record.name} {_words(record.getMessage())}"
        pairs = (f" {name}={self._value(value)}" for name, value in _members(record).items())
        return (head + "".join(pairs)).translate(_TEXT_ESCAPES)

    def _value(self, value: object) -> str:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if _BARE.fullmatch(text):
            return text
        return msgspec.json.encode(text).decode()


class _JsonFormatter(logging.Formatter):
    """One object a line; a field that has the name of a member of the head gets an underscore."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": stamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _words(record.getMessage()),
        }
        for name, value in _members(record).items():
            line[f"{name}_" if name in line else name] = value
        return msgspec.json.encode(line).decode().translate(_JSON_ESCAPES)


_PLAIN = logging.Formatter()
_FORMATTERS: dict[LineFormat, type[logging.Formatter]] = {"text": _TextFormatter, "json": _JsonFormatter}
