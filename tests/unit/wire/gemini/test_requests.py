"""Requests of the vendor's clients read, and written for the vendor."""

import base64
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.chat import (
    CannotSay,
    Media,
    OutputSchema,
    Reasoning,
    Request,
    Sampling,
    State,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    features_of,
)
from trollproxy.errors import InvalidRequest
from trollproxy.wire.format import Entry, Target
from trollproxy.wire.gemini.tongue import GeminiTongue

TONGUE = GeminiTongue()
ENTRY = Entry(model="models/gemini-3-flash")
NEW, OLD = Target(model="gemini-3-flash"), Target(model="gemini-2.5-flash")
HI = {"role": "user", "parts": [{"text": "hi"}]}


def read(body: dict[str, Any], entry: Entry = ENTRY) -> Any:
    return TONGUE.read_request(msgspec.json.encode({"contents": [HI]} | body), entry)


def parts_of(*parts: Any, role: str = "user") -> Any:
    turns = read({"contents": [{"role": role, "parts": parts}]}).turns
    return turns[0].parts


def ask(*turns: Turn, **members: Any) -> Request:
    return Request(model="m", turns=turns or (Turn("user", (Text(text="hi"),)),), **members)


def write(request: Request, target: Target = NEW) -> Any:
    return msgspec.json.decode(TONGUE.write_request(request, target))


