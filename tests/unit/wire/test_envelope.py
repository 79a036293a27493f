"""Opaque state comes back as it went, through any vendor's field."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from trollproxy.chat import FormatName, State
from trollproxy.wire.envelope import seal, unseal

formats = st.sampled_from(get_args(FormatName))


@given(formats, formats, st.text())
def test_state_survives_any_carrier(origin: FormatName, carrier: FormatName, data: str) -> None:
    state = State(origin, data)
    if origin != carrier or not data.startswith("trollproxy:"):
        assert unseal(seal(state, carrier), carrier) == state


@given(formats, st.text().filter(lambda text: not text.startswith("trollproxy:")))
def test_a_carriers_own_content_is_its_own(carrier: FormatName, text: str) -> None:
    assert unseal(text, carrier) == State(carrier, text)
    assert seal(State(carrier, text), carrier) == text


def test_what_only_looks_like_an_envelope_is_the_carriers() -> None:
    assert unseal("trollproxy:nobody:x", "gemini") == State("gemini", "trollproxy:nobody:x")
    assert unseal("trollproxy:anthropic", "gemini") == State("gemini", "trollproxy:anthropic")
