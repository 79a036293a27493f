"""`data:` addresses, as the OpenAI dialects carry files and images inside a request."""

import re

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?:;[^;,]+)*;base64,(?P<data>.*)", re.DOTALL)


def read_data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 text, or None for any other address."""
    found = _DATA_URL.fullmatch(url)
    return (found["type"], found["data"]) if found is not None else None


def write_data_url(media_type: str, data: str) -> str:
    return f"data:{media_type};base64,{data}"
