"""What a vendor refuses, as every SDK sees it: the exception, its words, how often it asks again, and what it costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as genai_errors

from tests.e2e.cells import gateway_of_cells, model_of
from tests.e2e.clients import CONVERSATIONS, Conversation
from tests.e2e.grid import by_every_sdk, on_every_vendor
from tests.e2e.native import Vendor, error
from tests.e2e.process import GatewayProcess
from tests.e2e.translating import model_on
from tests.e2e.vendors import Vendors

WORDS = "This is how the vendor puts it."


@dataclass(frozen=True)
class Refusal:
    """What the gateway makes of a vendor's status (docs/errors.md)."""

    status: int
    code: str
    openai: str  # the SDK's exception
    anthropic: str
    is_temporary: bool = False  # SDKs that ask again by themselves do so

    def name(self, own: Vendor) -> str:
        if own == "gemini":
            return "ServerError" if self.status >= 500 else "ClientError"
        return self.anthropic if own == "anthropic" else self.openai

    def shown_status(self, own: Vendor) -> int:
        """Anthropic has a status of its own for overload."""
        return 529 if own == "anthropic" and self.status == 503 else self.status


REFUSALS = {
    400: Refusal(400, "upstream_rejected", "BadRequestError", "BadRequestError"),
    401: Refusal(502, "upstream_auth", "InternalServerError", "InternalServerError", True),
    402: Refusal(502, "upstream_budget", "InternalServerError", "InternalServerError", True),
    404: Refusal(404, "upstream_rejected", "NotFoundError", "NotFoundError"),
    413: Refusal(413, "upstream_rejected", "APIStatusError", "ContentTooLargeError"),
    429: Refusal(429, "upstream_rate_limited", "RateLimitError", "RateLimitError", True),
    500: Refusal(502, "upstream_failed", "InternalServerError", "InternalServerError", True),
    529: Refusal(503, "upstream_overloaded", "InternalServerError", "OverloadedError", True),
}
RESTING = (401, 402, 429)  # after which the key that was used rests
OUR_KEY = (401, 402)  # statuses that speak of the gateway's own key,
RETRY_AFTER = "0.2"  # seconds; clients are told the next whole one
WAYS = ("whole", "stream", "again")


def cell(sdk: type[Conversation], status: int, way: str) -> str:
    """As few upstreams as will do: keys rest after some refusals, and breakers count failures."""
    if REFUSALS[status].code == "upstream_rejected":
        return "rejected"
    return f"{sdk.own}-{status}-{way}" if status in RESTING else f"{sdk.own}-{status}"


