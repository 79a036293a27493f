"""trollproxy: an LLM gateway that gets the bill right. Read docs/architecture.md first."""

__version__ = "0.1.0"
