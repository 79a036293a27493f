"""Pure translation between bytes and facts, one package a format. FORMATS is the whole list."""

from trollproxy.chat import FormatName
from trollproxy.wire.anthropic import Anthropic
from trollproxy.wire.format import Format
from trollproxy.wire.gemini import Gemini
from trollproxy.wire.openai_chat import OpenAIChat
from trollproxy.wire.openai_responses import OpenAIResponses

OPENAI_CHAT: Format = OpenAIChat()
OPENAI_RESPONSES: Format = OpenAIResponses()
ANTHROPIC: Format = Anthropic()
GEMINI: Format = Gemini()

FORMATS: dict[FormatName, Format] = {wire.name: wire for wire in (OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC, GEMINI)}
