"""Our own count of a conversation's tokens, where its provider does not count in the client's dialect.

It errs high: clients that compact their history by it do so a little early, and never too late.
"""

from trollproxy.chat import Media, Part, Request, Tool, ToolCall, ToolResult

BYTES_PER_TOKEN = 3  # English and code run near four; other scripts below
_PER_TURN = 8  # roles and separators
_PER_IMAGE = 1_600  # the most that a vendor makes of one at its usual resolution
_BYTES_PER_DOCUMENT_TOKEN = 20  # base64 of a PDF page of text, images of the page included
_PER_LINKED_DOCUMENT = 20_000  # a document that we do not see


def estimate_input(request: Request) -> int:
    """Tokens of everything that the model reads."""
    tokens = sum(_of_part(text) for text in request.system) + sum(_of_tool(tool) for tool in request.tools)
    tokens += sum(_PER_TURN + sum(_of_part(part) for part in turn.parts) for turn in request.turns)
    if request.output is not None and request.output.schema is not None:
        tokens += _of_size(len(bytes(request.output.schema)))
    return tokens


def _of_part(part: Part) -> int:
    match part:
        case Media():
            return _of_media(part)
        case ToolCall():
            return _PER_TURN + _of_size(len(part.name) + len(part.arguments.encode()))
        case ToolResult():
            return _PER_TURN + sum(_of_part(inner) for inner in part.parts)
    return _of_size(len(part.text.encode()))


def _of_tool(tool: Tool) -> int:
    schema = bytes(tool.parameters or b"") + bytes(tool.grammar or b"")
    return _PER_TURN + _of_size(len(tool.name) + len((tool.description or "").encode()) + len(schema))


def _of_media(media: Media) -> int:
    if media.kind == "image":
        return _PER_IMAGE
    if media.text is not None:
        return _of_size(len(media.text.encode()))
    return len(media.data) // _BYTES_PER_DOCUMENT_TOKEN if media.data is not None else _PER_LINKED_DOCUMENT


def _of_size(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)
