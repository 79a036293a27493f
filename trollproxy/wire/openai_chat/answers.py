"""What whole answers and streams of the dialect share: the members of a message, the words for its end."""

from collections.abc import Iterable, Iterator

import msgspec

from trollproxy.chat import Citation, Finish, State, TokenScore
from trollproxy.errors import UpstreamBroken
from trollproxy.wire.body import decode_reply


class Score(msgspec.Struct, gc=False):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: "list[Score] | None" = None


class Logprobs(msgspec.Struct, gc=False):
    content: list[Score] | None = None


class UrlCitation(msgspec.Struct, gc=False):
    url: str | None = None
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class Annotation(msgspec.Struct, gc=False):
    url_citation: UrlCitation | None = None


class Said(msgspec.Struct, gc=False):
    """What a call says. Arguments are a string by the book, an object with some providers."""

    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw()
    input: str | None = None


class Call(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: Said | None = None
    custom: Said | None = None


class Piece(msgspec.Struct, gc=False):
    """Content as a list: texts, and thoughts with Mistral's models."""

    text: str | None = None
    thinking: "list[Piece] | None" = None


class Delta(msgspec.Struct, gc=False):
    """A piece of an answer, or a whole one."""

    content: str | list[Piece] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Said | None = None
    annotations: list[Annotation] | None = None

    @property
    def thoughts(self) -> str:
        told = self.reasoning_content or self.reasoning
        if told or not isinstance(self.content, list):
            return told or ""
        return "".join([_joined(piece.thinking) for piece in self.content if piece.thinking])

    @property
    def thoughts_state(self) -> State | None:
        """Nothing is signed here, but a server knows its own member only, so thoughts go back under that name."""
        if self.reasoning_content:
            return State("openai_chat", "")
        return State("openai_chat", REASONING) if self.reasoning else None

    @property
    def words(self) -> str:
        return _joined(self.content) if isinstance(self.content, list) else self.content or ""

    @property
    def calls(self) -> list[Call]:
        """All calls; the deprecated single one among them."""
        called = self.tool_calls or []
        return [*called, Call(function=self.function_call)] if self.function_call is not None else called


def _joined(pieces: list[Piece]) -> str:
    return "".join(piece.text or "" for piece in pieces)


REASONING = "reasoning"  # what OpenRouter, Groq and newer vLLM call `reasoning_content`

_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",  # Mistral's
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refusal",
    "error": "malformed",
    "insufficient_system_resource": "malformed",
}
FINISH_WORDS: dict[Finish, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "tool_calls": "tool_calls",
    "length": "length",
    "context_full": "length",
    "paused": "length",
    "refusal": "content_filter",
}


def read_finish(word: str | None, *, has_calls: bool) -> Finish:
    """Some servers say "stop" where the model called a tool, or the reverse; what they call is what counts."""
    finish = _FINISH.get(word or "stop", "stop")
    if finish in ("stop", "tool_calls"):
        return "tool_calls" if has_calls else "stop"
    return finish


def read_arguments(raw: msgspec.Raw) -> str:
    """The arguments as text."""
    data = bytes(raw)
    if not data.startswith(b'"'):
        return "" if data in (b"", b"null") else data.decode()
    text = decode_reply(_STRING, data)
    if text is None:
        raise UpstreamBroken("The provider sent arguments that are no text.")
    return text


def read_scores(logprobs: Logprobs | None) -> tuple[TokenScore, ...]:
    return tuple(map(_score, (logprobs.content if logprobs is not None else None) or ()))


def _score(score: Score) -> TokenScore:
    return TokenScore(
        token=score.token,
        logprob=score.logprob,
        bytes=tuple(score.bytes) if score.bytes is not None else None,
        top=tuple(map(_score, score.top_logprobs or ())),
    )


def write_scores(scores: Iterable[TokenScore]) -> dict[str, object]:
    return {"content": [{**_plain_score(score), "top_logprobs": [*map(_plain_score, score.top)]} for score in scores]}


def _plain_score(score: TokenScore) -> dict[str, object]:
    return {"token": score.token, "logprob": score.logprob, "bytes": score.bytes}


def read_citations(annotations: list[Annotation] | None) -> Iterator[Citation]:
    for annotation in annotations or ():
        cited = annotation.url_citation
        if cited is not None:
            yield Citation(url=cited.url, title=cited.title, start=cited.start_index, end=cited.end_index)


def write_citation(citation: Citation) -> dict[str, object] | None:
    """A web page as an annotation; a place in a document has no form here."""
    if citation.url is None:
        return None
    cited = {"url": citation.url, "title": citation.title or citation.url}
    place = {"start_index": citation.start or 0, "end_index": citation.end or 0}
    return {"type": "url_citation", "url_citation": cited | place}


_STRING = msgspec.json.Decoder(str)


def reply_id(given: str, request_id: str) -> str:
    """The provider's id where there is one, in the shape that the dialect's clients know."""
    name = given or request_id.removeprefix("req_")
    return name if name.startswith("chatcmpl-") else f"chatcmpl-{name}"


def call_id(given: str | None, request_id: str, number: int) -> str:
    return given or f"call_{request_id.removeprefix('req_')}_{number}"
