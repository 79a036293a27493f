"""The official JavaScript SDKs, unmodified, on every vendor: tool loops, streams, silence, refusals and breaks.

The scripts in `js/` drive them; what they saw is judged here, against what the vendor said, was asked, and the books.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.e2e.agents import texts
from tests.e2e.asked import Step, declared, history, history_of, system_of
from tests.e2e.cells import gateway_of_cells, model_of
from tests.e2e.clients import Result, Tool
from tests.e2e.grid import both_ways, on_every_vendor, played
from tests.e2e.native import VENDORS, Call, Said, Tokens, Vendor, error, error_event, events, stream
from tests.e2e.node import Node
from tests.e2e.people import issue
from tests.e2e.process import GatewayProcess
from tests.e2e.translating import cost_nusd
from tests.e2e.vendors import Played, Seen, Vendors, streamed

SDKS: dict[Vendor, str] = {
    "openai": "openai-node-chat",
    "responses": "openai-node-responses",
    "anthropic": "anthropic-js",
    "gemini": "genai-js",
}
by_every_sdk = pytest.mark.parametrize("sdk", VENDORS, ids=SDKS.values())

TOOLS = (
    Tool(
        "get_weather",
        "Tells the weather. Größe: °C",
        {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
            "required": ["city"],
            "additionalProperties": False,
        },
    ),
    Tool("get-time", "Tells the time.", {"type": "object", "properties": {}}),
)
# An order that no sorting gives, letters of any alphabet, nesting, nothing.
ARGUMENTS = '{"z": 9007199254740991, "city": "Tromsø 東京 😀 \\"x\\"", "a": {"c": [], "b": [1.5, {"d": null}]}}'
# Where arguments are a text for the SDK, they are not read on their way: more than a float holds, another spelling.
EXACT_ARGUMENTS = ARGUMENTS.replace("9007199254740991", "12345678901234567890").replace("1.5", "1.50")
SIGNATURES = ("c2lnbmVkID4+PiAxIHRydWx5/+8=", "c2lnbmVkID4+PiAyIHRydWx5/+8=")
FINISHES: dict[Vendor, tuple[str, str]] = {
    "openai": ("tool_calls", "stop"),
    "responses": ("completed", "completed"),
    "anthropic": ("tool_use", "end_turn"),
    "gemini": ("STOP", "STOP"),
}
WITH_USAGE = {"stream_options": {"include_usage": True}}
KEYS = 12
MAX_BODY = 100_000
HELLO = ["Hello"]
ASK = {"scenario": "ask", "says": HELLO, "stream": True}
HEAR = {"scenario": "hear", "says": HELLO}


@pytest.fixture(scope="module")
def vendors() -> Iterator[Vendors]:
    with Vendors() as running:
        yield running


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Every SDK has an upstream of its own at every vendor, with keys enough for those that rest after a refusal.

    The gateway itself tries once, so the tries of the SDKs are seen.
    """
    names = {model_of(sdk, vendor): vendor for sdk in VENDORS for vendor in VENDORS}
    keys = [f"secret-{number}" for number in range(KEYS)]
    upstreams = {name: {"baseUrl": vendors.url, "type": vendor, "keys": keys} for name, vendor in names.items()}
    settings = {"upstreams": upstreams, "limits": {"streamPing": PING, "maxBodyBytes": MAX_BODY, "devRpm": 1}}
    with gateway_of_cells(tmp_path_factory.mktemp("js"), vendors, VENDORS, **settings) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_left(vendors: Vendors) -> None:
    vendors.reset()