@pytest.fixture(scope="module")
def vendors() -> Iterator[Vendors]:
    with Vendors() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    names = {cell(sdk, status, way) for sdk in CONVERSATIONS for status in REFUSALS for way in WAYS}
    with gateway_of_cells(tmp_path_factory.mktemp("errors"), vendors, names) as running:
        yield running


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the SDKs would wait before they ask again; here they do not."""
    waited: list[float] = []

    def note(self: Any, *, retries_taken: int, max_retries: int, options: Any, response: Any) -> None:
        headers = response.headers if response is not None else None
        waited.append(self._calculate_retry_timeout(max_retries - retries_taken, options, headers))

    monkeypatch.setattr("openai._base_client.SyncAPIClient._sleep_for_retry", note)
    monkeypatch.setattr("anthropic._base_client.SyncAPIClient._sleep_for_retry", note)
    return waited


def refused(conversation: Conversation, *, stream: bool) -> Any:
    """The exception of the SDK."""
    conversation.say("Hello")
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError, genai_errors.APIError)) as caught:
        conversation.ask(stream=stream)
    return caught.value


def status_of(error: Any) -> int:
    return error.code if isinstance(error, genai_errors.APIError) else error.status_code


def code_of(error: Any) -> str:
    """Our code, where the dialect has a place for it."""
    if isinstance(error, genai_errors.APIError):
        (about,) = [detail for detail in error.details["error"]["details"] if "reason" in detail]
        return str(about["reason"]).lower()
    if isinstance(error, anthropic.APIStatusError):
        return str(error.body["error"]["details"]["code"])  # type: ignore[index]
    return str(error.code)


def request_id_of(error: Any) -> str:
    if isinstance(error, genai_errors.APIError):
        return str(error.response.headers["x-request-id"])
    return str(error.request_id)


@pytest.mark.parametrize("status", REFUSALS)
@on_every_vendor
@by_every_sdk
def test_a_refusal_is_raised_and_costs_nothing(
    gateway: GatewayProcess, vendors: Vendors, sdk: type[Conversation], *, vendor: Vendor, status: int
) -> None:
    vendors.reset()
    vendors.play(error(vendor, status, WORDS), error(vendor, status, WORDS))
    expected = REFUSALS[status]
    caught = []
    with gateway.bill() as bill:
        for way in ("whole", "stream"):
            with sdk(gateway.url, gateway.key, model_of(cell(sdk, status, way), vendor)) as conversation:
                caught.append(refused(conversation, stream=way == "stream"))
    assert [type(each).__name__ for each in caught] == [expected.name(sdk.own)] * 2
    assert [(status_of(each), code_of(each)) for each in caught] == [
        (expected.shown_status(sdk.own), expected.code)
    ] * 2
    # Only of a fault of the client's own the vendor's words are told.
    assert [WORDS in str(each) for each in caught] == [expected.code == "upstream_rejected"] * 2
    assert "real-model" not in str(caught)
    assert len(vendors.seen) == 2
    assert [charge.request_id for charge in bill] == [request_id_of(each) for each in caught]
    assert {(charge.cost_nusd, charge.ended_by, charge.code, charge.status) for charge in bill} == {
        (0, "provider_error_before_token", expected.code, expected.status)
    }


@pytest.mark.parametrize("status", REFUSALS)
@on_every_vendor
@by_every_sdk
def test_sdks_ask_again_where_that_may_help(
    gateway: GatewayProcess,
    vendors: Vendors,
    waits: list[float],
    sdk: type[Conversation],
    *,
    vendor: Vendor,
    status: int,
) -> None:
    """Each try that was forwarded has its own row. A key that was refused is not shown to the vendor again."""
    vendors.reset()
    refusal = error(vendor, status, WORDS, retry_after=RETRY_AFTER)
    vendors.play(refusal, refusal)
    expected = REFUSALS[status]
    model = model_of(cell(sdk, status, "again"), vendor)
    with gateway.bill() as bill, sdk(gateway.url, gateway.key, model, max_retries=1) as conversation:
        caught = refused(conversation, stream=False)
    tries = 2 if expected.is_temporary and sdk.own != "gemini" else 1
    assert len(conversation.sent) == tries
    assert len(vendors.seen) == len(bill) == (1 if status in OUR_KEY else tries)
    assert len(waits) == tries - 1
    if status in {429, 500, 529} and sdk.own != "gemini":
        assert waits == [1.0]
    if status in OUR_KEY and tries == 2:
        assert code_of(caught) == "no_upstream_key"
        assert not isinstance(caught, openai.AuthenticationError | anthropic.AuthenticationError)
    else:
        assert code_of(caught) == expected.code
    assert sum(charge.cost_nusd for charge in bill) == 0


@by_every_sdk
def test_an_unknown_key_is_the_clients_own_trouble(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation]
) -> None:
    with (
        bridge.bill() as bill,
        sdk(bridge.url, bridge.key[:-1] + "x", model_on("openai"), max_retries=2) as conversation,
    ):
        caught = refused(conversation, stream=False)
    assert type(caught).__name__ == ("ClientError" if sdk.own == "gemini" else "AuthenticationError")
    assert (status_of(caught), len(conversation.sent)) == (401, 1)
    assert code_of(caught) in {"invalid_key", "invalid_api_key"}
    assert (upstream.seen, bill) == ([], [])
    assert request_id_of(caught).startswith("req_")


@by_every_sdk
def test_an_unknown_model_is_not_found(bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation]) -> None:
    with bridge.bill() as bill, sdk(bridge.url, bridge.key, "no-such-model", max_retries=2) as conversation:
        caught = refused(conversation, stream=True)
    assert type(caught).__name__ == ("ClientError" if sdk.own == "gemini" else "NotFoundError")
    assert (status_of(caught), code_of(caught), len(conversation.sent)) == (404, "model_not_found", 1)
    assert (upstream.seen, bill) == ([], [])
