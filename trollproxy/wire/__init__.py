"""Pure translation between bytes and facts, one file a format. FORMATS is the whole list."""

from trollproxy.records import FormatName
from trollproxy.wire.anthropic import Anthropic
from trollproxy.wire.format import Format
from trollproxy.wire.openai_chat import OpenAIChat

OPENAI_CHAT = OpenAIChat()
ANTHROPIC = Anthropic()

FORMATS: dict[FormatName, Format] = {"openai_chat": OPENAI_CHAT, "anthropic": ANTHROPIC}
