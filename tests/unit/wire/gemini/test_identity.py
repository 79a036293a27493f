"""What is written and read again is the same, as far as the dialect can say it."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wire.gemini.lines import TONGUE, asked, read_stream, write_stream
from tests.unit.wire.strategies import BASE64, Dialect, replies, requests, usages
from trollproxy.chat import Reasoning, State, Usage, collect, events_of
from trollproxy.wire.format import Entry, Target
from trollproxy.wire.gemini.shallow import UsageMetadata
from trollproxy.wire.gemini.signatures import read_signature
from trollproxy.wire.gemini.usage import read_usage, write_usage
from trollproxy.wire.sse import EventSplitter

OWN = st.none() | BASE64.map(lambda data: State("gemini", data))
ANY = OWN | BASE64.map(lambda data: State("anthropic", data))
LOSSLESS = frozenset(feature for feature, loss in TONGUE.carries.items() if not loss)
SHOWS = st.none() | st.booleans()
REASONINGS = st.one_of(
    st.builds(Reasoning, effort=st.sampled_from(["minimal", "low", "medium", "high", "xhigh"]), shows_thoughts=SHOWS),
    st.builds(Reasoning, mode=st.just("on"), budget_tokens=st.integers(1, 9_999), shows_thoughts=SHOWS),
    st.builds(Reasoning, mode=st.just("adaptive"), shows_thoughts=SHOWS),
)
ASKING = Dialect(
    features=LOSSLESS | {"document_data", "image_url", "thinking_inside", "result_media", "output_schema", "seed"},
    state_of={"text": OWN, "thinking": OWN, "tool_call": OWN},
    has_redacted=True,
    reasonings=REASONINGS,
    url_media_types=True,
    media_types={
        "image": ("image/png", "image/webp"),
        "document": ("application/pdf", "application/json"),
        "audio": ("audio/wav",),
        "video": ("video/mp4",),
    },
    sampling_max=2.0,
    tiers=("flex", "priority"),
    names_results=True,
    turn_texts=1,
    streams=False,
)
ANSWERING = Dialect(
    features=LOSSLESS,
    state_of={"text": ANY, "thinking": ANY, "tool_call": ANY},
    has_redacted=True,
    finishes=("stop", "length", "paused", "malformed"),
    has_media=True,
    max_choices=3,
    buckets=("uncached", "read", "out_text", "out_reasoning"),
)


@given(requests(ASKING))
def test_requests(request):
    body = TONGUE.write_request(request, Target(model="gemini-3-flash"))
    assert TONGUE.read_request(body, Entry(model=request.model)) == request


@given(replies(ANSWERING), st.sampled_from([None, "flex", "priority"]))
def test_replies(reply, tier):
    told = msgspec.structs.replace(reply, tier=tier)
    assert TONGUE.read_reply(TONGUE.write_reply(told, asked()), asked()) == told


@given(replies(ANSWERING))
def test_streams(reply):
    data = write_stream(events_of(reply))
    from_stream = read_stream(*EventSplitter().feed(data))
    assert msgspec.structs.replace(collect(from_stream), tier=reply.tier) == reply


@given(
    usages(
        Dialect(features=frozenset(), buckets=("uncached", "read", "write_5m", "write_1h", "out_text", "out_reasoning"))
    )
)
def test_usage_keeps_its_sums(usage):
    counted = msgspec.convert(write_usage(usage), UsageMetadata)
    read = read_usage(counted)
    assert read == Usage(
        uncached=usage.uncached + usage.written_tokens,
        read=usage.read,
        out_text=usage.out_text,
        out_reasoning=usage.out_reasoning,
    )


@given(BASE64 | st.sampled_from(["dHJvbGxwcm94", "dHJvbGxwcm94eTo=", "dHJvbGxwcm94/w==", "trollproxy:anthropic:x"]))
def test_own_signatures_that_look_like_ours_stay_what_they_are(data):
    assert read_signature(data) == State("gemini", data)
