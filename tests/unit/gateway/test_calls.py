"""The head of what goes to a provider: kept for the next request of its kind, and never taken for another's."""

from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import cast

import msgspec
import pytest

from tests.fakes import FakeReply
from tests.unit.gateway.house import ENVIRONMENT_KEY, House, ask, changed, play
from trollproxy.gateway import calls as module
from trollproxy.gateway.exchange import ClientRequest
from trollproxy.gateway.snapshot import Snapshot
from trollproxy.ports import UpstreamCall
from trollproxy.records import Endpoint, UpstreamKey
from trollproxy.wire import ANTHROPIC, GEMINI, OPENAI_CHAT, OPENAI_RESPONSES
from trollproxy.wire.format import Entry

KEY_1, KEY_2 = (UpstreamKey(key_id=f"uk-{number}", secret=f"secret-{number}") for number in (1, 2))


def endpoint(path: str) -> Endpoint:
    return Endpoint(host="acme.test", port=443, tls=True, path=path)


class Hub(House):
    """Every model there is, of a provider with one key that speaks three formats and refuses whatever it is asked."""

    def __init__(self) -> None:
        super().__init__(*(FakeReply(b"{}", status=400) for _ in range(50)))

    def show(self) -> None:
        endpoints = {"openai_chat": "/v1/chat", "anthropic": "/v1/messages", "gemini": "/v1beta/models"}
        self.provider = msgspec.structs.replace(
            self.provider,
            endpoints={name: endpoint(path) for name, path in endpoints.items()},
            keys=self.provider.keys[:1],
        )
        self.model = msgspec.structs.replace(self.model, model_id="*", upstream_model=None)
        super().show()

    def change(self, **changes: object) -> None:
        self.provider = msgspec.structs.replace(self.provider, **changes)
        super().show()

    def asking(self, beta: str | None = None) -> ClientRequest:
        headers = {} if beta is None else {"openai-beta": beta, "anthropic-beta": beta}
        return changed(self.request(ENVIRONMENT_KEY), headers=headers)

    async def call(self, request: ClientRequest | None = None, body: bytes | None = None) -> UpstreamCall:
        await self.pipeline().serve(request or self.asking(), type(self.client)(), body or ask())
        return self.upstream.calls[-1]


def play_in_hub(scene: Callable[[Hub], Awaitable[None]]) -> None:
    play(Hub, lambda house: scene(cast(Hub, house)))


def is_same(first: UpstreamCall, second: UpstreamCall) -> bool:
    """The very same, by which the upstream client knows it again."""
    return first.headers is second.headers and first.endpoint is second.endpoint


def test_the_next_request_of_its_kind_has_the_very_same_head() -> None:
    async def scene(house: Hub) -> None:
        first = await house.call()
        assert is_same(first, await house.call())
        assert is_same(first, await house.call(body=ask(temperature=1)))
        assert not is_same(first, await house.call(house.asking("b1")))
        assert is_same(first, await house.call())

    play_in_hub(scene)


def test_each_kind_of_request_has_a_head_of_its_own() -> None:
    async def scene(house: Hub) -> None:
        plain = house.asking()
        gemini = changed(plain, format=GEMINI, entry=Entry(model="m"))
        contents = b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'
        kinds = [
            (plain, ask()),
            (plain, ask(stream=True)),
            (house.asking("b1"), ask()),
            (house.asking("b2"), ask()),
            (changed(plain, format=ANTHROPIC), ask()),
            (changed(plain, format=ANTHROPIC, entry=Entry(is_beta=True)), ask()),
            (changed(plain, format=ANTHROPIC, entry=Entry(operation="count_tokens")), ask()),
            (gemini, contents),
            (changed(gemini, entry=Entry(model="n")), contents),
            (changed(gemini, entry=Entry(model="n", stream=True)), contents),
        ]
        first = [await house.call(request, body) for request, body in kinds]
        assert len(house.upstream.calls) == len(kinds)
        heads = [(call.endpoint.path, dict(call.headers)) for call in first]
        assert all(head not in heads[:place] for place, head in enumerate(heads))
        assert [path for path, _ in heads[4:]] == [
            "/v1/messages",
            "/v1/messages?beta=true",
            "/v1/messages/count_tokens",
            "/v1beta/models/m:generateContent",
            "/v1beta/models/n:generateContent",
            "/v1beta/models/n:streamGenerateContent?alt=sse",
        ]
        assert [headers.get("openai-beta") for _, headers in heads[:4]] == [None, None, "b1", "b2"]
        assert heads[1][1]["accept"] == "text/event-stream"

    play_in_hub(scene)