def refused(body: dict[str, Any], entry: Entry = ENTRY) -> tuple[str, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        read(body, entry)
    return caught.value.code, caught.value.param


class TestReading:
    def test_the_path_says_model_and_stream(self):
        request = read({}, Entry(model="models/x", stream=True))
        assert (request.model, request.stream) == ("x", True)

    def test_both_spellings_are_one(self):
        snake = {
            "system_instruction": {"parts": [{"text": "s"}]},
            "generation_config": {"stop_sequences": ["a"], "thinking_config": {"include_thoughts": True}},
            "tool_config": {"function_calling_config": {"mode": "any", "allowed_function_names": ["f_g"]}},
            "tools": [{"function_declarations": [{"name": "f_g", "parameters_json_schema": {"any_thing": 1}}]}],
        }
        request = read(snake)
        assert request.system == (Text(text="s"),)
        assert request.stop == ("a",)
        assert request.reasoning == Reasoning(shows_thoughts=True)
        assert request.tool_choice == ToolChoice(mode="any", names=("f_g",))
        assert bytes(request.tools[0].parameters or b"") == b'{"any_thing":1}', "a client's own names stay"

    def test_one_member_in_two_spellings_is_refused(self):
        assert refused({"tool_config": {}, "toolConfig": {}})[1] == "toolConfig"

    def test_single_objects_stand_for_lists(self):
        body = b'{"contents":{"parts":{"text":"hi"}},"tools":{"functionDeclarations":[{"name":"f"}]}}'
        request = TONGUE.read_request(body, ENTRY)
        assert request.turns == (Turn("user", (Text(text="hi"),)),)
        assert request.tools == (Tool(name="f"),)

    @pytest.mark.parametrize("instruction", ["s", {"parts": [{"text": "s"}], "role": "user"}, {"parts": {"text": "s"}}])
    def test_system_instructions(self, instruction):
        assert read({"systemInstruction": instruction}).system == (Text(text="s"),)

    def test_what_is_counted_may_stand_inside(self):
        entry = Entry(operation="count_tokens", model="m")
        body = msgspec.json.encode({"generateContentRequest": {"model": "models/x", "contents": [HI]}})
        assert TONGUE.read_request(body, entry).turns == (Turn("user", (Text(text="hi"),)),)

    def test_roles_and_neighbours(self):
        contents = [
            {"parts": [{"text": "a"}]},
            {"role": "model", "parts": [{"text": "He"}]},
            {"role": "model", "parts": [{"text": "llo"}]},
            {"role": "model", "parts": [{"text": "", "thoughtSignature": "c2ln"}]},
            {"role": "function", "parts": [{"functionResponse": {"name": "f", "response": {}}}]},
        ]
        turns = read({"contents": contents}).turns
        assert [turn.role for turn in turns] == ["user", "assistant", "user"]
        assert turns[1].parts == (Text(text="Hello", state=State("gemini", "c2ln")),), "as it was before it streamed"

    def test_thoughts_that_streamed_in_are_whole_again(self):
        seal = base64.b64encode(b"trollproxy:anthropic:sig").decode()
        parts = (
            {"text": "first ", "thought": True},
            {"text": "second", "thought": True},
            {"text": "", "thought": True, "thoughtSignature": seal},
            {"text": "answer"},
        )
        thought, answer = parts_of(*parts, role="model")
        assert thought == Thinking(text="first second", state=State("anthropic", "sig"))
        assert answer == Text(text="answer")

    def test_signatures_survive_the_other_base64(self):
        data = b"trollproxy:anthropic:" + b"\xc3\xbf\xc3\xbe>>??"
        (part,) = parts_of({"text": "a", "thoughtSignature": base64.urlsafe_b64encode(data).decode().rstrip("=")})
        assert part.state == State("anthropic", data.removeprefix(b"trollproxy:anthropic:").decode())

    def test_a_redacted_thought_has_no_text(self):
        (part,) = parts_of({"thought": True, "thoughtSignature": "YQ=="}, role="model")
        assert part == Thinking(state=State("gemini", "YQ=="), is_redacted=True)

    def test_the_vendors_stand_in_is_no_signature(self):
        (part,) = parts_of({"text": "a", "thoughtSignature": "skip_thought_signature_validator"})
        assert part == Text(text="a")

    @pytest.mark.parametrize("said", [{"functionCall": {"name": "f"}}, {"text": "hm", "thought": True}])
    def test_calls_and_thoughts_are_the_models_whoever_is_named(self, said):
        for content in ({"parts": [said]}, {"role": "user", "parts": [said]}):
            assert [turn.role for turn in read({"contents": [HI, content]}).turns] == ["user", "assistant"]

    def test_a_model_that_gives_results_is_refused(self):
        result = {"functionResponse": {"name": "f", "response": {}}}
        assert refused({"contents": [HI, {"role": "model", "parts": [result]}]})[1] == "contents[1]"
        assert refused({"contents": [{"parts": [{"functionCall": {"name": "f"}}, result]}]})[1] == "contents[0]"

    def test_unknown_roles_and_empty_parts_are_refused(self):
        assert refused({"contents": [{"role": "robot", "parts": [{"text": "a"}]}]})[1] == "contents[0].role"
        assert refused({"contents": [{"parts": [{}]}]})[1] == "contents[0].parts[0]"
        assert refused({"contents": [{"parts": []}]})[1] == "contents"


class TestMedia:
    @pytest.mark.parametrize(
        ("media_type", "kind"),
        [("image/png", "image"), ("audio/wav", "audio"), ("video/mp4", "video"), ("application/pdf", "document")],
    )
    def test_kinds_come_from_types_and_base64_becomes_standard(self, media_type, kind):
        (part,) = parts_of({"inlineData": {"mimeType": media_type, "data": "_-8"}})
        assert part == Media(kind=kind, data="/+8=", media_type=media_type)

    def test_text_documents_are_text(self):
        data = base64.b64encode("héllo".encode()).decode()
        assert parts_of({"inlineData": {"mimeType": "text/plain", "data": data}}) == (
            Media(kind="document", text="héllo"),
        )
        (csv,) = parts_of({"inlineData": {"mimeType": "text/csv", "data": data}})
        assert (csv.text, csv.media_type) == ("héllo", "text/csv")
        (odd,) = parts_of({"inlineData": {"mimeType": "text/plain", "data": "/w=="}})
        assert odd.data == "/w=="

    @pytest.mark.parametrize(
        ("file", "media"),
        [
            ({"fileUri": "https://a.example/x.png"}, Media(kind="image", url="https://a.example/x.png")),
            ({"fileUri": "https://youtu.be/x"}, Media(kind="video", url="https://youtu.be/x")),
            ({"fileUri": "gs://b/x.pdf"}, Media(kind="document", file_id="gs://b/x.pdf")),
            ({"fileUri": "https://[bad"}, Media(kind="document", url="https://[bad")),
            (
                {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x", "mimeType": "audio/mp3"},
                Media(
                    kind="audio",
                    file_id="https://generativelanguage.googleapis.com/v1beta/files/x",
                    media_type="audio/mp3",
                ),
            ),
        ],
    )
    def test_addresses_and_files(self, file, media):
        assert parts_of({"fileData": file}) == (media,)

    def test_own_files_are_not_carried_elsewhere(self):
        assert "image_file" not in TONGUE.carries
        with pytest.raises(CannotSay):
            TONGUE.write_request(ask(Turn("user", (Media(kind="image", file_id="file-1"),))), NEW)

    def test_detail(self):
        blob = {"mimeType": "image/png", "data": "AAAA"}
        (part,) = parts_of({"inlineData": blob, "mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"}})
        assert part.detail == "high"

    @pytest.mark.parametrize(
        ("media", "written"),
        [
            (Media(kind="image", data="AA=="), {"inlineData": {"mimeType": "image/jpeg", "data": "AA=="}}),
            (Media(kind="document", text="a"), {"inlineData": {"mimeType": "text/plain", "data": "YQ=="}}),
            (
                Media(kind="image", url="https://e.example/a.png?b"),
                {"fileData": {"mimeType": "image/png", "fileUri": "https://e.example/a.png?b"}},
            ),
            (
                Media(kind="image", url="https://e.example/a.pdf"),
                {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://e.example/a.pdf"}},
            ),
        ],
    )
    def test_written(self, media, written):
        assert write(ask(Turn("user", (media,))))["contents"][0]["parts"] == [written]

    def test_a_documents_context_stands_before_it(self):
        media = Media(kind="document", data="AA==", context="About cats.")
        assert write(ask(Turn("user", (media,))))["contents"][0]["parts"][0] == {"text": "About cats."}


class TestCalls:
    def test_ids_are_made_and_matched_by_order_and_name(self):
        def call(name: str, **more: str) -> Any:
            return {"functionCall": {"name": name, **more}}

        def result(name: str, **more: str) -> Any:
            return {"functionResponse": {"name": name, "response": {"output": name}, **more}}

        contents = [
            {"role": "model", "parts": [call("f"), call("g"), call("f"), call("h", id="mine")]},
            {"role": "user", "parts": [result("g"), result("f", id="stray"), result("f"), result("h", id="mine")]},
        ]
        turns = read({"contents": contents}).turns
        assert [part.call_id for part in turns[0].parts] == [
            "call_unnamed_1",
            "call_unnamed_2",
            "call_unnamed_3",
            "mine",
        ]
        assert [part.call_id for part in turns[1].parts] == [
            "call_unnamed_2",
            "call_unnamed_1",
            "call_unnamed_3",
            "mine",
        ]

    def test_a_result_without_a_call_keeps_some_id(self):
        (part,) = parts_of({"functionResponse": {"name": "f", "id": "x", "response": {"output": 1}}})
        assert (part.call_id, part.parts) == ("x", (Text(text="1"),))
        (part,) = parts_of({"functionResponse": {"name": "f"}})
        assert (part.call_id, part.parts) == ("call_unnamed_1", ())

    def test_arguments_keep_their_bytes(self):
        arguments = b'{"b": 1, "a":123456789012345678901234567890}'
        part = b'{"functionCall":{"name":"f","args":' + arguments + b"}}"
        body = b'{"contents":[{"role":"model","parts":[' + part + b"]}]}"
        (call,) = TONGUE.read_request(body, ENTRY).turns[0].parts
        assert isinstance(call, ToolCall)
        assert call.arguments.encode() == arguments
        assert arguments in TONGUE.write_request(ask(Turn("assistant", (call,))), NEW)

    @pytest.mark.parametrize(
        ("response", "text", "is_error"),
        [
            ({"output": "a"}, "a", False),
            ({"output": "a", "error": None}, "a", False),
            ({"output": {"b": 1}}, '{"b":1}', False),
            ({"error": "bad"}, "bad", True),
            ({"error": {"code": 1}}, '{"code":1}', True),
            ({"result": "a"}, '{"result":"a"}', False),
            ({"output": "a", "more": 1}, '{"output":"a","more":1}', False),
        ],
    )
    def test_responses(self, response, text, is_error):
        (part,) = parts_of({"functionResponse": {"name": "f", "response": response}})
        assert part == ToolResult(call_id="call_unnamed_1", name="f", parts=(Text(text=text),), is_error=is_error)

    def test_media_of_a_result(self):
        image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
        (part,) = parts_of({"functionResponse": {"name": "f", "response": {"output": "a"}, "parts": [image]}})
        assert part.parts == (Text(text="a"), Media(kind="image", data="AAAA", media_type="image/png"))
        request = ask(Turn("user", (part,)))
        assert write(request)["contents"][0]["parts"][0]["functionResponse"]["parts"] == [image]
        results, behind = write(request, OLD)["contents"]
        assert "parts" not in results["parts"][0]["functionResponse"]
        assert behind["parts"] == [{"text": "From the result of f:"}, image]

    def test_results_stand_alone_and_first(self):
        call = ToolCall(call_id="c", name="f", arguments="not json")
        said = (Text(text="also"), ToolResult(call_id="c", parts=(Text(text="x"), Text(text="y"))))
        contents = write(ask(Turn("assistant", (call,)), Turn("user", said)))["contents"]
        assert contents[0]["parts"][0]["functionCall"]["args"] == {"arguments": "not json"}
        result = {"id": "c", "name": "f", "response": {"output": "x\ny"}}
        assert contents[1] == {"role": "user", "parts": [{"functionResponse": result}]}
        assert contents[2] == {"role": "user", "parts": [{"text": "also"}]}


class TestSignatures:
    CALLS = (ToolCall(call_id="a", name="f"), ToolCall(call_id="b", name="f"))

    def test_the_first_call_of_a_step_gets_the_vendors_stand_in(self):
        first, second = write(ask(Turn("assistant", self.CALLS)))["contents"][0]["parts"]
        assert first["thoughtSignature"] == "skip_thought_signature_validator"
        assert "thoughtSignature" not in second

    def test_models_before_gemini_3_need_none(self):
        assert "thoughtSignature" not in write(ask(Turn("assistant", self.CALLS)), OLD)["contents"][0]["parts"][0]

    def test_own_signatures_are_written_and_others_left_out(self):
        own = msgspec.structs.replace(self.CALLS[0], state=State("gemini", "own"))
        parts = (
            Thinking(text="theirs", state=State("anthropic", "s")),
            Thinking(text="ours", state=State("gemini", "t")),
            Text(text="a", state=State("openai_responses", "p")),
            own,
        )
        written = write(ask(Turn("assistant", parts)))["contents"][0]["parts"]
        assert written[0] == {"text": "ours", "thought": True, "thoughtSignature": "t"}
        assert written[1] == {"text": "a"}
        assert written[2]["thoughtSignature"] == "own"

    def test_a_turn_of_nothing_but_others_thoughts_goes(self):
        thought = Turn("assistant", (Thinking(text="a", state=State("anthropic", "s")),))
        assert len(write(ask(Turn("user", (Text(text="hi"),)), thought))["contents"]) == 1


class TestTools:
    def test_openapi_schemas_become_json_schema(self):
        schema = {
            "type": "OBJECT",
            "properties": {
                "a": {"type": "STRING", "nullable": True, "enum": ["x"], "format": "enum", "minLength": "1"},
                "type": {"type": "ARRAY", "items": {"type": "NUMBER"}, "minItems": "2"},
                "b": {"any_of": [{"type": "INTEGER"}], "nullable": True, "example": 1},
                "c": {"ref": "#/defs/d"},
            },
            "propertyOrdering": ["a"],
            "required": ["a"],
            "defs": {"d": {"type": "TYPE_UNSPECIFIED", "title": "D"}},
        }
        (tool,) = read({"tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]}).tools
        assert msgspec.json.decode(tool.parameters or b"") == {
            "type": "object",
            "properties": {
                "a": {"type": ["string", "null"], "enum": ["x", None], "minLength": 1},
                "type": {"type": "array", "items": {"type": "number"}, "minItems": 2},
                "b": {"anyOf": [{"type": "integer"}, {"type": "null"}], "examples": [1]},
                "c": {"$ref": "#/$defs/d"},
            },
            "required": ["a"],
            "$defs": {"d": {"title": "D"}},
        }

    def test_what_a_function_gives_back_is_told_in_words(self):
        declared = {"name": "f", "description": "D.", "response": {"type": "STRING"}}
        (tool,) = read({"tools": [{"functionDeclarations": [declared]}]}).tools
        assert tool.description == 'D.\n\nIt returns JSON of this schema: {"type":"string"}'

    def test_schemas_are_written_as_json_schema(self):
        tool = Tool(name="f", description="d", parameters=msgspec.Raw(b'{"type":"object"}'))
        declared = {"name": "f", "description": "d", "parametersJsonSchema": {"type": "object"}}
        assert write(ask(tools=(tool, Tool(name="g"))))["tools"] == [
            {"functionDeclarations": [declared, {"name": "g"}]}
        ]

    @pytest.mark.parametrize(
        ("choice", "calling"),
        [
            (ToolChoice(mode="auto"), {"mode": "AUTO"}),
            (ToolChoice(mode="none"), {"mode": "NONE"}),
            (ToolChoice(mode="any"), {"mode": "ANY"}),
            (ToolChoice(mode="any", names=("f",)), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
            (ToolChoice(mode="auto", names=("f", "g")), {"mode": "VALIDATED", "allowedFunctionNames": ["f", "g"]}),
        ],
    )
    def test_choices_both_ways(self, choice, calling):
        assert write(ask(tool_choice=choice))["toolConfig"] == {"functionCallingConfig": calling}
        assert read({"toolConfig": {"functionCallingConfig": calling}}).tool_choice == choice

    def test_a_strict_tool_makes_calls_valid(self):
        body = write(ask(tools=(Tool(name="f", strict=True),)))
        assert body["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}


class TestConfig:
    def test_everything_that_is_carried(self):
        config = {
            "maxOutputTokens": 5,
            "candidateCount": 2,
            "stopSequences": ["a"],
            "temperature": 0.5,
            "topP": 0.25,
            "topK": 3,
            "seed": 7,
            "presencePenalty": 0.5,
            "frequencyPenalty": 0.25,
            "responseLogprobs": True,
            "logprobs": 4,
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
            "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
        }
        request = read({"generationConfig": config, "serviceTier": "flex", "labels": {"team": "blue"}})
        assert request.sampling == Sampling(
            temperature=0.5,
            top_p=0.25,
            top_k=3,
            seed=7,
            presence_penalty=0.5,
            frequency_penalty=0.25,
            logprobs=4,
            choices=2,
        )
        body = write(request)
        assert body["generationConfig"] == config
        assert (body["serviceTier"], body["labels"]) == ("flex", {"team": "blue"})

    @pytest.mark.parametrize(
        "config",
        [
            {
                "responseModalities": ["TEXT"],
                "responseMimeType": "text/plain",
                "mediaResolution": "MEDIA_RESOLUTION_LOW",
            },
            {"thinkingConfig": {}, "enableAffectiveDialog": False, "audioTimestamp": None, "responseFormat": []},
            {"logprobs": 3, "responseLogprobs": False},
        ],
    )
    def test_defaults_say_nothing(self, config):
        assert read(
            {"generationConfig": config, "serviceTier": "standard", "safetySettings": [{}], "store": True}
        ) == read({})

    def test_a_schema_of_the_first_form(self):
        config = {"responseMimeType": "application/json", "responseSchema": {"type": "STRING"}}
        output = read({"generationConfig": config}).output
        assert output == OutputSchema(schema=msgspec.Raw(b'{"type":"string"}'))
        assert read({"generationConfig": {"responseMimeType": "application/json"}}).output == OutputSchema()

    @pytest.mark.parametrize(
        ("config", "reasoning"),
        [
            ({"thinkingBudget": 0}, Reasoning(mode="off")),
            ({"thinkingBudget": -1}, Reasoning(mode="adaptive")),
            ({"thinkingBudget": 99}, Reasoning(mode="on", budget_tokens=99)),
            ({"thinkingLevel": "xhigh"}, Reasoning(effort="xhigh")),
            ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, None),
        ],
    )
    def test_thinking_read(self, config, reasoning):
        assert read({"generationConfig": {"thinkingConfig": config}}).reasoning == reasoning

    @pytest.mark.parametrize(
        ("reasoning", "model", "config"),
        [
            (Reasoning(mode="off"), "gemini-2.5-flash", {"thinkingBudget": 0}),
            (Reasoning(mode="off"), "gemini-2.5-pro", {"thinkingBudget": 128}),
            (Reasoning(mode="off"), "gemini-3-flash", {"thinkingLevel": "MINIMAL"}),
            (Reasoning(mode="off"), "gemini-3.1-pro", {"thinkingLevel": "LOW"}),
            (Reasoning(effort="high"), "gemini-2.5-flash", {"thinkingBudget": 8192}),
            (Reasoning(effort="max"), "gemini-flash-latest", {"thinkingLevel": "XHIGH"}),
            (Reasoning(effort="minimal"), "gemini-3-pro", {"thinkingLevel": "LOW"}),
            (Reasoning(mode="on", effort="low", budget_tokens=9), "gemini-2.5-pro", {"thinkingBudget": 9}),
            (Reasoning(mode="on", budget_tokens=9), "gemini-3-pro", {"thinkingBudget": 9}),
            (Reasoning(mode="adaptive"), "gemini-3-pro", {"thinkingBudget": -1}),
        ],
    )
    def test_thinking_written(self, reasoning, model, config):
        body = write(ask(reasoning=reasoning), Target(model=model))
        assert body["generationConfig"]["thinkingConfig"] == config

    def test_values_are_brought_within_bounds(self):
        sampling = Sampling(temperature=3.0, seed=2**40 + 5, logprobs=25)
        config = write(ask(sampling=sampling))["generationConfig"]
        assert config == {"temperature": 2.0, "seed": 5, "responseLogprobs": True, "logprobs": 20}
        limited = write(ask(max_output_tokens=100), Target(model="m", max_output_tokens=50))
        assert limited["generationConfig"] == {"maxOutputTokens": 50}

    @pytest.mark.parametrize(
        ("members", "feature"),
        [
            ({"stop": tuple("abcdef")}, "stop"),
            ({"sampling": Sampling(choices=9)}, "choices"),
            ({"max_output_tokens": 0}, "max_output_tokens"),
            ({"tier": "scale"}, "tier"),
        ],
    )
    def test_what_has_no_place_is_said(self, members, feature):
        with pytest.raises(CannotSay) as caught:
            TONGUE.write_request(ask(**members), NEW)
        assert caught.value.feature == feature

    def test_labels_that_do_not_fit_stay_behind(self):
        metadata = msgspec.Raw(b'{"Team":"x","ok":"fine","bad":"a b"}')
        assert write(ask(metadata=metadata))["labels"] == {"ok": "fine"}
        assert "labels" not in write(ask(metadata=msgspec.Raw(b'{"a":1}')))


class TestSystem:
    def test_in_mid_conversation_it_is_a_users_marked_turn(self):
        turns = (Turn("user", (Text(text="a"),)), Turn("system", (Text(text="be brief"),)))
        assert write(ask(*turns))["contents"][1]["parts"] == [{"text": "<system>\nbe brief\n</system>"}]

    def test_alone_it_is_what_is_asked(self):
        body = write(Request(model="m", turns=(), system=(Text(text="s"),)))
        assert body["contents"] == [{"role": "user", "parts": [{"text": "s"}]}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"cachedContent": "cachedContents/x"}, "cachedContent"),
        ({"continuationToken": "YQ=="}, "continuationToken"),
        ({"tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
        ({"tools": [{}, {"urlContext": {}}]}, "tools[1].urlContext"),
        ({"tools": [{"code_execution": {}}]}, "tools[0].codeExecution"),
        ({"tools": [{"functionDeclarations": [{"name": "f", "behavior": "NON_BLOCKING"}]}]},
         "tools[0].functionDeclarations[0].behavior"),
        ({"toolConfig": {"retrievalConfig": {"languageCode": "en"}}}, "toolConfig.retrievalConfig"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "SOMETIMES"}}}, "toolConfig.functionCallingConfig.mode"),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, "generationConfig.responseModalities"),
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, "generationConfig.responseMimeType"),
        ({"generationConfig": {"speechConfig": {"languageCode": "en"}}}, "generationConfig.speechConfig"),
        ({"contents": [{"parts": [{"executableCode": {"code": "1"}}]}]}, "contents[0].parts[0].executableCode"),
        ({"contents": [{"parts": [{"text": "a", "videoMetadata": {"fps": 1}}]}]}, "contents[0].parts[0].videoMetadata"),
        ({"systemInstruction": {"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}},
         "systemInstruction.parts[0]"),
        ({"madeUp": 1}, "madeUp"),
        ({"contents": [{"parts": [{"text": "a", "made_up": 1}]}]}, "contents[0].parts[0].madeUp"),
    ],
)  # fmt: skip
def test_what_means_nothing_elsewhere_is_refused_by_name(body, param):
    code, named = refused(body)
    assert code == "not_translatable"
    assert named == param


def test_tables_name_only_what_there_is():
    assert "logit_bias" not in TONGUE.carries
    assert features_of(read({})) <= TONGUE.carries.keys()


MEMBERS = st.sampled_from(
    ["contents", "parts", "text", "role", "functionCall", "name", "args", "tools", "x_y", "thought"]
)
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["user", "model"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=3),
    max_leaves=12,
)


@given(st.binary(max_size=60) | SHAPES.map(msgspec.json.encode))
def test_any_bytes_are_read_or_refused(body):
    with suppress(InvalidRequest):
        TONGUE.read_request(body, ENTRY)


def test_deep_nesting_is_refused_or_read_in_time():
    deep = b"[" * 20_000 + b"]" * 20_000
    for body in (deep, b'{"made_up":' + deep + b"}", b'{"contents":[],"tools":' + deep + b"}"):
        with pytest.raises(InvalidRequest):
            TONGUE.read_request(body, ENTRY)


@pytest.mark.parametrize(
    "contents",
    [
        b'{"role":"model","parts":[{"text":"a"}]}',
        b'{"role":"model","parts":[{"functionCall":{"name":"f"}}]}',
        b'{"parts":[{"functionResponse":{"name":"f","id":"x"}}]}',
    ],
)
def test_many_small_contents_are_read_in_time(contents):
    """Work that grows with their square would be an attack."""
    calls = b'{"role":"model","parts":[{"functionCall":{"name":"f","id":"y"}}]}'
    body = b'{"contents":[' + b",".join([contents, calls] * 5_000 + [contents] * 5_000) + b"]}"
    assert TONGUE.read_request(body, ENTRY).turns
