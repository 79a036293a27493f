"""OpenAI Chat Completions, and the many providers that speak it."""

from trollproxy.wire.openai_chat.passthrough import OpenAIChat

__all__ = ["OpenAIChat"]
