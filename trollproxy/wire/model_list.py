"""The list of models in each dialect. What it costs and who is behind it stays inside."""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from trollproxy.chat import FormatName
from trollproxy.records import Model

_CREATED = 1_700_000_000  # the dialects want a date; ours do not have one, and a constant keeps answers cacheable
_CREATED_AT = "2023-11-14T22:13:20Z"
_GEMINI_METHODS = ("generateContent", "streamGenerateContent", "countTokens")


class ModelDialect(msgspec.Struct, frozen=True):
    """How one dialect writes models."""

    write_model: Callable[[str, Model], dict[str, object]]
    write_list: Callable[[Mapping[str, Model]], dict[str, object]]


def openai_model(name: str, model: Model) -> dict[str, object]:
    entry: dict[str, object] = {"id": name, "object": "model", "created": _CREATED, "owned_by": "trollproxy"}
    return entry | {"size": model.size} if model.size is not None else entry


def anthropic_model(name: str, _model: Model) -> dict[str, object]:
    return {"type": "model", "id": name, "display_name": name, "created_at": _CREATED_AT}


def gemini_model(name: str, model: Model) -> dict[str, object]:
    entry: dict[str, object] = {"name": f"models/{name}", "displayName": name, "version": "1"}
    if model.max_output_tokens is not None:
        entry["outputTokenLimit"] = model.max_output_tokens
    return entry | {"supportedGenerationMethods": _GEMINI_METHODS}


def openai_list(models: Mapping[str, Model]) -> dict[str, object]:
    return {"object": "list", "data": [openai_model(name, model) for name, model in models.items()]}


def anthropic_list(models: Mapping[str, Model]) -> dict[str, object]:
    data = [anthropic_model(name, model) for name, model in models.items()]
    names: list[str | None] = [*models] or [None]
    return {"data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]}


def gemini_list(models: Mapping[str, Model]) -> dict[str, object]:
    return {"models": [gemini_model(name, model) for name, model in models.items()]}


DIALECTS: dict[FormatName, ModelDialect] = {
    "openai_chat": ModelDialect(openai_model, openai_list),
    "openai_responses": ModelDialect(openai_model, openai_list),
    "anthropic": ModelDialect(anthropic_model, anthropic_list),
    "gemini": ModelDialect(gemini_model, gemini_list),
}


def by_name(models: Iterable[Model], sizes: Mapping[str, Model]) -> dict[str, Model]:
    """Everything that can be asked for by an exact name."""
    return {model.model_id: model for model in models} | dict(sizes)
