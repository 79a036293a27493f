"""The view of the records: swapped whole, the health of keys living on while the keys stay the same."""

import msgspec

from tests.fakes import make_price
from trollproxy.gateway.snapshot import Live, Snapshot
from trollproxy.records import Endpoint, Model, Provider, UpstreamKey

KEYS = (UpstreamKey(key_id="a", secret="1"), UpstreamKey(key_id="b", secret="2"))
PROVIDER = Provider(name="acme", endpoints={"openai_chat": Endpoint(host="h", port=1, tls=False, path="/")}, keys=KEYS)
MODEL = Model(model_id="m", provider="acme", price=make_price())


def snapshot(provider: Provider = PROVIDER, previous: Snapshot | None = None) -> Snapshot:
    return Snapshot([MODEL], {provider.name: provider}, previous)


def test_it_knows_models_providers_and_keys() -> None:
    view = snapshot()
    assert view.routes.find("m") is MODEL
    assert view.providers == {"acme": PROVIDER}
    assert len(view.keys["acme"]) == 2


def test_the_health_of_keys_survives_a_reload() -> None:
    before = snapshot()
    before.keys["acme"].report_failure(KEYS[0], 100.0)
    changed = msgspec.structs.replace(PROVIDER, headers=(("x", "y"),))
    after = snapshot(changed, before)
    assert after.keys["acme"] is before.keys["acme"]
    assert [after.keys["acme"].pick(0.0) for _ in range(2)] == [KEYS[1], KEYS[1]]


def test_other_keys_begin_healthy() -> None:
    before = snapshot()
    before.keys["acme"].report_failure(KEYS[0], 100.0)
    after = snapshot(msgspec.structs.replace(PROVIDER, keys=KEYS[:1]), before)
    assert after.keys["acme"].pick(0.0) == KEYS[0]
    renamed = snapshot(msgspec.structs.replace(PROVIDER, name="other"), before)
    assert renamed.keys["other"].pick(0.0) == KEYS[0]


def test_a_view_does_not_follow_what_it_was_made_of() -> None:
    providers = {"acme": PROVIDER}
    view = Snapshot([MODEL], providers)
    providers.clear()
    assert view.providers == {"acme": PROVIDER}


def test_a_swap_leaves_the_old_view_to_those_who_hold_it() -> None:
    live = Live(snapshot())
    held = live.snapshot
    live.snapshot = Snapshot((), {})
    assert held.routes.find("m") is MODEL
    assert live.snapshot.routes.find("m") is None
