"""The view of the records: swapped whole, the health of keys living on while the keys stay the same."""

import msgspec

from tests.fakes import make_price
from trollproxy.gateway.snapshot import Live, Snapshot
from trollproxy.records import Endpoint, Model, Provider, Supplier, UpstreamKey

KEYS = (UpstreamKey(key_id="a", secret="1"), UpstreamKey(key_id="b", secret="2"))
PROVIDER = Provider(name="acme", endpoints={"openai_chat": Endpoint(host="h", port=1, tls=False, path="/")}, keys=KEYS)
MODEL = Model(model_id="m", provider="acme", price=make_price())


def snapshot(provider: Provider = PROVIDER, previous: Snapshot | None = None) -> Snapshot:
    return Snapshot([MODEL], {provider.name: provider}, previous)


def picked(view: Snapshot, provider: str = "acme") -> UpstreamKey:
    lease = view.keys[provider].pick(0.0)
    assert lease is not None
    return lease.value


def rest_first(view: Snapshot) -> None:
    lease = view.keys["acme"].pick(0.0)
    assert lease is not None
    lease.report("rate", 0.0, 100.0)
    lease.release()


def test_it_knows_models_providers_and_keys() -> None:
    view = snapshot()
    assert view.routes.find("m") is MODEL
    assert view.providers == {"acme": PROVIDER}
    assert len(view.keys["acme"]) == 2


def test_the_health_of_keys_survives_a_reload() -> None:
    before = snapshot()
    rest_first(before)
    changed = msgspec.structs.replace(PROVIDER, headers=(("x", "y"),))
    after = snapshot(changed, before)
    assert after.keys["acme"] is before.keys["acme"]
    assert picked(after) == picked(after) == KEYS[1]
    more = (*KEYS, UpstreamKey(key_id="c", secret="3"))
    third = snapshot(msgspec.structs.replace(PROVIDER, keys=more), after)
    assert {picked(third), picked(third)} == {KEYS[1], more[2]}


def test_other_keys_begin_healthy() -> None:
    before = snapshot()
    rest_first(before)
    replaced = msgspec.structs.replace(KEYS[0], secret="new")
    assert picked(snapshot(msgspec.structs.replace(PROVIDER, keys=(replaced,)), before)) == replaced
    renamed = snapshot(msgspec.structs.replace(PROVIDER, name="other"), before)
    assert picked(renamed, "other") == KEYS[0]


def test_breakers_live_on_and_there_is_one_for_each_supplier() -> None:
    fallback = Supplier(provider="other", upstream_model="n")
    model = msgspec.structs.replace(MODEL, fallbacks=(fallback,))
    providers = {"acme": PROVIDER, "other": msgspec.structs.replace(PROVIDER, name="other")}
    before = Snapshot([model], providers)
    assert set(before.breakers) == {("acme", "m"), ("other", "m")}
    after = Snapshot([MODEL], providers, before)
    assert after.breakers == {("acme", "m"): before.breakers["acme", "m"]}


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


def test_a_stop_knows_what_its_provider_calls_the_model() -> None:
    every = msgspec.structs.replace(MODEL, model_id="m-*", max_output_tokens=9)
    named = msgspec.structs.replace(every, upstream_model="their-m")
    own = msgspec.structs.replace(named, model_id="m")
    view = Snapshot([every], {"acme": PROVIDER})
    [stop] = view.stops(every)
    assert [stop.target(asked).model for asked in ("m-1", "m-2")] == ["m-1", "m-2"]
    assert stop.target("m-1").max_output_tokens == 9
    assert Snapshot([named], {"acme": PROVIDER}).stops(named)[0].target("m-1").model == "their-m"
    [fixed] = Snapshot([own], {"acme": PROVIDER}).stops(own)
    assert fixed.target("BIG").model == "their-m"
    assert fixed.target("BIG") is fixed.target("m")


def test_stops_are_made_once_a_reload_and_see_it() -> None:
    before = snapshot()
    [stop] = before.stops(MODEL)
    assert before.stops(MODEL)[0] is stop
    changed = msgspec.structs.replace(PROVIDER, cannot=frozenset({"tools"}), drops_thinking=True)
    [other] = snapshot(changed, before).stops(MODEL)
    assert (other.provider, other.edits.drops_thinking, other.target("m").cannot) == (changed, True, changed.cannot)
    assert (stop.edits.drops_thinking, stop.target("m").cannot) == (False, frozenset())
    assert (other.keys, other.breaker) == (stop.keys, stop.breaker)


def test_a_stop_can_be_asked_when_its_keys_and_its_breaker_are_ready() -> None:
    view = snapshot()
    [stop] = view.stops(MODEL)
    assert stop.free_at_s(3.0) == 3.0
    for _ in KEYS:
        rest_first(view)
    assert stop.free_at_s(3.0) == 100.0
