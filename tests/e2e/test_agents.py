"""Claude Code, Codex, Cline and aider, unmodified, edit a file by way of every vendor.

The vendor plays the model. What counts is on disk, in what came back to the vendor, and on the books.
"""

import json
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.agents import NEW, Desk, aider, claude_code, cline, codex, codex_catalog, mentions, texts
from tests.e2e.native import VENDORS, Call, Said, Tokens, Vendor, error, error_event, events, stream
from tests.e2e.process import GatewayProcess
from tests.e2e.translating import cost_nusd, model_on, translating_gateway
from tests.e2e.vendors import Played, Vendors, streamed, whole
from trollproxy.records import Charge

DONE = "All is done."
PATCH = "*** Begin Patch\n*** Update File: notes.txt\n@@\n-old line\n+new line\n*** End Patch\n"
EDIT_BLOCK = "Here it is.\n\nnotes.txt\n```\n<<<<<<< SEARCH\n{}\n=======\nnew line\n>>>>>>> REPLACE\n```\n"
FIRST_WORDS: dict[Vendor, int] = {
    "openai": 2,
    "responses": 5,
    "anthropic": 4,
    "gemini": 1,
}  # events until some are said
each_vendor = pytest.mark.parametrize("vendor", VENDORS)


@pytest.fixture(scope="module")
def vendors() -> Iterator[Vendors]:
    with Vendors() as opened:
        yield opened


