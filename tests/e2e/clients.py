"""The official Python SDKs, each driving a conversation the way its users do: with its own helpers and its own history.

A conversation keeps what the SDK assembled in the SDK's own objects and replays them unchanged, so nothing that an SDK
drops on the way can come back by our help.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Self

import anthropic
import httpx2
import openai
from google import genai
from google.genai import types

from tests.e2e.native import Call, Vendor

TIMEOUT_S = 20
LIMIT = 4000
BUDGET = 2048


@dataclass(frozen=True)
class Tool:
    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """What a tool gave back."""

    call: Call
    text: str
    is_error: bool = False


@dataclass(frozen=True)
class Heard:
    """What an SDK has made of an answer. Arguments are told as the SDK tells them: text, or the object in it."""

    text: str
    thinking: str
    calls: tuple[tuple[str, str, Any], ...]  # id, name, arguments
    stop: str
    usage: Any
    model: str = ""


@dataclass
class Wants:
    """What every request of a conversation asks for beside its turns."""

    system: str = ""
    tools: Sequence[Tool] = ()
    thinks: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)  # members in the SDK's own words


class Conversation(ABC):
    """One SDK with one history."""

    own: ClassVar[Vendor]  # whose format it speaks

    def __init__(self, url: str, key: str, model: str, wants: Wants | None = None, **options: Any) -> None:
        self.url = url
        self.key = key
        self.model = model
        self.wants = wants or Wants()
        self.sent: list[httpx2.Request] = []
        self.raw: list[bytes] = []  # the last answer's body, as it came in
        self._stack = ExitStack()
        self._options: dict[str, Any] = {"max_retries": 0} | options

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def http(self) -> httpx2.Client:
        """The SDK's transport, with an ear on it."""
        return self._stack.enter_context(httpx2.Client(transport=_Ear(self), timeout=TIMEOUT_S))

    @abstractmethod
    def open(self) -> None:
        """Make the SDK's client."""

    @abstractmethod
    def say(self, text: str) -> None:
        """The user's next turn."""

    @abstractmethod
    def give(self, results: Sequence[Result]) -> None:
        """The results of the calls that were just made."""

    @abstractmethod
    def ask(self, *, stream: bool) -> Heard:
        """Send it all, and keep the answer in the history."""

    @abstractmethod
    def hear(self) -> Iterator[str]:
        """Send it all and listen to the words as they stream in, without any of the SDK's own assembling."""


