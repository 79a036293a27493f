"""An exchange's line is the one that the log's formatter would make of the same fields, whatever is in them."""

import json
import logging
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fakes import FakeClock, make_price
from tests.unit.gateway.house import House, changed
from trollproxy.chat import Usage
from trollproxy.errors import UpstreamRejected
from trollproxy.gateway.access_log import AccessLog
from trollproxy.gateway.callers import Caller
from trollproxy.gateway.exchange import Attempt, Exchange
from trollproxy.money.accounts import Account
from trollproxy.policy.pricing import usd
from trollproxy.records import ClientKey, Model, Supplier, UpstreamKey, User
from trollproxy.telemetry import logs
from trollproxy.telemetry.logs import MAX_TEXT, LineFormat

KEY = "sk-troll-0123456789abcdef0123456789abcdef-a1b2"
ODD = (
    "", 'a "b" c', "a=b", "back\\slash", "\r\n\t\x1b[2J\x7f\x85\x9b", "\u2028\u2029", "\ud800", "ünï", "null", "1",
    KEY, f"Bearer {KEY}", f"x\n{KEY}\n", "x" * (MAX_TEXT + 1), "y" * (MAX_TEXT - 10) + " " + KEY,
)  # fmt: skip
FORMS: tuple[LineFormat, ...] = ("text", "json")


def exchange(headers: dict[str, str] | None = None) -> Exchange:
    request = changed(House().request(), headers=headers or {})
    return Exchange(request, "req_0123", FakeClock().clock)


def served(word: str) -> Exchange:
    """One that everything is known of, with this word wherever one can stand."""
    done = exchange()
    done.request = changed(done.request, peer=word)
    key = ClientKey(key_id=word, key_hash=b"", username=word)
    done.caller = Caller(key, Account(User(username=word)))
    done.model = Model(model_id=word, provider=word, price=make_price())
    done.supplier = Supplier(provider=word)
    done.upstream_key = UpstreamKey(key_id=word, secret="s")
    done.charged = Usage(uncached=100, read=20, out_text=50, out_reasoning=7)
    done.attempts = [Attempt(word, "k", "", started_s=0.0), Attempt("b", "", "", started_s=0.0)]
    done.cost_nusd = 150_000
    done.cached = "usage"
    return done


def line(done: Exchange, form: LineFormat, duration_s: float = 0.25) -> str:
    lines: list[str] = []
    AccessLog(form, lines.append).tell(done, duration_s)
    [told] = lines
    return told


def fields(done: Exchange, duration_s: float) -> dict[str, object]:
    caller, usage = done.caller, done.charged
    return {
        "request_id": done.request_id,
        "peer": done.request.peer,
        "user": caller.account.user.username if caller is not None and caller.account is not None else None,
        "key": caller.key_id if caller is not None else None,
        "format": done.request.format.name,
        "model": done.model.model_id if done.model is not None else None,
        "provider": done.provider if done.supplier is not None else None,
        "upstream_key": done.upstream_key.key_id if done.upstream_key is not None else None,
        "status": done.status,
        "code": done.code,
        "input_tokens": usage.input_tokens if usage is not None else None,
        "output_tokens": usage.output_tokens if usage is not None else None,
        "cached": done.cached,
        "cost": usd(done.cost_nusd),
        "duration_ms": round(duration_s * 1000, 1),
        "attempts": f"{done.attempts[0].provider + '/' if done.attempts[0].provider else ''}k:ok:0ms b:ok:0ms"
        if done.attempts
        else None,
        "retries": done.request.headers.get("x-stainless-retry-count"),
    }


def formatted(done: Exchange, form: LineFormat, duration_s: float = 0.25) -> str:
    """What the log would make of a record of the same fields."""
    record = logging.LogRecord("trollproxy.access", logging.INFO, "", 0, "exchange", None, None)
    record.created = done.started_at_s + duration_s
    record.fields = fields(done, duration_s)
    return logs._FORMATTERS[form]().format(record)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("word", ODD)
def test_an_odd_word_is_written_as_the_formatter_writes_it(word: str, form: LineFormat) -> None:
    done = served(word)
    assert line(done, form) == formatted(done, form)
    assert "0123456789abcdef" not in line(done, form)


@given(word=st.text(), form=st.sampled_from(FORMS))
@example(word="\x00", form="json")
def test_any_word_is_written_as_the_formatter_writes_it(word: str, form: LineFormat) -> None:
    done = served(word)
    assert line(done, form) == formatted(done, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("duration_s", [0.0, 0.00004, 0.00005, 0.9999, 1.23456, 12_345.67891])
@pytest.mark.parametrize("cost_nusd", [0, 1, 10_000_000, 1_500_000_001, 10**15])
def test_numbers_are_written_as_the_formatter_writes_them(form: LineFormat, duration_s: float, cost_nusd: int) -> None:
    done = served("ann")
    done.cost_nusd = cost_nusd
    assert line(done, form, duration_s) == formatted(done, form, duration_s)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_known_is_null(form: LineFormat) -> None:
    done = exchange()
    assert line(done, form) == formatted(done, form)
    done.caller = Caller(None, None)
    done.error = UpstreamRejected("No.", status=418, code="odd code")
    assert line(done, form) == formatted(done, form)


def test_the_whole_of_a_line() -> None:
    assert line(served("ann"), "text") == (
        "2025-10-09T12:00:00.250Z INFO trollproxy.access exchange request_id=req_0123 peer=ann user=ann key=ann"
        " format=openai_chat model=ann provider=ann upstream_key=ann status=200 code=ok input_tokens=120"
        ' output_tokens=57 cached=usage cost=$0.00015 duration_ms=250.0 attempts="ann/k:ok:0ms b:ok:0ms" retries=null'
    )


@pytest.mark.parametrize("told", ["0", "2", "999"])
def test_a_clients_count_of_its_retries_is_told(told: str) -> None:
    done = exchange({"x-stainless-retry-count": told})
    assert [line(done, form) for form in FORMS] == [formatted(done, form) for form in FORMS]
    assert json.loads(line(done, "json"))["retries"] == told


@pytest.mark.parametrize("word", ["", "1000", "-1", "+1", "1.0", "two", "²", "٣", "1 ", "1\n", KEY])
def test_no_other_word_of_a_clients_header_is(word: str) -> None:
    told: dict[str, Any] = json.loads(line(exchange({"x-stainless-retry-count": word}), "json"))
    assert told["retries"] is None