def test_a_provider_may_take_two_formats_in_two_places() -> None:
    async def scene(house: Hub) -> None:
        house.provider = msgspec.structs.replace(
            house.provider,
            endpoints={
                "openai_chat": endpoint("/v1"),
                "openai_responses": msgspec.structs.replace(endpoint("/v1"), host="other.test"),
            },
        )
        House.show(house)
        for wire in (OPENAI_CHAT, OPENAI_RESPONSES, OPENAI_CHAT):
            body = b'{"model":"m","input":"hi"}' if wire is OPENAI_RESPONSES else ask()
            await house.call(changed(house.asking(), format=wire), body)
        assert house.asked == ["acme", "other", "acme"]

    play_in_hub(scene)


def test_each_key_has_a_head_of_its_own() -> None:
    async def scene(house: Hub) -> None:
        house.provider = msgspec.structs.replace(house.provider, keys=(KEY_1, KEY_2))
        House.show(house)
        made = [await house.call() for _ in range(4)]
        assert house.upstream.secrets() == ["secret-1", "secret-2"] * 2
        assert [is_same(made[at], made[at + 2]) for at in (0, 1)] == [True, True]

    play_in_hub(scene)


def test_two_providers_may_name_their_keys_alike() -> None:
    async def scene(house: Hub) -> None:
        other = msgspec.structs.replace(
            house.provider,
            name="other",
            keys=(UpstreamKey(key_id="uk-1", secret="other-1"),),
            endpoints={"openai_chat": msgspec.structs.replace(endpoint("/v1/chat"), host="other.test")},
        )
        models = [
            msgspec.structs.replace(house.model, model_id="m"),
            msgspec.structs.replace(house.model, model_id="n", provider="other"),
        ]
        house.live.snapshot = Snapshot(models, {"acme": house.provider, "other": other}, house.live.snapshot)
        for name in ("m", "n", "m"):
            await house.call(body=ask(model=name))
        assert house.asked == ["acme", "other", "acme"]
        assert house.upstream.secrets() == ["secret-1", "other-1", "secret-1"]

    play_in_hub(scene)


def test_a_reload_is_seen() -> None:
    async def scene(house: Hub) -> None:
        made = [await house.call()]
        changes: list[dict[str, object]] = [
            {"headers": (("x-extra", "1"),)},
            {"keys": (UpstreamKey(key_id="uk-1", secret="rotated"),)},
            {"key_header": "api-key"},
            {"endpoints": {"openai_chat": endpoint("/v2/chat")}},
        ]
        for change in changes:
            house.change(**change)
            made.append(await house.call())
        assert not any(is_same(*pair) for pair in pairwise(made))
        headers = [dict(call.headers) for call in made]
        assert [each.get("x-extra") for each in headers] == [None, "1", "1", "1", "1"]
        assert [each.get("authorization") for each in headers] == [
            *["Bearer secret-1"] * 2,
            "Bearer rotated",
            *[None] * 2,
        ]
        assert [each.get("api-key") for each in headers[3:]] == ["rotated", "rotated"]
        assert [call.endpoint.path for call in made[3:]] == ["/v1/chat", "/v2/chat"]

    play_in_hub(scene)


def test_heads_are_bounded_in_number_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(house: Hub) -> None:
        heads = house.live.snapshot.sent_heads
        for beta in ("a", "b", "a", "c", "d", "a", "x" * 1025, "b", "y" * 1025):
            assert dict((await house.call(house.asking(beta))).headers)["openai-beta"] == beta
            assert len(heads) <= 3
            assert all(len(str(known_by)) < 1500 for known_by in heads)

    monkeypatch.setattr(module, "MAX_SENT_HEADS", 3)
    play_in_hub(scene)
