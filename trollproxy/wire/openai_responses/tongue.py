"""To be replaced."""

from typing import Any

TONGUE: Any = None


class ResponsesTongue: ...
