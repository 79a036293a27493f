"""Filters and left-out reasoning through the pipeline: what the provider sees, what the client sees, what is billed."""

import json

import msgspec
import pytest

from tests.fakes import FakeReply, streamed
from tests.unit.gateway.house import ANSWER, COST, DONE, USAGE, House, ask, changed, play, whole
from trollproxy.records import Endpoint, FilterRule
from trollproxy.wire import ANTHROPIC
from trollproxy.wire.format import Entry

RULES = (
    FilterRule(pattern="Droid", replacement="agent"),
    FilterRule(pattern="Asked", replacement="x", in_responses=False),
    FilterRule(pattern="Said", replacement="y", in_requests=False),
)


def change(house: House, **provider: object) -> None:
    house.provider = msgspec.structs.replace(house.provider, **provider)
    house.show()


def asked(text: str, **members: object) -> bytes:
    return ask(messages=[{"role": "user", "content": text}], **members)


def answer(text: str, **message: object) -> FakeReply:
    message |= {"content": text}
    return FakeReply(json.dumps({"choices": [{"message": message}], "usage": USAGE}).encode())


def sent(house: House, call: int = 0) -> str:
    text: str = json.loads(house.upstream.calls[call].body)["messages"][0]["content"]
    return text


def test_each_way_has_its_rules() -> None:
    async def scene(house: House) -> None:
        change(house, filters=RULES)
        client = await house.serve(asked("Droid Asked Said"))
        assert sent(house) == "agent x Said"
        assert json.loads(client.body)["choices"][0]["message"]["content"] == "agent Asked y"

    house = play(lambda: House(answer("Droid Asked Said")), scene)
    assert [charge.cost_nusd for charge in house.sink.charges] == [COST]


def test_without_rules_the_bytes_pass() -> None:
    async def scene(house: House) -> None:
        client = await house.serve(asked("Droid", model="m"))
        assert client.body == ANSWER
        assert b"Droid" in house.upstream.calls[0].body

    play(lambda: House(whole()), scene)


def test_a_match_over_two_chunks_is_found_and_billed_as_it_was_said() -> None:
    def chunk(**delta: str) -> bytes:
        return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"

    finish = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'

    async def scene(house: House) -> None:
        change(house, filters=RULES, drops_thinking=True)
        client = await house.serve(ask(stream=True))
        assert b"Droid" not in client.body
        assert b"agent" in client.body
        assert b"hm" not in client.body
        assert client.body.endswith(DONE)

    pieces = (chunk(reasoning_content="hm"), chunk(content="a Dro"), chunk(content="id"), finish, DONE)
    play(lambda: House(streamed(*pieces)), scene)


@pytest.mark.parametrize(("model", "is_seen"), [(None, False), (False, True), (True, False)])
def test_a_model_may_say_otherwise_of_reasoning(model: bool | None, is_seen: bool) -> None:
    async def scene(house: House) -> None:
        house.model = msgspec.structs.replace(house.model, drops_thinking=model)
        change(house, drops_thinking=True)
        client = await house.serve()
        assert (b"hm" in client.body) == is_seen

    play(lambda: House(answer("Hello", reasoning_content="hm")), scene)


def test_a_providers_refusal_is_filtered_too() -> None:
    async def scene(house: House) -> None:
        change(house, filters=RULES)
        client = await house.serve()
        assert json.loads(client.body)["error"]["message"] == "No agent here, [hidden]."

    refusal = json.dumps({"error": {"message": "No Droid here, sk-secret-123."}}).encode()
    play(lambda: House(FakeReply(refusal, status=400)), scene)


def test_a_translated_request_is_filtered_alike() -> None:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Droid Asked"}]}

    async def scene(house: House) -> None:
        change(house, filters=RULES)
        client = await house.serve(json.dumps(body).encode(), wire=ANTHROPIC)
        assert "agent x" in json.dumps(json.loads(house.upstream.calls[0].body))
        assert json.loads(client.body)["content"][0]["text"] == "agent y"

    play(lambda: House(answer("Droid Said")), scene)


def test_an_answer_from_the_providers_cache_is_marked_and_billed_at_the_cache_price() -> None:
    cached = USAGE | {"prompt_tokens_details": {"cached_tokens": 80}}
    text = {"choices": [{"message": {"content": "It is the same every time. " * 4}}]}
    plain, read = json.dumps(text | {"usage": USAGE}).encode(), json.dumps(text | {"usage": cached}).encode()

    async def scene(house: House) -> None:
        price = house.model.price
        cheap = msgspec.structs.replace(price, per_mtok_nusd=price.per_mtok_nusd | {"read": 100_000_000})
        house.model = msgspec.structs.replace(house.model, price=cheap)
        house.show()
        for _ in range(3):
            await house.serve()

    house = play(lambda: House(FakeReply(plain), FakeReply(plain), FakeReply(read)), scene)
    assert [line["cached"] for line in house.told] == [None, "identical", "usage"]
    assert house.observer.cached_answers() == {("acme", "m", "identical"): 1, ("acme", "m", "usage"): 1}
    assert [charge.cost_nusd for charge in house.sink.charges] == [COST, COST, 20_000 + 50_000 + 80 * 100]


def test_a_count_shows_the_provider_no_words_either() -> None:
    endpoint = Endpoint(host="acme.test", port=443, tls=True, path="/v1/messages")

    async def scene(house: House) -> None:
        change(house, filters=RULES, endpoints={"anthropic": endpoint})
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Droid"}]}).encode()
        counted = changed(house.request(), format=ANTHROPIC, entry=Entry(operation="count_tokens"))
        await house.pipeline().serve(counted, house.client, body)
        assert sent(house) == "agent"

    play(lambda: House(FakeReply(b'{"input_tokens":3}')), scene)
