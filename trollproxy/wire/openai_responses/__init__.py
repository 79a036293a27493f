"""OpenAI Responses."""

from trollproxy.wire.openai_responses.passthrough import OpenAIResponses
from trollproxy.wire.openai_responses.tongue import ResponsesTongue

__all__ = ["OpenAIResponses", "ResponsesTongue"]
