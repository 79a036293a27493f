"""The dialect as far as conversations are translated from and to it: one entry to the modules that do it."""

from collections.abc import Mapping

import msgspec

from trollproxy.chat import Feature, FormatName, Reply, Request
from trollproxy.wire.anthropic import replies, requests_in, requests_out, tables
from trollproxy.wire.anthropic.stream_reader import MessagesReader
from trollproxy.wire.anthropic.stream_writer import MessagesWriter
from trollproxy.wire.format import Asked, Entry, Headers, StreamReader, StreamWriter, Target


class AnthropicTongue:
    name: FormatName = "anthropic"
    carries: Mapping[Feature, str] = tables.CARRIES
    params: Mapping[Feature, str] = tables.PARAMS
    drops: Mapping[str, str] = tables.DROPS
    rules = tables.RULES

    def read_request(self, body: bytes, entry: Entry) -> Request:
        return requests_in.read_request(body, entry)

    def write_request(self, request: Request, target: Target) -> bytes:
        return requests_out.write_request(request, target)

    def request_headers(self, request: Request, target: Target) -> Headers:
        return requests_out.request_headers(request, target)

    def write_count(self, tokens: int) -> bytes:
        return msgspec.json.encode({"input_tokens": tokens})

    def read_reply(self, body: bytes, asked: Asked) -> Reply:
        return replies.read_reply(body, asked)

    def write_reply(self, reply: Reply, asked: Asked) -> bytes:
        return replies.write_reply(reply, asked)

    def stream_reader(self, asked: Asked) -> StreamReader:
        return MessagesReader(asked)

    def stream_writer(self, asked: Asked) -> StreamWriter:
        return MessagesWriter(asked)
