"""Write docs/compatibility.md from the formats' own tables: what maps, what degrades, what is refused.

`python -m scripts.compatibility` prints the page; `tests/conformance/formats/test_matrix.py` fails while the file says
something else.
"""

import sys
from collections.abc import Iterator

from trollproxy.chat import FEATURES, Feature
from trollproxy.wire import FORMATS
from trollproxy.wire.format import Tongue

TITLES = {
    "openai_chat": "OpenAI Chat Completions",
    "openai_responses": "OpenAI Responses",
    "anthropic": "Anthropic Messages",
    "gemini": "Gemini generateContent",
}
SHORT = {"openai_chat": "Chat", "openai_responses": "Responses", "anthropic": "Messages", "gemini": "Gemini"}
INTRO = """\
# Which client speaks to which provider

Printed by `python -m scripts.compatibility` from the tables that the gateway itself goes by; a test compares the two.

Every client format works with every provider format. Where both are the same, the bytes pass unchanged, whatever they
hold. Where they differ, the conversation is translated, and for each thing that a client can ask for there are three
answers: it **maps** as it is, it **degrades** in a way that is named below, or it is **refused** with a 400
(`not_translatable`) whose `param` is the client's own name for it. Nothing is dropped silently.
"""


def page() -> str:
    return "\n".join([INTRO, *_overview(), "", *_features(), "", *_degraded(), *_dropped()])


def _overview() -> Iterator[str]:
    """The matrix of pairs, each cell with its counts."""
    yield "## All pairs"
    yield ""
    yield "Rows are clients, columns providers: maps / degrades / refused, of what the client's dialect can say."
    yield ""
    yield from _head("Client", [TITLES[name] for name in FORMATS])
    for client in FORMATS:
        cells = ["the same bytes" if client == upstream else _counts(client, upstream) for upstream in FORMATS]
        yield f"| {TITLES[client]} | {' | '.join(cells)} |"


def _counts(client: str, upstream: str) -> str:
    marks = [_mark(_tongue(upstream), feature) for feature in _sayable(client)]
    return " / ".join(str(marks.count(mark)) for mark in ("maps", "degrades", "refused"))


def _features() -> Iterator[str]:
    """Everything that can be asked for: each dialect's name of it, and what becomes of it at each provider."""
    yield "## What can be asked for"
    yield ""
    yield "Under each format: what its clients call it, and what becomes of it when it must be said in that format."
    yield ""
    yield from _head("", [SHORT[name] for name in FORMATS])
    for feature in FEATURES:
        cells = [_cell(_tongue(name), feature) for name in FORMATS]
        yield f"| {feature.replace('_', ' ')} | {' | '.join(cells)} |"


def _cell(tongue: Tongue, feature: Feature) -> str:
    name = f"`{tongue.params[feature]}`: " if feature in tongue.params else ""
    return name + _mark(tongue, feature)


def _degraded() -> Iterator[str]:
    """The losses, in words."""
    yield "## What degrades"
    yield ""
    for name, wire in FORMATS.items():
        yield f"**To {TITLES[name]}**"
        yield ""
        for feature in FEATURES:
            if loss := wire.tongue.carries.get(feature):
                yield f"- {feature.replace('_', ' ')}: {loss}"
        yield ""


def _dropped() -> Iterator[str]:
    yield "## What means nothing elsewhere"
    yield ""
    yield "Members of a request that are taken and left behind when it is translated."
    yield ""
    for name, wire in FORMATS.items():
        yield f"**From {TITLES[name]}**"
        yield ""
        yield from (f"- `{member}`: {why}" for member, why in wire.tongue.drops.items())
        yield ""


def _head(first: str, names: list[str]) -> Iterator[str]:
    yield f"| {' | '.join([first, *names])} |"
    yield "|---" * (len(names) + 1) + "|"


def _sayable(client: str) -> list[Feature]:
    return [feature for feature in FEATURES if feature in _tongue(client).params]


def _mark(tongue: Tongue, feature: Feature) -> str:
    loss = tongue.carries.get(feature)
    return "refused" if loss is None else "degrades" if loss else "maps"


def _tongue(name: str) -> Tongue:
    return next(wire.tongue for known, wire in FORMATS.items() if known == name)


if __name__ == "__main__":
    sys.stdout.write(page())
