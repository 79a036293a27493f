"""Which answers a provider had in its cache."""

from trollproxy.policy.echoes import MAX_REMEMBERED, WINDOW_S, Echoes

ASKED = ("acme", "m", 1)
LONG = (100, 7)


def test_the_same_answer_to_the_same_request_was_not_thought_of_twice() -> None:
    echoes = Echoes()
    assert echoes.hear(ASKED, LONG, read_tokens=0, now_s=0.0) is None
    assert echoes.hear(ASKED, LONG, read_tokens=0, now_s=1.0) == "identical"
    assert echoes.hear(ASKED, (100, 8), read_tokens=0, now_s=2.0) is None
    assert echoes.hear(("acme", "m", 2), LONG, read_tokens=0, now_s=2.0) is None
    assert echoes.counts == {("acme", "m", "identical"): 1}


def test_the_providers_word_comes_first() -> None:
    echoes = Echoes()
    assert echoes.hear(ASKED, LONG, read_tokens=5, now_s=0.0) == "usage"
    assert echoes.hear(ASKED, LONG, read_tokens=5, now_s=0.0) == "usage"


def test_short_and_old_answers_say_nothing() -> None:
    echoes = Echoes()
    for _ in range(2):
        assert echoes.hear(ASKED, (5, 7), read_tokens=0, now_s=0.0) is None
    assert echoes.hear(ASKED, LONG, read_tokens=0, now_s=0.0) is None
    assert echoes.hear(ASKED, LONG, read_tokens=0, now_s=WINDOW_S + 1) is None


def test_the_memory_is_bounded() -> None:
    echoes = Echoes()
    for number in range(MAX_REMEMBERED + 1):
        echoes.hear(("acme", "m", number), LONG, read_tokens=0, now_s=0.0)
    assert echoes.hear(("acme", "m", 0), LONG, read_tokens=0, now_s=0.0) is None
    assert echoes.hear(("acme", "m", MAX_REMEMBERED), LONG, read_tokens=0, now_s=0.0) == "identical"
