"""Which model a name means. Exact names win, then the longest prefix (`claude-sonnet-4-*`), then a size class."""

from collections.abc import Iterable

from trollproxy.records import Model, Supplier


class Routes:
    """An immutable table; built once per reload."""

    __slots__ = ("_exact", "_prefixes", "_sizes")

    def __init__(self, models: Iterable[Model]) -> None:
        models = tuple(models)
        self._exact = {model.model_id: model for model in models if not model.model_id.endswith("*")}
        patterns = [(model.model_id[:-1], model) for model in models if model.model_id.endswith("*")]
        self._prefixes = sorted(patterns, key=lambda pattern: -len(pattern[0]))
        self._sizes: dict[str, Model] = {}
        for model in self.listed():
            if model.size is not None:
                self._sizes.setdefault(model.size, model)

    def find(self, name: str) -> Model | None:
        model = self._exact.get(name)
        if model is not None:
            return model
        model = next((model for prefix, model in self._prefixes if name.startswith(prefix)), None)
        return model if model is not None else self._sizes.get(name)

    def sizes(self) -> dict[str, Model]:
        """Size classes that can be asked for by name (`SMALL`, `BIG`): each is the first model listed with it."""
        return dict(self._sizes)

    def listed(self) -> list[Model]:
        """The models that can be named exactly, for GET /v1/models."""
        return list(self._exact.values())


def upstream_name(model: Model, asked: str, supplier: Supplier | None = None) -> str:
    """What the provider calls the model: its configured name there, or for a prefix the very name that was asked.

    `supplier` None: the model's first.
    """
    named = model.upstream_model if supplier is None else supplier.upstream_model
    if named is not None:
        return named
    return asked if model.model_id.endswith("*") else model.model_id
