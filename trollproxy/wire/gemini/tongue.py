"""Gemini's dialect as conversations: the entrance to the modules that read and write it."""

from collections.abc import Mapping

import msgspec

from trollproxy.chat import Feature, FormatName, Reply, Request
from trollproxy.wire.format import Asked, Entry, Headers, NameRules, StreamReader, StreamWriter, Target
from trollproxy.wire.gemini import replies_in, replies_out, requests_in, requests_out, tables


class GeminiTongue:
    name: FormatName = "gemini"
    carries: Mapping[Feature, str] = tables.CARRIES
    params: Mapping[Feature, str] = tables.PARAMS
    drops: Mapping[str, str] = tables.DROPS
    rules: NameRules = tables.RULES

    def read_request(self, body: bytes, entry: Entry) -> Request:
        return requests_in.read_request(body, entry)

    def write_request(self, request: Request, target: Target) -> bytes:
        return requests_out.write_request(request, target)

    def request_headers(self, request: Request, target: Target) -> Headers:  # noqa: ARG002 - there are none
        return []

    def write_count(self, tokens: int) -> bytes:
        return msgspec.json.encode({"totalTokens": tokens})

    def read_reply(self, body: bytes, asked: Asked) -> Reply:
        return replies_in.read_reply(body, asked)

    def write_reply(self, reply: Reply, asked: Asked) -> bytes:
        return replies_out.write_reply(reply, asked)

    def stream_reader(self, asked: Asked) -> StreamReader:
        return replies_in.AnswerReader(asked)

    def stream_writer(self, asked: Asked) -> StreamWriter:
        return replies_out.AnswerWriter(asked)
