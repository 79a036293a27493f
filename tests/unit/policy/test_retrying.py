"""Whether there is another try, where, and after how long a wait."""

import pytest

from trollproxy.errors import (
    GatewayError,
    UpstreamAuthFailed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from trollproxy.policy.retrying import Next, RetryBudget, RetryPolicy, Tries

POLICY = RetryPolicy(max_tries=5, max_rounds=3, max_keys=2, deadline_s=10.0)
DOWN = UpstreamUnavailable("x")
BAD_KEY = UpstreamAuthFailed("x")
INFINITY = float("inf")


class Trip:
    """The tries of one request among providers that can be asked after so many seconds."""

    def __init__(self, *waits: float, policy: RetryPolicy = POLICY, budget: float = 10.0) -> None:
        self.waits = list(waits)
        self.tries = Tries(policy, len(waits), started_s=0.0)
        self.budget = RetryBudget(1.0, budget)

    def first(self) -> Next | None:
        return self.tries.first(self.wait)

    def after(self, error: GatewayError, now_s: float = 0.0) -> Next | None:
        return self.tries.after(error, now_s, wait=self.wait, chance=1.0, budget=self.budget)

    def wait(self, place: int) -> float:
        return self.waits[place]

    def places(self, error: GatewayError) -> list[int]:
        found, places = self.first(), []
        while found is not None:
            places.append(found.place)
            found = self.after(error)
        return places


def test_the_first_that_can_be_asked_is() -> None:
    assert Trip(0.0, 0.0).first() == Next(0, 0.0)
    assert Trip(1.0, 0.0).first() == Next(1, 0.0)
    assert Trip(1.0, 0.5).first() == Next(1, 0.5)
    assert Trip(3.0, INFINITY).first() is None


def test_a_providers_failure_goes_along_the_providers_round_after_round() -> None:
    assert Trip(0.0, 0.0).places(DOWN) == [0, 1, 0, 1, 0]
    assert Trip(0.0).places(DOWN) == [0, 0, 0]
    assert Trip(0.0, INFINITY, 0.0).places(DOWN) == [0, 2, 0, 2, 0]


def test_another_key_is_tried_at_the_same_provider_but_not_all_of_them() -> None:
    assert Trip(0.0, 0.0).places(BAD_KEY) == [0, 0, 1, 1, 0]
    assert Trip(0.0).places(BAD_KEY) == [0, 0, 0, 0, 0]


def test_where_the_keys_all_rest_the_next_provider_is_tried() -> None:
    trip = Trip(0.0, 0.0)
    trip.first()
    trip.waits[0] = 30.0
    assert trip.after(BAD_KEY) == Next(1, 0.0)


def test_another_place_is_tried_at_once_and_a_new_round_after_a_wait() -> None:
    trip = Trip(0.0, 0.0, policy=RetryPolicy(max_rounds=5, max_tries=20))
    trip.first()
    waits = [found.wait_s for _ in range(8) if (found := trip.after(DOWN))]
    assert waits == [0, 0.1, 0, 0.2, 0, 0.4, 0, 0.8]


def test_a_wait_has_a_bound_and_chance_shortens_it() -> None:
    trip = Trip(0.0, policy=RetryPolicy(first_wait_s=8.0))
    trip.first()
    found = trip.tries.after(DOWN, 0.0, wait=trip.wait, chance=0.0, budget=trip.budget)
    assert found == Next(0, 1.0)


def test_a_key_that_comes_back_soon_is_waited_for() -> None:
    trip = Trip(0.0)
    trip.first()
    trip.waits[0] = 1.5
    assert trip.after(BAD_KEY) == Next(0, 1.5)
    assert trip.after(BAD_KEY) is None  # the patience is for all waits together


@pytest.mark.parametrize("error", [UpstreamRejected("x"), GatewayError("x")])
def test_what_no_other_would_answer_either_is_not_tried_again(error: GatewayError) -> None:
    assert Trip(0.0, 0.0).places(error) == [0]


def test_who_was_silent_is_not_asked_again() -> None:
    assert Trip(0.0, 0.0).places(UpstreamTimeout("x")) == [0, 1]


def test_no_try_begins_after_the_deadline() -> None:
    trip = Trip(0.0, 0.0)
    trip.first()
    assert trip.after(DOWN, now_s=10.1) is None


def test_somebody_else_was_quicker() -> None:
    trip = Trip(0.0)
    assert trip.first() == Next(0, 0.0)
    trip.waits[0] = 1.0
    assert trip.tries.instead(trip.wait, chance=1.0) == Next(0, 1.0)
    assert trip.tries.is_first
    assert trip.tries.instead(trip.wait, chance=1.0) is None  # the patience is spent


def test_a_try_that_could_not_take_place_goes_on_from_there() -> None:
    trip = Trip(0.0, 0.0, 0.0)
    trip.first()
    trip.after(DOWN)
    assert trip.tries.instead(trip.wait, chance=1.0) == Next(2, 0.0)
    assert trip.tries.instead(trip.wait, chance=1.0) == Next(0, 0.1)


def test_a_spent_budget_allows_no_retry() -> None:
    trip = Trip(0.0, 0.0, budget=1.0)
    assert trip.places(DOWN) == [0, 1]
    assert trip.budget.refused == 1
    trip.budget.add()
    assert trip.budget.take()
    assert not trip.budget.take()


def test_an_outage_is_not_multiplied() -> None:
    """1,000 requests to a provider that is down, which might each be tried eight times."""
    budget, calls = RetryBudget(0.5, burst=20.0), 0
    for _ in range(1_000):
        budget.add()
        tries = Tries(RetryPolicy(), 1, started_s=0.0)
        found = tries.first(lambda _: 0.0)
        while found is not None:
            calls += 1
            found = tries.after(DOWN, 0.0, wait=lambda _: 0.0, chance=0.0, budget=budget)
    assert calls <= 1_000 * 1.5 + 20


def test_those_that_were_asked_together_count_and_the_tries_go_on_behind_them() -> None:
    trip = Trip(0.0, 0.0, 0.0)
    assert trip.first() == Next(0, 0.0)
    trip.tries.also(1)
    assert (trip.tries.count, trip.tries.is_first) == (2, False)
    assert trip.after(DOWN) == Next(2, 0.0)
    assert [found.place for found in iter(lambda: trip.after(DOWN), None)] == [0, 1]


def test_one_that_let_its_deadline_pass_beside_others_is_not_asked_again() -> None:
    trip = Trip(0.0, 0.0)
    trip.first()
    trip.tries.also(1)
    trip.tries.silence(0)
    found = trip.after(DOWN)
    assert found is not None
    assert found.place == 1


def test_the_deadline_counts_from_the_first_try_and_not_from_the_wait_before_it() -> None:
    trip = Trip(0.0, 0.0)
    trip.first()
    trip.tries.begin(8.0)
    assert trip.after(DOWN, now_s=17.0) == Next(1, 0.0)
    assert trip.after(DOWN, now_s=19.0) is None
