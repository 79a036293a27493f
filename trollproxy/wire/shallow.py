"""What is read of bytes in any format: a provider's error, and the type of a stream's event."""

import msgspec


class ErrorDetail(msgspec.Struct, rename="camel"):
    reason: str | None = None
    retry_delay: str | None = None


class ErrorObject(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    param: str | None = None
    status: str | int | None = None
    details: msgspec.Raw = msgspec.Raw()  # a list at Google; others put there what they like


class Refusal(msgspec.Struct):
    """An answer whose status says that it is an error."""

    error: ErrorObject | str | None = None
    message: str | None = None


class Answer(msgspec.Struct):
    """An answer with a good status, which may hold an error all the same."""

    error: msgspec.Raw = msgspec.Raw()


class Event(msgspec.Struct):
    type: str = ""


REFUSAL = msgspec.json.Decoder(Refusal)
ANSWER = msgspec.json.Decoder(Answer)
ERROR = msgspec.json.Decoder(ErrorObject | str)
ERROR_DETAILS = msgspec.json.Decoder(list[ErrorDetail])
EVENT = msgspec.json.Decoder(Event)