@pytest.fixture(scope="module")
def gateway(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with translating_gateway(tmp_path_factory.mktemp("agents"), vendors) as running:
        yield running


@pytest.fixture
def desk(vendors: Vendors, tmp_path: Path) -> Desk:
    vendors.reset()
    return Desk(tmp_path)


def signature(turn: int) -> str:
    return b64encode(f"signed >>> {turn} <<<".encode()).decode()


def turn(vendor: Vendor, number: int, *calls: Call, text: str = "") -> Played:
    """An answer with a thought before it, signed where the vendor signs."""
    signed = "" if vendor == "openai" else signature(number)
    said = Said(text=text, thinking=f"Thought {number}.", signature=signed, calls=calls, turn=number)
    return stream(vendor, said)


def task(vendor: Vendor, *calls: Call) -> list[Played]:
    """One call a turn, then the last words."""
    played = [turn(vendor, number, call) for number, call in enumerate(calls, start=1)]
    return [*played, stream(vendor, Said(text=DONE, turn=len(calls) + 1))]


def check_task(vendors: Vendors, vendor: Vendor, results: tuple[str, ...]) -> None:
    """Each result came back, and every signature with it, byte for byte."""
    assert len(vendors.seen) == len(results) + 1
    for number, words in enumerate(results, start=1):
        body = vendors.seen[number].body
        assert mentions(body, words), body
        if vendor != "openai":
            signatures = {signature(earlier) for earlier in range(1, number + 1)}
            assert signatures <= set(texts(body))


def check_bill(bill: list[Charge], vendor: Vendor, requests: int) -> None:
    assert [charge.cost_nusd for charge in bill] == [cost_nusd(Tokens())] * requests
    assert {(charge.status, charge.code, charge.ended_by) for charge in bill} == {(200, "ok", "completed")}
    assert {(charge.model, charge.is_estimated, charge.stream) for charge in bill} == {(model_on(vendor), False, True)}


def overflow(vendor: Vendor) -> Played:
    """The conversation is too long, in the vendor's own words."""
    said = "Your input exceeds the context window of this model. Please adjust your input and try again."
    length = {"message": said, "type": "invalid_request_error", "param": "input", "code": "context_length_exceeded"}
    return {
        "openai": whole({"error": length}, status=400),
        "responses": whole({"error": length}, status=400),
        "anthropic": error("anthropic", 400, "prompt is too long: 250000 tokens > 200000 maximum"),
        "gemini": error(
            "gemini",
            400,
            "The input token count (1050000) exceeds the maximum number of tokens allowed (1048576).",
        ),
    }[vendor]


# Claude Code


def write(desk: Desk, name: str) -> Call:
    return Call("toolu_write", "Write", json.dumps({"file_path": str(desk.project / name), "content": NEW}))


@each_vendor
def test_claude_code_edits_a_file(vendor: Vendor, desk: Desk, gateway: GatewayProcess, vendors: Vendors) -> None:
    path = str(desk.file)
    look = Call("toolu_look", "Read", json.dumps({"file_path": path}))
    edit = {"file_path": path, "old_string": "old line", "new_string": "new line"}
    vendors.play(*task(vendor, look, Call("toolu_edit", "Edit", json.dumps(edit))))
    with gateway.bill() as bill:
        ended = claude_code(desk, gateway, model_on(vendor)).check()
    assert DONE in ended.out
    assert desk.file.read_text() == NEW
    check_task(vendors, vendor, ("old line", "has been updated"))
    check_bill(bill, vendor, 3)


@each_vendor
def test_claude_code_loads_a_deferred_tool(
    vendor: Vendor, desk: Desk, gateway: GatewayProcess, vendors: Vendors
) -> None:
    search = Call("toolu_search", "ToolSearch", json.dumps({"query": "select:NotebookEdit", "max_results": 1}))
    vendors.play(*task(vendor, search))
    with gateway.bill() as bill:
        ended = claude_code(desk, gateway, model_on(vendor)).check()
    assert DONE in ended.out
    first, second = ("NotebookEdit" in {*texts(seen.body.get("tools", []))} for seen in vendors.seen)
    assert (first, second) == (False, True)
    check_bill(bill, vendor, 2)


@each_vendor
def test_claude_code_compacts_when_the_context_is_full(
    vendor: Vendor, desk: Desk, gateway: GatewayProcess, vendors: Vendors
) -> None:
    hello = Call("toolu_hello", "Bash", json.dumps({"command": "echo hello"}))
    summary = Said(text="<summary>A file is to be made.</summary>", turn=2)
    made = [turn(vendor, 3, write(desk, "made.txt")), stream(vendor, Said(text=DONE, turn=4))]
    vendors.play(turn(vendor, 1, hello), overflow(vendor), stream(vendor, summary), *made)
    with gateway.bill() as bill:
        ended = claude_code(desk, gateway, model_on(vendor)).check()
    assert DONE in ended.out
    assert (desk.project / "made.txt").read_text() == NEW
    assert mentions(vendors.seen[3].body, "A file is to be made.")
    assert [charge.status for charge in bill] == [200, 400, 200, 200, 200]
    assert [charge.cost_nusd for charge in bill] == [0 if place == 1 else cost_nusd(Tokens()) for place in range(5)]


def test_claude_code_reads_the_list_of_models(desk: Desk, gateway: GatewayProcess, vendors: Vendors) -> None:
    vendors.play(*task("anthropic"))
    model = model_on("anthropic")  # Claude Code takes no name from a list without "claude" or "anthropic" in it
    claude_code(desk, gateway, model, CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY="1").check()
    listed = json.loads((desk.home / ".claude" / "cache" / "gateway-models.json").read_text())
    assert [model["id"] for model in listed["models"]] == [model]


# Codex


def custom(vendor: Vendor, name: str, text: str) -> Call:
    """A call of a custom tool, which the gateway offers as a function where there are none."""
    is_native = vendor in {"responses", "openai"}
    return Call("call_custom", name, text if is_native else json.dumps({"input": text}), is_custom=is_native)


@each_vendor
def test_codex_patches_a_file_by_its_shell(
    vendor: Vendor, desk: Desk, gateway: GatewayProcess, vendors: Vendors
) -> None:
    look = Call("call_look", "exec_command", json.dumps({"cmd": "cat notes.txt"}))
    patch = Call("call_patch", "exec_command", json.dumps({"cmd": f"apply_patch <<'EOF'\n{PATCH}EOF\n"}))
    vendors.play(*task(vendor, look, patch))
    with gateway.bill() as bill:
        ended = codex(desk, gateway, model_on(vendor)).check()
    assert DONE in ended.out
    assert desk.file.read_text() == NEW
    check_task(vendors, vendor, ("old line", "Success. Updated the following files"))
    check_bill(bill, vendor, 3)


@each_vendor
def test_codex_patches_a_file_by_its_custom_tool(
    vendor: Vendor, desk: Desk, gateway: GatewayProcess, vendors: Vendors
) -> None:
    vendors.play(*task(vendor, custom(vendor, "apply_patch", PATCH)))
    with gateway.bill() as bill:
        ended = codex(desk, gateway, model_on(vendor), codex_catalog(desk, model_on(vendor), "gpt-5.5")).check()
    assert DONE in ended.out
    assert desk.file.read_text() == NEW
    check_task(vendors, vendor, ("Success. Updated the following files",))
    check_bill(bill, vendor, 2)


@each_vendor
def test_codex_patches_a_file_by_code(vendor: Vendor, desk: Desk, gateway: GatewayProcess, vendors: Vendors) -> None:
    look = custom(vendor, "exec", 'text((await tools.exec_command({cmd: "cat notes.txt"})).output);\n')
    patch = custom(vendor, "exec", f"await tools.apply_patch({json.dumps(PATCH)}); text('It is patched.');\n")
    vendors.play(*task(vendor, replace(look, call_id="call_look"), patch))
    with gateway.bill() as bill:
        ended = codex(desk, gateway, model_on(vendor), codex_catalog(desk, model_on(vendor), "gpt-6.1-sol")).check()
    assert DONE in ended.out
    assert desk.file.read_text() == NEW
    check_task(vendors, vendor, ("old line", "It is patched."))
    check_bill(bill, vendor, 3)


@each_vendor
def test_codex_is_told_that_the_context_is_full(
    vendor: Vendor, desk: Desk, gateway: GatewayProcess, vendors: Vendors
) -> None:
    vendors.play(overflow(vendor))
    with gateway.bill() as bill:
        ended = codex(desk, gateway, model_on(vendor))
    assert ended.code == 1
    assert "ran out of room in the model's context window" in ended.out
    assert [(charge.status, charge.cost_nusd) for charge in bill] == [(400, 0)]


@each_vendor
def test_codex_asks_again_after_an_error_in_the_stream(
    vendor: Vendor, desk: Desk, gateway: GatewayProcess, vendors: Vendors
) -> None:
    begun = events(vendor, Said(text="This will not be finished."))[: FIRST_WORDS[vendor]]
    vendors.play(streamed(*begun, error_event(vendor)), *task(vendor))
    with gateway.bill() as bill:
        ended = codex(desk, gateway, model_on(vendor)).check()
    assert "Reconnecting" in ended.out
    assert DONE in ended.out
    assert len(bill) == len(vendors.seen) == 2
    assert bill[0].ended_by == "provider_error_mid_stream"
    check_bill(bill[1:], vendor, 1)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("context_length_exceeded", "ran out of room in the model's context window"),
        ("invalid_prompt", "The provider said no."),
    ],
)
def test_codex_understands_failed_codes(
    code: str, told: str, desk: Desk, gateway: GatewayProcess, vendors: Vendors
) -> None:
    created = events("responses", Said())[0]
    response = json.loads(created.partition(b"data: ")[2])["response"]
    failed = {**response, "status": "failed", "error": {"code": code, "message": "The provider said no."}}
    ended_with = {"type": "response.failed", "sequence_number": 1, "response": failed}
    vendors.play(streamed(created, b"event: response.failed\ndata: " + json.dumps(ended_with).encode() + b"\n\n"))
    with gateway.bill() as bill:
        ended = codex(desk, gateway, model_on("responses"))
    assert ended.code == 1
    assert told in ended.out
    assert len(bill) == len(vendors.seen) == 1


