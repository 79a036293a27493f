"""Anthropic Messages.

`passthrough` is the shallow side; `tongue` leads to the deep one: requests read (`requests_in`) and written
(`requests_out`, by the `plan` that `models` allows), answers whole (`replies`) and streamed, the words for all of it
(`tables`).
"""

from trollproxy.wire.anthropic.passthrough import DEFAULT_VERSION, Anthropic

__all__ = ["DEFAULT_VERSION", "Anthropic"]
