"""OpenAI Responses, as far as conversations are translated from and to it."""

from collections.abc import Mapping

import msgspec

from trollproxy.chat import Feature, FormatName, Reply, Request
from trollproxy.wire.format import Asked, Entry, Headers, StreamReader, StreamWriter, Target, Tongue
from trollproxy.wire.openai_responses import replies, requests_in, requests_out
from trollproxy.wire.openai_responses.stream_reader import ResponsesReader
from trollproxy.wire.openai_responses.stream_writer import ResponsesWriter
from trollproxy.wire.openai_responses.tables import CARRIES, DROPS, PARAMS, RULES


class ResponsesTongue:
    """The dialect's words; what they mean is told in the modules it delegates to."""

    name: FormatName = "openai_responses"
    carries: Mapping[Feature, str] = CARRIES
    params: Mapping[Feature, str] = PARAMS
    drops: Mapping[str, str] = DROPS
    rules = RULES

    def read_request(self, body: bytes, entry: Entry) -> Request:  # noqa: ARG002 - the body says all
        return requests_in.read_request(body)

    def write_request(self, request: Request, target: Target) -> bytes:
        return requests_out.write_request(request, target)

    def request_headers(self, request: Request, target: Target) -> Headers:  # noqa: ARG002 - there are none
        return []

    def write_count(self, tokens: int) -> bytes:
        return msgspec.json.encode({"object": "response.input_tokens", "input_tokens": tokens})

    def read_reply(self, body: bytes, asked: Asked) -> Reply:  # noqa: ARG002 - an answer tells all of itself
        return replies.read_reply(body)

    def write_reply(self, reply: Reply, asked: Asked) -> bytes:
        return replies.write_reply(reply, asked)

    def stream_reader(self, asked: Asked) -> StreamReader:  # noqa: ARG002 - a stream tells all of itself
        return ResponsesReader()

    def stream_writer(self, asked: Asked) -> StreamWriter:
        return ResponsesWriter(asked)


TONGUE: Tongue = ResponsesTongue()