def plain(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    return [{"name": tool.name, "description": tool.description, "schema": tool.schema} for tool in tools]


# Scenarios 1, 2, 7, 10 and 12: tool loops


def loop_for(sdk: Vendor) -> tuple[Said, ...]:
    """Two parallel calls, then one without a word before it, then words, then words to the user's next question."""
    arguments = EXACT_ARGUMENTS if sdk in {"openai", "responses"} else ARGUMENTS
    first = (Call("call_1a", "get_weather", arguments), Call("call_1b", "get-time", "{}"))
    return (
        Said("Let me see.", "The city first.", SIGNATURES[0], first, Tokens(out_reasoning=7)),
        Said("", "Once more.", SIGNATURES[1], (Call("call_2a", "get_weather", '{"city": ""}'),), turn=2),
        Said("It is cold: −11 °C.", turn=3),  # noqa: RUF001  # a minus of more than one byte
        Said("You are welcome.", turn=4),
    )


def with_ids(said: Said, answer: dict[str, Any]) -> Said:
    """Gemini's calls may come without ids; the SDK has been given some."""
    ids = (call.get("id") or "" for call in answer["calls"])
    calls = (replace(call, call_id=call_id) for call, call_id in zip(said.calls, ids, strict=True))
    return replace(said, calls=tuple(calls))


def can_fail(sdk: Vendor) -> bool:
    """Whether the SDK can say that a tool failed."""
    return sdk in {"anthropic", "gemini"}


def results_for(said: Said, sdk: Vendor) -> list[Result]:
    """As js/run.mjs gives them: of several, the last one failed."""
    last = len(said.calls) - 1
    return [
        Result(call, f"result of {call.name}: 11°", is_error=can_fail(sdk) and place == last > 0)
        for place, call in enumerate(said.calls)
    ]


def check_answer(answer: dict[str, Any], said: Said, sdk: Vendor, *, stream: bool) -> None:
    assert answer["text"] == said.text
    if stream and sdk == "openai":
        # Of a member that it does not know, the SDK's helper keeps what came last. Upstream all of it must come back.
        assert answer["thinking"] == said.thinking[len(said.thinking) // 2 :]
    else:
        assert answer["thinking"] == said.thinking
    assert [call["name"] for call in answer["calls"]] == [call.name for call in said.calls]
    for heard, call in zip(answer["calls"], said.calls, strict=True):
        check_arguments(heard["arguments"], call.arguments)
    assert answer["stop"] == FINISHES[sdk][0 if said.calls else 1]
    assert tokens_of(sdk, answer["usage"]) == said.tokens
    if "indexes" in answer and stream:
        blocks = bool(said.thinking) + bool(said.text) + len(said.calls)
        assert answer["indexes"] == list(range(blocks))


def check_arguments(heard: Any, said: str) -> None:
    """The same values in the same order. A text keeps every digit; an object has what JavaScript makes of it."""
    assert json.dumps(json.loads(heard) if isinstance(heard, str) else heard) == json.dumps(json.loads(said))


def tokens_of(sdk: Vendor, usage: dict[str, Any]) -> Tokens:
    """What the SDK was told of the tokens, by bucket."""
    if sdk == "openai":
        read = usage["prompt_tokens_details"]["cached_tokens"]
        thoughts = usage["completion_tokens_details"]["reasoning_tokens"]
        return Tokens(usage["prompt_tokens"] - read, read, usage["completion_tokens"] - thoughts, thoughts)
    if sdk == "responses":
        read = usage["input_tokens_details"]["cached_tokens"]
        thoughts = usage["output_tokens_details"]["reasoning_tokens"]
        return Tokens(usage["input_tokens"] - read, read, usage["output_tokens"] - thoughts, thoughts)
    if sdk == "anthropic":
        thoughts = usage["output_tokens_details"]["thinking_tokens"]
        text = usage["output_tokens"] - thoughts
        return Tokens(usage["input_tokens"], usage["cache_read_input_tokens"], text, thoughts)
    read, thoughts = usage.get("cachedContentTokenCount", 0), usage.get("thoughtsTokenCount", 0)
    return Tokens(usage["promptTokenCount"] - read, read, usage["candidatesTokenCount"], thoughts)


def check_asked(seen: Seen, vendor: Vendor, steps: Sequence[Step]) -> None:
    """Signatures included, byte for byte."""
    assert history_of(vendor, seen.body) == history(vendor, steps)
    assert seen.body["tools"] == declared(vendor, TOOLS)
    assert system_of(vendor, seen.body) == "Be brief."


def check_passed(seen: Seen, sent: str) -> None:
    """Same dialect: what the SDK sent, but for the model's name."""
    body = json.loads(sent)
    if "model" in body:
        body["model"] = "real-model"
    assert json.dumps(seen.body) == json.dumps(body)


def wants(sdk: Vendor, *, stream: bool) -> dict[str, Any]:
    more = WITH_USAGE if stream and sdk == "openai" else {}
    asked = {"system": "Be brief.", "tools": plain(TOOLS), "thinks": True, "more": more}
    return {"stream": stream, "canFail": can_fail(sdk), **asked}


@both_ways
@on_every_vendor
@by_every_sdk
def test_a_tool_loop_loses_nothing(
    gateway: GatewayProcess, vendors: Vendors, node: Node, *, sdk: Vendor, vendor: Vendor, stream: bool
) -> None:
    said = loop_for(sdk)
    vendors.play(*(played(vendor, each, stream=stream) for each in said))
    says = ["How is the weather?", "Thank you."]
    with gateway.bill() as bill:
        told = node.run(
            sdk=sdk,
            scenario="converse",
            **wants(sdk, stream=stream),
            **reach(gateway, sdk, vendor),
            says=says,
        )
    assert told["raised"] is None
    assert told["statuses"] == [200] * len(said)
    asked: list[Step] = [says[0]]
    for place, (each, answer, sent) in enumerate(zip(said, told["answers"], told["sent"], strict=True)):
        check_answer(answer, each, sdk, stream=stream)
        if sdk == vendor:
            check_passed(vendors.seen[place], sent)
        else:
            check_asked(vendors.seen[place], vendor, asked)
        named = with_ids(each, answer)
        asked += [named, results_for(named, sdk) if each.calls else says[1]]
    if sdk == vendor and sdk != "openai":
        assert [mark for answer in told["answers"] for mark in answer["signatures"]] == list(SIGNATURES)
    if {sdk, vendor} <= {"openai", "responses"}:  # arguments are a text on the whole way
        assert told["answers"][0]["calls"][0]["arguments"] == EXACT_ARGUMENTS
        assert EXACT_ARGUMENTS in texts(vendors.seen[1].body)
    assert [charge.cost_nusd for charge in bill] == [cost_nusd(each.tokens) for each in said]
    assert {(charge.ended_by, charge.is_estimated, charge.stream) for charge in bill} == {("completed", False, stream)}


def reach(gateway: GatewayProcess, sdk: Vendor, vendor: Vendor) -> dict[str, Any]:
    return {"url": gateway.url, "key": gateway.key, "model": model_of(sdk, vendor), "limit": 4000, "budget": 2048}


PARALLEL = Said("Both.", "Two.", calls=(Call("c1", "get_weather", ARGUMENTS), Call("c2", "get-time", "{}")))


@pytest.mark.parametrize("more", [WITH_USAGE, {}], ids=["usage", "no-usage"])
@on_every_vendor
def test_chat_chunks(gateway: GatewayProcess, vendors: Vendors, node: Node, *, vendor: Vendor, more: Any) -> None:
    """By the SDK's plain stream and by its helper: calls numbered from 0, named once, usage exactly when asked for."""
    vendors.play(stream(vendor, PARALLEL), stream(vendor, PARALLEL))
    job = {"sdk": "openai", **reach(gateway, "openai", vendor), "tools": plain(TOOLS), "more": more}
    with gateway.bill() as bill:
        plainly = node.run(**job, **HEAR)
        helped = node.run(**job, **ASK)
    assert (plainly["raised"], helped["raised"]) == (None, None)
    chunks = plainly["events"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    check_deltas(deltas)
    assert [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]] == ["tool_calls"]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    if more:
        assert [tokens_of("openai", usage) for usage in usages] == [PARALLEL.tokens]
        assert chunks[-1]["choices"] == []
    else:
        assert usages == []
        assert all(chunk["choices"] for chunk in chunks)
    assert plainly["raw"].endswith("data: [DONE]\n\n")
    (answer,) = helped["answers"]
    assert [(call["name"], json.loads(call["arguments"])) for call in answer["calls"]] == [
        (call.name, json.loads(call.arguments)) for call in PARALLEL.calls
    ]
    assert ("usage" in answer and answer["usage"] is not None) == bool(more)
    assert [charge.cost_nusd for charge in bill] == [cost_nusd(PARALLEL.tokens)] * 2


def check_deltas(deltas: list[dict[str, Any]]) -> None:
    assert "".join(delta.get("content") or "" for delta in deltas) == PARALLEL.text
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", ())]
    for index, call in enumerate(PARALLEL.calls):
        of_call = [piece for piece in pieces if piece["index"] == index]
        assert ["id" in piece for piece in of_call] == [place == 0 for place in range(len(of_call))]
        assert [piece["function"]["name"] for piece in of_call if piece["function"].get("name")] == [call.name]
        arguments = "".join(piece["function"].get("arguments") or "" for piece in of_call)
        assert json.loads(arguments) == json.loads(call.arguments)
    assert {piece["index"] for piece in pieces} == {0, 1}


@on_every_vendor
def test_response_events(gateway: GatewayProcess, vendors: Vendors, node: Node, *, vendor: Vendor) -> None:
    """Numbered without a gap, one id, every item and part opened before it grows and closed once, one end."""
    vendors.play(stream(vendor, PARALLEL))
    told = node.run(sdk="responses", tools=plain(TOOLS), thinks=True, **HEAR, **reach(gateway, "responses", vendor))
    assert told["raised"] is None
    heard = told["events"]
    assert [event["sequence_number"] for event in heard] == list(range(len(heard)))
    kinds = [event["type"] for event in heard]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert [kind for kind in kinds if kind in {"response.completed", "response.failed", "response.incomplete"}] == [
        kinds[-1]
    ]
    assert len({event["response"]["id"] for event in heard if "response" in event}) == 1
    added = [event["item"] for event in heard if event["type"] == "response.output_item.added"]
    done = [event["item"] for event in heard if event["type"] == "response.output_item.done"]
    assert [item["id"] for item in added] == [item["id"] for item in done]
    assert [item["type"] for item in done] == ["reasoning", "message", "function_call", "function_call"]
    assert done == heard[-1]["response"]["output"]
    assert kinds.index("response.content_part.added") < kinds.index("response.output_text.delta")


# Scenario 12: silence

PING = "50ms"
SILENCE_S = 0.2
SAID = Said("One half of what is said, and then the other half.", tokens=Tokens(101, 23, 37))
HALF = SAID.text[: len(SAID.text) // 2]
BEFORE_HALF: dict[Vendor, int] = {"openai": 2, "responses": 5, "anthropic": 4, "gemini": 1}  # events up to the half


def keep_alives(sdk: Vendor, raw: str) -> int:
    if sdk == "gemini":  # bare blank lines: beyond the two ends of line that an event has
        return raw.count("\n") - 2 * raw.count("data: ")
    return raw.count("event: ping\n" if sdk == "anthropic" else ": ping\n\n")


@on_every_vendor
@by_every_sdk
def test_a_silent_vendor_is_waited_for(
    gateway: GatewayProcess, vendors: Vendors, node: Node, *, sdk: Vendor, vendor: Vendor
) -> None:
    """Silence before the first word, between words, and in the middle of an event late in the stream."""
    said = replace(SAID, calls=(Call("call_1", "look", '{"at": "the sky"}'),))
    written = events(vendor, said)
    pieces = [piece for event in written for piece in (event[: len(event) // 2], event[len(event) // 2 :])]
    late = max(len(written) - 3, BEFORE_HALF[vendor] + 1)
    silences = dict.fromkeys((0, 2 * BEFORE_HALF[vendor], 2 * late + 1), SILENCE_S)
    vendors.play(streamed(*pieces, silences=silences))
    with gateway.bill() as bill:
        told = node.run(sdk=sdk, **ASK, **reach(gateway, sdk, vendor))
    assert told["raised"] is None
    (answer,) = told["answers"]
    assert (answer["text"], [call["name"] for call in answer["calls"]]) == (said.text, ["look"])
    assert keep_alives(sdk, told["raw"]) >= 3
    assert [(charge.cost_nusd, charge.ended_by) for charge in bill] == [(cost_nusd(said.tokens), "completed")]


# Scenario 19: refusals

WORDS = "This is how the vendor puts it."


@dataclass(frozen=True)
class Refusal:
    """What becomes of a vendor's status (docs/errors.md), and what the SDKs make of that."""

    status: int
    code: str
    openai: str
    anthropic: str
    is_temporary: bool = False
    anthropic_status: int | None = None

    def told(self, sdk: Vendor) -> tuple[str, int]:
        if sdk == "gemini":
            return "ApiError", self.status
        if sdk == "anthropic":
            return self.anthropic, self.anthropic_status or self.status
        return self.openai, self.status


REFUSALS = {
    400: Refusal(400, "upstream_rejected", "BadRequestError", "BadRequestError"),
    401: Refusal(502, "upstream_auth", "InternalServerError", "InternalServerError", True),
    402: Refusal(502, "upstream_budget", "InternalServerError", "InternalServerError", True),
    404: Refusal(404, "upstream_rejected", "NotFoundError", "NotFoundError"),
    413: Refusal(413, "upstream_rejected", "APIError", "ContentTooLargeError"),
    429: Refusal(429, "upstream_rate_limited", "RateLimitError", "RateLimitError", True),
    500: Refusal(502, "upstream_failed", "InternalServerError", "InternalServerError", True),
    529: Refusal(503, "upstream_overloaded", "InternalServerError", "OverloadedError", True, 529),
}
TRIES = 3  # of the SDKs that ask again, by their defaults
BREAKS = ("error", "eof", "reset")
OVERLOADS: dict[Vendor, str] = {"anthropic": "upstream_overloaded", "gemini": "upstream_overloaded"}  # say so


def code_of(raised: dict[str, Any], sdk: Vendor) -> str:
    if sdk == "gemini":
        return str(_detail(raised, "reason")).lower()
    return str(raised["details"]["code"] if sdk == "anthropic" else raised["code"])


def request_id_of(raised: dict[str, Any], sdk: Vendor) -> str:
    return str(_detail(raised, "requestId") if sdk == "gemini" else raised["requestId"])


def _detail(raised: dict[str, Any], name: str) -> object:
    """The SDK has the body in its message; inside of a stream some words precede it."""
    body = raised["message"][raised["message"].index("{") :]
    return next(detail[name] for detail in json.loads(body)["error"]["details"] if name in detail)


@on_every_vendor
@by_every_sdk
def test_refusals_are_thrown_and_cost_nothing(
    gateway: GatewayProcess, vendors: Vendors, node: Node, *, sdk: Vendor, vendor: Vendor
) -> None:
    """After as many tries as the SDK makes by itself, each with a row of its own."""
    told, seen = {}, {}
    with gateway.bill() as bill:
        for status in REFUSALS:
            vendors.reset()
            vendors.play(*[error(vendor, status, WORDS, retry_after="0.2") for _ in range(TRIES)])
            told[status] = node.run(sdk=sdk, **ASK, **reach(gateway, sdk, vendor))
            seen[status] = len(vendors.seen)
    raised = {status: each["raised"] for status, each in told.items()}
    assert {status: (each["name"], each["status"], code_of(each, sdk)) for status, each in raised.items()} == {
        status: (*refusal.told(sdk), refusal.code) for status, refusal in REFUSALS.items()
    }
    # Only of a fault of the client's own the vendor's words are told.
    assert [status for status, each in raised.items() if WORDS in each["message"]] == [400, 404, 413]
    tries = {status: TRIES if each.is_temporary and sdk != "gemini" else 1 for status, each in REFUSALS.items()}
    assert {status: len(each["statuses"]) for status, each in told.items()} == seen == tries
    for status, each in told.items():
        check_waits(each["waits"], tries[status], by_header=status in {429, 500, 529})
    assert [(charge.cost_nusd, charge.ended_by, charge.code, charge.status) for charge in bill] == [
        (0, "provider_error_before_token", refusal.code, refusal.status)
        for status, refusal in REFUSALS.items()
        for _ in range(tries[status])
    ]
    last = [sum(list(tries.values())[: place + 1]) - 1 for place in range(len(tries))]
    assert [bill[place].request_id for place in last] == [request_id_of(each, sdk) for each in raised.values()]


def check_waits(waits: list[float], tries: int, *, by_header: bool) -> None:
    """The vendor's word, in whole seconds, or else the SDKs' own: half a second, a whole one, a quarter off at most."""
    assert len(waits) == tries - 1
    if by_header:
        assert waits == [1000] * len(waits)
    else:
        assert all(0.75 * most <= wait <= most for wait, most in zip(waits, (500, 1000), strict=False))


OWN: dict[str, tuple[int, str, dict[Vendor, str]]] = {
    "key": (401, "invalid_key", {"openai": "AuthenticationError", "anthropic": "AuthenticationError"}),
    "credit": (402, "insufficient_credits", {"openai": "APIError", "anthropic": "PaymentRequiredError"}),
    "model": (404, "model_not_found", {"openai": "NotFoundError", "anthropic": "NotFoundError"}),
    "size": (413, "payload_too_large", {"openai": "APIError", "anthropic": "ContentTooLargeError"}),
    "rate": (429, "rate_limit_exceeded", {"openai": "RateLimitError", "anthropic": "RateLimitError"}),
}


@pytest.fixture(scope="module")
def slow_key(gateway: GatewayProcess) -> str:
    """Good for one request a minute."""
    return issue(gateway, "key-add", "admin", "--tier", "dev")[0]


@pytest.mark.parametrize("what", OWN)
@by_every_sdk
def test_the_gateways_own_refusals(
    gateway: GatewayProcess, vendors: Vendors, node: Node, slow_key: str, *, sdk: Vendor, what: str
) -> None:
    """Nobody else is asked, nothing is on the books, and only the limit of a minute is tried again."""
    status, code, names = OWN[what]
    changes: dict[str, dict[str, Any]] = {
        "key": {"key": gateway.key[:-1] + "!"},
        "credit": {"limit": 2_000_000_000},
        "model": {"model": "no-such-model"},
        "size": {"says": ["x" * MAX_BODY]},
        "rate": {"key": slow_key},
    }
    job = {"sdk": sdk, **ASK, **reach(gateway, sdk, "anthropic"), **changes[what]}
    if what == "rate":
        vendors.play(stream("anthropic", SAID))
        node.run(**job)  # takes what there is for a minute, if another SDK has not
        vendors.reset()
    with gateway.bill() as bill:
        told = node.run(**job)
    raised = told["raised"]
    name = "ApiError" if sdk == "gemini" else names["anthropic" if sdk == "anthropic" else "openai"]
    assert (raised["name"], raised["status"]) == (name, status)
    assert code_of(raised, sdk) == ("invalid_api_key" if what == "key" and sdk in {"openai", "responses"} else code)
    assert request_id_of(raised, sdk).startswith("req_")
    assert len(told["statuses"]) == (TRIES if what == "rate" and sdk != "gemini" else 1)
    assert (vendors.seen, bill) == ([], [])


# Scenario 20: breaks


def broken(vendor: Vendor, how: str) -> Played:
    begun = events(vendor, SAID)[: BEFORE_HALF[vendor]]
    if how == "error":
        return streamed(*begun, error_event(vendor))
    return streamed(*begun, is_cut=how == "reset")


@pytest.mark.parametrize("how", BREAKS)
@on_every_vendor
@by_every_sdk
def test_a_stream_that_breaks_is_thrown_and_charged_once(
    gateway: GatewayProcess, vendors: Vendors, node: Node, *, sdk: Vendor, vendor: Vendor, how: str
) -> None:
    """By the SDK's own assembling, and by plain listening, which has heard what there was. Nothing is asked again."""
    code = "upstream_broken" if how != "error" else OVERLOADS.get(vendor, "upstream_failed")
    vendors.play(broken(vendor, how), broken(vendor, how))
    with gateway.bill() as bill:
        assembled = node.run(sdk=sdk, **ASK, **reach(gateway, sdk, vendor))
        heard = node.run(sdk=sdk, **HEAR, **reach(gateway, sdk, vendor))
    name = "ApiError" if sdk == "gemini" else "APIError"
    for told in (assembled, heard):
        assert (told["raised"]["name"], code_of(told["raised"], sdk)) == (name, code)
        assert told["statuses"] == [200]
    assert heard["words"] == HALF
    assert len(vendors.seen) == len(bill) == 2
    assert [charge.request_id for charge in bill] == [request_id_of(told["raised"], sdk) for told in (assembled, heard)]
    assert {(charge.ended_by, charge.code) for charge in bill} == {("provider_error_mid_stream", code)}
    assert all(charge.is_estimated and charge.cost_nusd > 0 for charge in bill)


@on_every_vendor
@by_every_sdk
def test_a_stream_that_begins_with_an_error_is_refused(
    gateway: GatewayProcess, vendors: Vendors, node: Node, *, sdk: Vendor, vendor: Vendor
) -> None:
    vendors.play(streamed(error_event(vendor)))
    with gateway.bill() as bill:
        told = node.run(sdk=sdk, options={"maxRetries": 0}, **HEAR, **reach(gateway, sdk, vendor))
    assert told["raised"]["status"] >= 500
    assert told["words"] == ""
    assert [(charge.cost_nusd, charge.ended_by) for charge in bill] == [(0, "provider_error_before_token")]


@on_every_vendor
@by_every_sdk
def test_who_hangs_up_pays_what_the_vendor_counts_in_time(
    gateway: GatewayProcess, vendors: Vendors, node: Node, *, sdk: Vendor, vendor: Vendor
) -> None:
    vendors.play(stream(vendor, SAID, silences={BEFORE_HALF[vendor]: SILENCE_S}))
    with gateway.bill() as bill:
        told = node.run(sdk=sdk, leaves=True, **HEAR, **reach(gateway, sdk, vendor))
    assert told["words"] == HALF
    assert [(charge.ended_by, charge.is_estimated) for charge in bill] == [("client_disconnected", False)]
    assert bill[0].cost_nusd == cost_nusd(SAID.tokens)
