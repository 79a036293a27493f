"""What an ended exchange leaves: one count and one line, without a secret in either."""

import logging

import pytest

from tests.fakes import FakeReply
from tests.unit.gateway.house import COST, KEY, House, ask, play, whole
from trollproxy.gateway.observer import Observer


def test_an_exchange_is_one_line_and_one_count() -> None:
    async def scene(house: House) -> None:
        await house.serve()

    house = play(lambda: House(whole()), scene)
    [fields] = house.told
    assert (fields["user"], fields["model"], fields["provider"], fields["upstream_key"]) == ("ann", "m", "acme", "uk-1")
    assert (fields["status"], fields["code"], fields["cost"]) == (200, "ok", "$0.00015")
    assert (fields["input_tokens"], fields["output_tokens"]) == (100, 50)
    rendered = house.metrics.render().decode()
    assert 'trollproxy_requests_total{code="ok",format="openai_chat",model="m"} 1.0' in rendered
    assert f'trollproxy_cost_usd_total{{model="m"}} {COST / 1e9}' in rendered


@pytest.mark.parametrize(("key", "body", "code"), [(None, ask(), "missing_key"), (KEY, b"{", "invalid_json")])
def test_a_refusal_is_seen_too(key: str | None, body: bytes, code: str) -> None:
    async def scene(house: House) -> None:
        await house.serve(body, key)

    house = play(House, scene)
    [fields] = house.told
    assert (fields["code"], fields["model"], fields["cost"]) == (code, None, "$0.00")
    assert f'code="{code}",format="openai_chat",model="other"' in house.metrics.render().decode()


def test_no_secret_is_in_the_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def scene(house: House) -> None:
        await house.serve()

    house = play(lambda: House(FakeReply(b"", status=401), whole()), scene)
    told = "".join(str(record.__dict__) for record in caplog.records) + "".join(house.lines)
    assert KEY.split("-")[3] not in told
    assert "secret-" not in told


def test_without_an_access_log_it_is_counted_all_the_same() -> None:
    async def scene(house: House) -> None:
        house.observer = Observer(house.metrics)
        await house.serve()

    house = play(lambda: House(whole()), scene)
    assert house.lines == []
    assert "trollproxy_requests_total{" in house.metrics.render().decode()
