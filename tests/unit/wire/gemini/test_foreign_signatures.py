"""Signatures of other vendors stay behind when a conversation comes to this one; nothing else changes."""

import base64
import json
from typing import Any

import pytest

from trollproxy.wire.gemini.foreign_signatures import without_foreign

MODEL = "gemini-3-pro"
SKIPPED = "skip_thought_signature_validator"
USER: dict[str, Any] = {"role": "user", "parts": [{"text": "hi"}]}
CALL: dict[str, Any] = {"functionCall": {"name": "f", "args": {"n": 12345678901234567890}}}
FOREIGN = base64.b64encode(b"trollproxy:anthropic:c2ln??>>~~").decode()
URL_SAFE = FOREIGN.translate(str.maketrans("+/", "-_"))  # as the vendor's Python client writes it
OWN = base64.b64encode(b"its own").decode()


def cleared(*contents: dict[str, Any], model: str = MODEL) -> Any:
    body = json.dumps({"contents": contents, "generationConfig": {"topK": 1}}).encode()
    written = without_foreign(body, model)
    assert json.loads(written)["generationConfig"] == {"topK": 1}
    return json.loads(written)["contents"]


def model_says(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts)}


@pytest.mark.parametrize("name", ["thoughtSignature", "thought_signature"])
@pytest.mark.parametrize("seal", [FOREIGN, URL_SAFE])
def test_a_foreign_signature_goes(name: str, seal: str) -> None:
    thought = {"text": "hm", "thought": True, name: seal}
    told = cleared(USER, model_says(thought, {"text": "Well."}, CALL, CALL))
    signed = {**CALL, "thoughtSignature": SKIPPED}
    assert told == [USER, model_says({"text": "hm", "thought": True}, {"text": "Well."}, signed, CALL)]


def test_an_answer_in_pieces_is_one_answer() -> None:
    """A redacted thought leaves nothing behind; the first call is signed although it stands in another piece."""
    pieces = model_says({"thought": True, "thoughtSignature": FOREIGN}), model_says({"text": "Well."}), model_says(CALL)
    assert cleared(USER, *pieces, USER) == [
        USER,
        model_says({"text": "Well."}),
        model_says({**CALL, "thoughtSignature": SKIPPED}),
        USER,
    ]


def test_models_that_check_no_signatures_are_sent_none() -> None:
    thought = {"text": "hm", "thought": True, "thoughtSignature": FOREIGN}
    told = cleared(USER, model_says(thought, CALL), model="gemini-2.5-flash")
    assert told == [USER, model_says({"text": "hm", "thought": True}, CALL)]


def test_the_vendors_own_signatures_stay() -> None:
    own = model_says({**CALL, "thoughtSignature": OWN}, CALL)
    foreign = model_says({**CALL, "thoughtSignature": FOREIGN})
    assert cleared(USER, own, USER, foreign) == [USER, own, USER, model_says({**CALL, "thoughtSignature": SKIPPED})]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"contents": [USER, model_says({**CALL, "thoughtSignature": OWN})]}).encode(),
        json.dumps({"contents": [{"role": "user", "parts": [{"text": FOREIGN}]}]}).encode(),
        b'{"contents": "dHJvbGxwcm94"}',
        b'{"contents": [{"parts": "dHJvbGxwcm94"}]}',
        b"dHJvbGxwcm94",
    ],
)
def test_where_nothing_is_foreign_the_bytes_stay(body: bytes) -> None:
    assert without_foreign(body, MODEL) is body
