"""Logs: a record is one line whatever is in it, keys do not get out, and a slow stream loses records, not time."""

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.telemetry import lines as waiting
from trollproxy.telemetry import logs as module
from trollproxy.telemetry.logs import LineFormat, Logs, configure, obfuscate, redact

KEY = "sk-troll-0123456789abcdef0123456789abcdef-a1b2"
log = logging.getLogger("trollproxy.test")


@contextmanager
def logging_to(stream: Any, **options: Any) -> Iterator[Logs]:
    logs = configure(**{"level": "info", "format": "json", "stream": stream, **options})
    try:
        yield logs
    finally:
        logs.shutdown()


def lines(emit: Callable[[], object], line_format: LineFormat = "json") -> list[str]:
    stream = io.StringIO()
    with logging_to(stream, format=line_format):
        emit()
    written = stream.getvalue()
    assert written.endswith("\n") or not written
    return written.splitlines()


def said(message: str, fields: object = None, line_format: LineFormat = "json") -> str:
    (line,) = lines(lambda: log.info("%s", message, extra={"fields": fields}), line_format)
    return line


class Stuck(io.StringIO):
    """A stream whose reader has stopped reading, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.let_go.wait(30)
        return super().write(text)


def test_json_has_head_and_fields() -> None:
    line = json.loads(said("hello", {"user": "ann", "n": 3, "level": "x", "deep": {"a": [1, None, True]}}))
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info", "logger": "trollproxy.test", "message": "hello",
        "user": "ann", "n": 3, "level_": "x", "deep": {"a": [1, None, True]},
    }  # fmt: skip


def test_text_quotes_what_needs_it() -> None:
    line = said("hello", {"user": "ann", "empty": "", "note": 'a "b" c', "eq": "a=b", "deep": [1]}, "text")
    assert line.split(" ", 1)[1] == (
        'INFO trollproxy.test hello user=ann empty="" note="a \\"b\\" c" eq="a=b" deep=[1]'
    )


@given(
    message=st.text(),
    field=st.text() | st.binary() | st.integers() | st.floats(),
    form=st.sampled_from(["text", "json"]),
)
def test_a_record_is_one_line(message: str, field: object, form: LineFormat) -> None:
    line = said(message, {"field": field, str(field): message}, form)
    assert line.isprintable() or "\u00ad" in line or not line.isascii()
    if form == "json":
        json.loads(line)


def test_terminal_escapes_do_not_reach_a_terminal() -> None:
    for form in ("text", "json"):
        line = said("\x1b[2Ja\r\nb\x85\u2028\x9b\x7f\ud800", {"f": "\x1b]0;x\x07"}, form)
        assert not set("\x1b\r\n\x85\u2028\x9b\x7f\x07") & set(line)


def test_an_exception_is_part_of_the_line() -> None:
    def fail() -> None:
        try:
            int(f"key {KEY}")
        except ValueError:
            log.exception("it broke")

    (line,) = lines(fail)
    exception = json.loads(line)["exception"]
    assert exception.startswith("Traceback")
    assert exception.endswith("'key sk-troll-…a1b2'")


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (KEY, "sk-troll-…a1b2"),
        ("fk-0123456789abcdef0123456789ab-c3d4", "fk-…c3d4"),
        ("sk-ant-api03-0123456789abcdef", "sk-ant-…cdef"),
        ("0123456789abcdef0123", "…0123"),
        ("sk-troll-short", "…"),
        ("hunter2", "…"),
        ("", "…"),
    ],
)
def test_obfuscate(key: str, shown: str) -> None:
    assert obfuscate(key) == shown


@given(st.text(max_size=200))
def test_obfuscate_never_shows_much(key: str) -> None:
    shown = obfuscate(key)
    assert len(shown) <= len("sk-troll-…") + 4
    assert obfuscate(shown) == "…"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"bad key {KEY}.", "bad key sk-troll-…a1b2."),
        (f"\n{KEY}\t", "\nsk-troll-…a1b2\t"),
        (f"a={KEY}&b=1", "a=sk-troll-…a1b2&b=1"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer …"),
        (f"Bearer {KEY}", "Bearer sk-troll-…a1b2"),
        ("sk_live_0123456789abcdefghijk", "…hijk"),
        (f"?h=Bearer%20{KEY}", "?h=Bearer%20sk-troll-…a1b2"),
        (repr(f"\n{KEY}"), repr("\nsk-troll-…a1b2")),
        ("task-management and risk-assessment", "task-management and risk-assessment"),
        ("a request of 12 tokens", "a request of 12 tokens"),
    ],
)
def test_redact(text: str, clean: str) -> None:
    assert redact(text) == clean
    assert redact(clean) == clean


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("secret", [KEY, f"Bearer {KEY}", "fk-0123456789abcdef0123456789ab"])
def test_no_key_gets_out(form: LineFormat, secret: str) -> None:
    fields = {
        "f": secret,
        secret: 1,
        "deep": [{"x": {secret}}],
        "obj": ValueError(secret),
        "authorization": secret[::-1],
    }
    line = said(f"\\n{secret}\n{secret}", fields, form)
    assert "0123456789abcdef" not in line
    assert "fedcba9876543210" not in line


def test_a_key_is_not_saved_by_being_cut() -> None:
    line = said("x" * (module.MAX_TEXT - 10) + " " + KEY)
    assert "0123" not in line
    assert len(line) < module.MAX_TEXT + 200


def test_levels_and_arguments() -> None:
    def emit() -> None:
        log.debug("not this")
        log.info("%s and %d", "this", 1)

    (line,) = lines(emit, "text")
    assert line.endswith("INFO trollproxy.test this and 1")


def test_odd_values_do_no_harm() -> None:
    loop: list[object] = []
    loop.append(loop)
    line = json.loads(said("m", {"loop": loop, "nan": float("nan"), "big": 2**70, 3: object}))
    assert line["big"] == str(2**70)
    assert line["nan"] is None
    assert json.loads(said("m", "not a mapping"))["message"] == "m"


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_what_cannot_be_read_is_dropped_silently(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    with logging_to(stream) as logs:
        log.info("%d", "not a number")
        log.info("m", extra={"fields": {"rude": Rude()}})
        log.info("after")
    assert logs.dropped == 2
    assert stream.getvalue().count("\n") == 1
    assert capsys.readouterr().err == ""


def test_a_full_queue_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITING", 4)
    stream = Stuck()
    with logging_to(stream) as logs:
        log.info("first")
        assert stream.entered.wait(10)
        for i in range(10):
            log.info("waiting %d", i)
        assert logs.dropped == 6
        stream.let_go.set()
    assert stream.getvalue().count("\n") == 5


def test_a_rendered_line_keeps_its_place_among_the_records() -> None:
    stream = io.StringIO()
    with logging_to(stream, format="text") as logs:
        log.info("before")
        logs.write("a line of its own")
        log.info("after")
    before, line, after = stream.getvalue().splitlines()
    assert (before[-6:], line, after[-5:]) == ("before", "a line of its own", "after")


def test_rendered_lines_are_bounded_and_counted_as_records_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITING", 4)
    stream = Stuck()
    with logging_to(stream) as logs:
        log.info("first")
        assert stream.entered.wait(10)
        for _ in range(10):
            logs.write("x")
        assert logs.dropped == 6
        stream.let_go.set()
    assert stream.getvalue().count("\n") == 5


def test_a_line_that_comes_after_the_end_does_no_harm() -> None:
    stream = io.StringIO()
    with logging_to(stream) as logs:
        pass
    logs.write("late")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("level", "shown"), [("debug", True), ("info", True), ("warning", False), ("error", False)])
def test_whoever_renders_lines_asks_whether_they_are_wanted(level: str, shown: bool) -> None:
    with logging_to(io.StringIO(), level=level) as logs:
        assert logs.shows_info is shown
        assert logging.getLogger().isEnabledFor(logging.INFO) is shown


def test_many_records_are_all_written_in_order() -> None:
    def emit() -> None:
        for i in range(3_000):
            log.info("%d", i)

    written = lines(emit)
    assert [json.loads(line)["message"] for line in written] == [str(i) for i in range(3_000)]


def test_shutdown_is_bounded_when_the_stream_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHUTDOWN_TIMEOUT_S", 0.05)
    monkeypatch.setattr(waiting, "MAX_WAITING", 1)
    stream = Stuck()
    with logging_to(stream):
        log.info("first")
        assert stream.entered.wait(10)
        log.info("second")
    stream.let_go.set()


def test_a_closed_stream_is_counted() -> None:
    stream = io.StringIO()
    stream.close()
    with logging_to(stream) as logs:
        log.info("lost")
    assert logs.dropped == 1


def test_shutdown_gives_the_root_logger_back() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    with logging_to(io.StringIO(), level="debug") as logs:
        assert root.level == logging.DEBUG
    logs.shutdown()
    assert (root.level, list(root.handlers)) == before
