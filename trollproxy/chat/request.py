"""A request to a model, in no vendor's words. `None` always means: the client did not say."""

from typing import Literal

import msgspec

from trollproxy.chat.parts import CacheLifetime, Part, Text

TurnRole = Literal["system", "user", "assistant"]
Effort = Literal["minimal", "low", "medium", "high", "xhigh", "max"]


class Turn(msgspec.Struct, frozen=True, gc=False):
    """Results of tools stand in a user's turn. A system turn here is one that is not at the beginning."""

    role: TurnRole
    parts: tuple[Part, ...]


class Tool(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A function, or a custom tool which takes free text (by a grammar, if it has one)."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw | None = None  # JSON Schema, bytes as they came; None: takes nothing
    strict: bool | None = None
    is_custom: bool = False
    grammar: msgspec.Raw | None = None  # the form of a custom tool's input, as OpenAI Responses writes it
    cache: CacheLifetime | None = None
    namespace: str | None = None  # the group in which its client calls it; `name` is of the tool and the group together


class ToolChoice(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """auto: the model decides. any: it must call one. `names` restricts it to some of the tools; empty: all."""

    mode: Literal["auto", "none", "any"]
    names: tuple[str, ...] = ()


class OutputSchema(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The answer shall be JSON, and of this schema if there is one."""

    schema: msgspec.Raw | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class Reasoning(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """How much to think. off: not at all. adaptive: as the model sees fit, guided by `effort`."""

    mode: Literal["off", "on", "adaptive"] | None = None
    effort: Effort | None = None
    budget_tokens: int | None = None
    shows_thoughts: bool | None = None  # whether (a summary of) the thoughts shall be in the answer


class Sampling(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: msgspec.Raw | None = None
    logprobs: int | None = None  # 0: of the chosen tokens only; n: with the n likeliest alternatives
    choices: int = 1


class Request(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    model: str
    turns: tuple[Turn, ...]
    system: tuple[Text, ...] = ()  # what stands before the first turn
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    sampling: Sampling = Sampling()
    output: OutputSchema | None = None
    reasoning: Reasoning | None = None
    user: str | None = None  # who asks, in the client's own numbering
    tier: str | None = None  # service tier in the client's word; "auto" and "default" are None
    cache: CacheLifetime | None = None  # keep the whole prompt, without a mark on a part
    cache_key: str | None = None
    verbosity: str | None = None
    metadata: msgspec.Raw | None = None  # labels for the provider's own log
    stream: bool = False
    wants_usage: bool = True
