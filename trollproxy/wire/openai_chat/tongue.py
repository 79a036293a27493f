"""Chat Completions as conversations: the entrance to the modules that read and write it."""

from collections.abc import Mapping

import msgspec

from trollproxy.chat import Feature, FormatName, Reply, Request
from trollproxy.wire.format import Asked, Entry, Headers, NameRules, StreamReader, StreamWriter, Target
from trollproxy.wire.openai_chat import replies, requests_in, requests_out, tables
from trollproxy.wire.openai_chat.stream_reader import ChatReader
from trollproxy.wire.openai_chat.stream_writer import ChatWriter


class ChatTongue:
    name: FormatName = "openai_chat"
    carries: Mapping[Feature, str] = tables.CARRIES
    params: Mapping[Feature, str] = tables.PARAMS
    drops: Mapping[str, str] = tables.DROPS
    rules: NameRules = tables.RULES

    def read_request(self, body: bytes, entry: Entry) -> Request:  # noqa: ARG002 - the body says all
        return requests_in.read_request(body)

    def write_request(self, request: Request, target: Target) -> bytes:
        return requests_out.write_request(request, target)

    def request_headers(self, request: Request, target: Target) -> Headers:  # noqa: ARG002 - there are none
        return []

    def write_count(self, tokens: int) -> bytes:
        return msgspec.json.encode({"input_tokens": tokens})  # the dialect has no such question; as in Responses

    def read_reply(self, body: bytes, asked: Asked) -> Reply:
        return replies.read_reply(body, asked)

    def write_reply(self, reply: Reply, asked: Asked) -> bytes:
        return replies.write_reply(reply, asked)

    def stream_reader(self, asked: Asked) -> StreamReader:
        return ChatReader(asked)

    def stream_writer(self, asked: Asked) -> StreamWriter:
        return ChatWriter(asked)
