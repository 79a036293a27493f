"""What a vendor was shown, read from a request in its own format: the words and media in order, whoever asked.

Reads every vendor's spelling after its documents, and nothing by the gateway's own code.
"""

from collections.abc import Callable, Iterator
from typing import Any

from tests.e2e.native import Vendor

Shown = tuple[str, ...]  # (role, kind, …): text; media type and base64; address


def shown(vendor: Vendor, body: dict[str, Any]) -> list[Shown]:
    """Everything said, the system's words at the top first."""
    return list(_READERS[vendor](body))


def schema_of(vendor: Vendor, body: dict[str, Any]) -> Any:
    """The schema that the answer shall have."""
    if vendor == "openai":
        return body["response_format"]["json_schema"]["schema"]
    if vendor == "responses":
        return body["text"]["format"]["schema"]
    if vendor == "anthropic":
        return body["output_config"]["format"]["schema"]
    assert body["generationConfig"]["responseMimeType"] == "application/json"
    return body["generationConfig"]["responseJsonSchema"]


def tool_names(vendor: Vendor, body: dict[str, Any]) -> list[str]:
    if vendor == "openai":
        return [tool[tool["type"]]["name"] for tool in body["tools"]]
    if vendor == "gemini":
        return [tool["name"] for tool in body["tools"][0]["functionDeclarations"]]
    return [tool["name"] for tool in body["tools"]]


def _media(role: str, url: str, kind: str) -> Shown:
    """`data:` addresses hold what they are of."""
    if url.startswith("data:"):
        media_type, _, data = url.removeprefix("data:").partition(";base64,")
        return role, kind, media_type, data
    return role, kind, url


def _chat(body: dict[str, Any]) -> Iterator[Shown]:
    for message in body["messages"]:
        role = "system" if message["role"] == "developer" else message["role"]
        content = message.get("content") or ()
        if isinstance(content, str):
            yield role, "text", content
            continue
        for part in content:
            if part["type"] == "text":
                yield role, "text", part["text"]
            elif part["type"] == "image_url":
                yield _media(role, part["image_url"]["url"], "image")
            else:
                yield _media(role, part["file"]["file_data"], "document")


def _responses(body: dict[str, Any]) -> Iterator[Shown]:
    if body.get("instructions"):
        yield "system", "text", body["instructions"]
    for item in body["input"]:
        if "role" in item:
            role = "system" if item["role"] == "developer" else item["role"]
            yield from _input(role, item["content"])
        elif item["type"] == "function_call_output":
            yield from _input("tool", item["output"])


def _input(role: str, content: Any) -> Iterator[Shown]:
    if isinstance(content, str):
        yield role, "text", content
        return
    for part in content:
        if part["type"] in {"input_text", "output_text"}:
            yield role, "text", part["text"]
        elif part["type"] == "input_image":
            yield _media(role, part["image_url"], "image")
        else:
            yield _media(role, part.get("file_data") or part["file_url"], "document")


def _messages(body: dict[str, Any]) -> Iterator[Shown]:
    yield from _blocks("system", body.get("system", ()))
    for message in body["messages"]:
        yield from _blocks(message["role"], message["content"])


def _blocks(role: str, content: Any) -> Iterator[Shown]:
    if isinstance(content, str):
        yield role, "text", content
        return
    for block in content:
        if block["type"] == "text":
            yield role, "text", block["text"]
        elif block["type"] == "tool_result":
            yield from _blocks("tool", block["content"])
        elif block["type"] in {"image", "document"}:
            source = block["source"]
            told = (source["url"],) if source["type"] == "url" else (source["media_type"], source["data"])
            yield (role, block["type"], *told)


def _contents(body: dict[str, Any]) -> Iterator[Shown]:
    for part in body.get("systemInstruction", {}).get("parts", ()):
        yield "system", "text", part["text"]
    for content in body["contents"]:
        role = "assistant" if content["role"] == "model" else content["role"]
        for part in content["parts"]:
            yield from _part(role, part)


def _part(role: str, part: dict[str, Any]) -> Iterator[Shown]:
    if "functionResponse" in part:
        (text,) = part["functionResponse"]["response"].values()
        yield "tool", "text", text
        for inner in part["functionResponse"].get("parts", ()):
            yield from _part("tool", inner)
    elif "inlineData" in part:
        media_type = part["inlineData"]["mimeType"]
        yield role, "image" if media_type.startswith("image/") else "document", media_type, part["inlineData"]["data"]
    elif "fileData" in part:
        kind = "image" if part["fileData"]["mimeType"].startswith("image/") else "document"
        yield role, kind, part["fileData"]["fileUri"]
    elif "text" in part:
        yield role, "text", part["text"]


_READERS: dict[Vendor, Callable[[dict[str, Any]], Iterator[Shown]]] = {
    "openai": _chat,
    "responses": _responses,
    "anthropic": _messages,
    "gemini": _contents,
}