# Agents that speak Chat Completions


@each_vendor
def test_cline_edits_a_file(vendor: Vendor, desk: Desk, gateway: GatewayProcess, vendors: Vendors) -> None:
    look = Call("call_look", "run_commands", json.dumps({"commands": ["cat notes.txt"]}))
    edit = {"path": str(desk.file), "old_text": "old line", "new_text": "new line"}
    vendors.play(*task(vendor, look, Call("call_edit", "editor", json.dumps(edit))))
    with gateway.bill() as bill:
        ended = cline(desk, gateway, model_on(vendor)).check()
    assert DONE in ended.out
    assert desk.file.read_text() == NEW
    check_task(vendors, vendor, ("old line", "Edited"))
    check_bill(bill, vendor, 3)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="aider itself refuses Python 3.13 and newer")
@each_vendor
def test_aider_edits_a_file(vendor: Vendor, desk: Desk, gateway: GatewayProcess, vendors: Vendors) -> None:
    answers = (EDIT_BLOCK.format("no such line"), EDIT_BLOCK.format("old line"))
    vendors.play(*(turn(vendor, number, text=text) for number, text in enumerate(answers, start=1)))
    with gateway.bill() as bill:
        aider(desk, gateway, model_on(vendor)).check()
    assert desk.file.read_text() == NEW
    assert len(vendors.seen) == 2
    assert mentions(vendors.seen[1].body, "SEARCH/REPLACE block failed to match")
    check_bill(bill, vendor, 2)