class _Ear(httpx2.HTTPTransport):
    """Notes what an SDK sends and what comes back."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(verify=False)  # loading certificates takes longer than most tests
        self._conversation = conversation

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self._conversation.sent.append(request)
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        self._conversation.raw = []
        response.stream = _Overheard(response.stream, self._conversation.raw)
        return response


class _Overheard(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, raw: list[bytes]) -> None:
        self._stream = stream
        self._raw = raw

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._raw.append(piece)
            yield piece

    def close(self) -> None:
        self._stream.close()


def _calls(found: Iterable[tuple[str | None, str | None, Any]]) -> tuple[tuple[str, str, Any], ...]:
    return tuple((call_id or "", name or "", arguments) for call_id, name, arguments in found)


class ChatCompletions(Conversation):
    own = "openai"

    def open(self) -> None:
        self.messages: list[Any] = []
        if self.wants.system:
            self.messages.append({"role": "system", "content": self.wants.system})
        self.sdk = openai.OpenAI(
            api_key=self.key, base_url=f"{self.url}/v1", http_client=self.http(), timeout=TIMEOUT_S, **self._options
        )

    def say(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})

    def give(self, results: Sequence[Result]) -> None:
        self.messages += [
            {"role": "tool", "tool_call_id": result.call.call_id, "content": result.text} for result in results
        ]

    def members(self) -> dict[str, Any]:
        members: dict[str, Any] = {"model": self.model, "messages": self.messages, "max_completion_tokens": LIMIT}
        if self.wants.tools:
            members["tools"] = [
                {
                    "type": "function",
                    "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
                }
                for tool in self.wants.tools
            ]
        if self.wants.thinks:
            members["reasoning_effort"] = "high"
        return members | dict(self.wants.more)

    def ask(self, *, stream: bool) -> Heard:
        final: Any
        if stream:
            with self.sdk.chat.completions.stream(**self.members(), stream_options={"include_usage": True}) as events:
                for _ in events:
                    pass
                final = events.get_final_completion()
        else:
            final = self.sdk.chat.completions.create(**self.members())
        (choice,) = final.choices
        message = choice.message
        self.messages.append(message)
        return Heard(
            text=message.content or message.refusal or "",
            thinking=(message.model_extra or {}).get("reasoning_content") or "",
            calls=_calls((call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()),
            stop=choice.finish_reason,
            usage=final.usage,
            model=final.model,
        )

    def hear(self) -> Iterator[str]:
        stream: Any = self.sdk.chat.completions.create(**self.members(), stream=True)
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


class Responses(Conversation):
    own = "responses"

    def open(self) -> None:
        self.items: list[Any] = []
        self.sdk = openai.OpenAI(
            api_key=self.key, base_url=f"{self.url}/v1", http_client=self.http(), timeout=TIMEOUT_S, **self._options
        )

    def say(self, text: str) -> None:
        self.items.append({"role": "user", "content": text})

    def give(self, results: Sequence[Result]) -> None:
        self.items += [
            {"type": "function_call_output", "call_id": result.call.call_id, "output": result.text}
            for result in results
        ]

    def members(self) -> dict[str, Any]:
        members: dict[str, Any] = {
            "model": self.model,
            "input": self.items,
            "max_output_tokens": LIMIT,
            "store": False,
            "include": ["reasoning.encrypted_content"],
        }
        if self.wants.system:
            members["instructions"] = self.wants.system
        if self.wants.tools:
            members["tools"] = [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.schema,
                    "strict": False,
                }
                for tool in self.wants.tools
            ]
        if self.wants.thinks:
            members["reasoning"] = {"effort": "high", "summary": "auto"}
        return members | dict(self.wants.more)

    def ask(self, *, stream: bool) -> Heard:
        final: Any
        if stream:
            with self.sdk.responses.stream(**self.members()) as events:
                for _ in events:
                    pass
                final = events.get_final_response()
        else:
            final = self.sdk.responses.create(**self.members())
        self.items += final.output
        incomplete = final.incomplete_details
        return Heard(
            text=final.output_text,
            thinking="".join(part.text for item in final.output if item.type == "reasoning" for part in item.summary),
            calls=_calls(
                (item.call_id, item.name, item.arguments) for item in final.output if item.type == "function_call"
            ),
            stop=incomplete.reason if incomplete else final.status,
            usage=final.usage,
            model=final.model,
        )

    def hear(self) -> Iterator[str]:
        stream: Any = self.sdk.responses.create(**self.members(), stream=True)
        for event in stream:
            if event.type == "response.output_text.delta":
                yield event.delta


class Messages(Conversation):
    own = "anthropic"

    def open(self) -> None:
        self.messages: list[Any] = []
        self.sdk = anthropic.Anthropic(
            api_key=self.key, base_url=self.url, http_client=self.http(), timeout=TIMEOUT_S, **self._options
        )

    def say(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})

    def give(self, results: Sequence[Result]) -> None:
        blocks: list[dict[str, Any]] = [
            {"type": "tool_result", "tool_use_id": result.call.call_id, "content": result.text}
            | ({"is_error": True} if result.is_error else {})
            for result in results
        ]
        self.messages.append({"role": "user", "content": blocks})

    def members(self) -> dict[str, Any]:
        members: dict[str, Any] = {"model": self.model, "messages": self.messages, "max_tokens": LIMIT}
        if self.wants.system:
            members["system"] = self.wants.system
        if self.wants.tools:
            members["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
                for tool in self.wants.tools
            ]
        if self.wants.thinks:
            members["thinking"] = {"type": "enabled", "budget_tokens": BUDGET}
        return members | dict(self.wants.more)

    def ask(self, *, stream: bool) -> Heard:
        final: Any
        if stream:
            indexes: list[int] = []
            with self.sdk.messages.stream(**self.members()) as events:
                indexes += [event.index for event in events if event.type == "content_block_start"]
                final = events.get_final_message()
            assert indexes == list(range(len(final.content))), "blocks are numbered densely"
        else:
            final = self.sdk.messages.create(**self.members())
        self.messages.append({"role": "assistant", "content": final.content})
        blocks = final.content
        return Heard(
            text="".join(block.text for block in blocks if block.type == "text"),
            thinking="".join(block.thinking for block in blocks if block.type == "thinking"),
            calls=_calls((block.id, block.name, block.input) for block in blocks if block.type == "tool_use"),
            stop=final.stop_reason,
            usage=final.usage,
            model=final.model,
        )

    def hear(self) -> Iterator[str]:
        stream: Any = self.sdk.messages.create(**self.members(), stream=True)
        for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield event.delta.text


class GenerateContent(Conversation):
    """By the SDK's chats, which keep the history."""

    own = "gemini"

    def open(self) -> None:
        http = types.HttpOptions(base_url=self.url, timeout=TIMEOUT_S * 1000, httpx_client=self.http())
        self.sdk = genai.Client(api_key=self.key, http_options=http)
        self._stack.callback(self.sdk.close)
        self.chat = self.sdk.chats.create(model=self.model, config=self.config())
        self.next: Any = None

    def config(self) -> types.GenerateContentConfig:
        members: dict[str, Any] = {"max_output_tokens": LIMIT}
        if self.wants.system:
            members["system_instruction"] = self.wants.system
        if self.wants.tools:
            declared = [
                types.FunctionDeclaration(
                    name=tool.name, description=tool.description, parameters_json_schema=tool.schema
                )
                for tool in self.wants.tools
            ]
            members["tools"] = [types.Tool(function_declarations=declared)]
            members["automatic_function_calling"] = types.AutomaticFunctionCallingConfig(disable=True)
        if self.wants.thinks:
            members["thinking_config"] = types.ThinkingConfig(include_thoughts=True, thinking_budget=BUDGET)
        return types.GenerateContentConfig(**(members | dict(self.wants.more)))

    def say(self, text: str) -> None:
        self.next = text

    def give(self, results: Sequence[Result]) -> None:
        self.next = [
            types.Part(
                function_response=types.FunctionResponse(
                    id=result.call.call_id or None,
                    name=result.call.name,
                    response={"error" if result.is_error else "output": result.text},
                )
            )
            for result in results
        ]

    def ask(self, *, stream: bool) -> Heard:
        if stream:
            chunks: list[Any] = list(self.chat.send_message_stream(self.next))
        else:
            chunks = [self.chat.send_message(self.next)]
        parts: list[Any] = []
        for chunk in chunks:
            content = chunk.candidates[0].content if chunk.candidates else None
            parts += (content.parts if content else None) or []
        calls = [part.function_call for part in parts if part.function_call]
        last = chunks[-1].candidates[0] if chunks[-1].candidates else None
        return Heard(
            text="".join(part.text for part in parts if part.text and not part.thought),
            thinking="".join(part.text for part in parts if part.text and part.thought),
            calls=_calls((call.id, call.name, call.args) for call in calls),
            stop=last.finish_reason.name if last and last.finish_reason else "",
            usage=chunks[-1].usage_metadata,
            model=chunks[-1].model_version,
        )

    def hear(self) -> Iterator[str]:
        stream = self.sdk.models.generate_content_stream(model=self.model, contents=self.next, config=self.config())
        for chunk in stream:
            if chunk.text:
                yield chunk.text


CONVERSATIONS: tuple[type[Conversation], ...] = (ChatCompletions, Responses, Messages, GenerateContent)


def same_arguments(heard: Any, said: str) -> bool:
    """The same members in the same order, and the same numbers to the last digit."""
    told = json.loads(heard) if isinstance(heard, str) else heard
    return json.dumps(told) == json.dumps(json.loads(said))
