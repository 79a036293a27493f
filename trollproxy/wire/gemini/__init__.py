"""Gemini generateContent and streamGenerateContent."""

from trollproxy.wire.gemini.passthrough import Gemini

__all__ = ["Gemini"]
