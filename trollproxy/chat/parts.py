"""What a turn of a conversation, and an answer, is made of.

Everything that a vendor signs or encrypts travels as a `State`: opaque, byte-exact, and tagged with the format that
made it, because only a provider of that format can read it.
"""

from typing import Literal

import msgspec

from trollproxy.chat.usage import FormatName

MediaKind = Literal["image", "document", "audio", "video"]
CacheLifetime = Literal["5m", "30m", "1h", "12h"]


class State(msgspec.Struct, frozen=True, gc=False):
    """A signature or an encrypted thought, exactly as its maker wrote it."""

    origin: FormatName
    data: str


class Citation(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Where a statement comes from. A web page has a url; a place in a document has what the vendor said of it."""

    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    start: int | None = None  # the cited statement's place in the answer's text, in characters
    end: int | None = None


class TokenScore(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """How likely a token was, and what else could have stood there."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple["TokenScore", ...] = ()


class Text(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="text"):
    text: str
    cache: CacheLifetime | None = None  # the prompt up to and with this part is worth keeping
    citations: tuple[Citation, ...] = ()
    scores: tuple[TokenScore, ...] = ()
    state: State | None = None


class Refusal(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="refusal"):
    """The model's own words for declining."""

    text: str


class Media(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="media"):
    """An image, document, recording or film. Exactly one of `data`, `url`, `file_id` and `text` is set."""

    kind: MediaKind
    data: str | None = None  # base64, as it came
    url: str | None = None
    file_id: str | None = None  # known to one provider's account only
    text: str | None = None  # a plain text document
    media_type: str | None = None
    name: str | None = None  # filename or title
    context: str | None = None
    wants_citations: bool = False
    detail: str | None = None  # how closely to look at an image
    cache: CacheLifetime | None = None
    state: State | None = None


class Thinking(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="thinking"):
    """Reasoning: the words as far as they are shown, and what the vendor needs to see again."""

    text: str = ""
    state: State | None = None
    is_redacted: bool = False  # no words were ever shown


class ToolCall(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="tool_call"):
    """`arguments` is the JSON text exactly as written, or the free text of a custom tool's call."""

    call_id: str
    name: str
    arguments: str = ""
    is_custom: bool = False
    cache: CacheLifetime | None = None
    state: State | None = None


class ToolResult(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="tool_result"):
    call_id: str
    name: str | None = None  # of the tool, where the format tells it; `chat.named_results` finds it from the call
    parts: tuple[Text | Media, ...] = ()
    is_error: bool = False
    is_custom: bool = False  # answers the call of a custom tool
    cache: CacheLifetime | None = None


Part = Text | Refusal | Media | Thinking | ToolCall | ToolResult
AnswerPart = Text | Refusal | Media | Thinking | ToolCall
