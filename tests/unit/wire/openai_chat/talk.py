"""What these tests ask, and what is made of it."""

import json
from typing import Any

from trollproxy.chat import Request
from trollproxy.wire.format import Entry, Target
from trollproxy.wire.openai_chat.tongue import ChatTongue

TONGUE = ChatTongue()
ENTRY = Entry()
OWN = "gpt-5.6"  # a model of the vendor's, which takes everything
OTHER = "some-model"  # of one of the many that speak the dialect


def read(*messages: Any, **members: Any) -> Request:
    body = {"model": "m", "messages": messages or [{"role": "user", "content": "hi"}]} | members
    return TONGUE.read_request(json.dumps(body).encode(), ENTRY)


def write(request: Request, model: str = OWN) -> Any:
    return json.loads(TONGUE.write_request(request, Target(model=model)))
