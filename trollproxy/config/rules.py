"""What must hold between settings: names that must exist, be unique, or exclude each other.

Each rule looks at settings whose single values are already sound, and refuses with the path of the one to change.
Must not know: where settings come from (that is Sources' knowledge), nor what is built from them.
"""

import re
from collections.abc import Iterable, Iterator

from trollproxy.config.decode import Sources
from trollproxy.config.settings import (
    ALIASES,
    DEMO,
    MAIN,
    OPENHANDS,
    ModelSettings,
    Settings,
    ThrottleSettings,
    UpstreamSettings,
)
from trollproxy.policy.filters import MAX_RULES, Filters

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # names become metric labels and parts of log lines
_NAME_RULE = "a name must be 1 to 64 letters, digits, dots, dashes or underscores"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN_HEADERS = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)  # they frame the message; a second opinion on them is how requests are smuggled
_HINTS = {
    MAIN: "it exists when MAIN_TARGET_SERVER is set",
    OPENHANDS: "it exists when TROLL_API_KEY is set",
    DEMO: "it exists unless `demo` is false",
}


def check(settings: Settings, sources: Sources) -> None:
    _check_listeners(settings, sources)
    for place, name in enumerate(settings.proxies, start=1):
        if not _NAME.fullmatch(name):
            sources.refuse("proxies", f"{_NAME_RULE}, and that of entry {place} is not")
    for name, upstream in settings.upstreams.items():
        _check_upstream_name(name, settings, sources)
        _check_formats(upstream, f"upstreams.{name}", sources)
        _check_keys(name, upstream, sources)
        _check_headers(upstream, f"upstreams.{name}.headers", sources)
        _check_proxies(upstream, f"upstreams.{name}", settings, sources=sources)
        _check_throttle(upstream.throttle, f"upstreams.{name}.throttle", sources)
    if settings.fallback_upstream is not None:
        _check_known(settings.fallback_upstream, "fallbackUpstream", settings, sources=sources)
    _check_models(settings, sources)
    _check_filters(settings, sources)


def _check_listeners(settings: Settings, sources: Sources) -> None:
    if not settings.listeners:
        sources.refuse("listeners", "needs at least one listener")
    ports = [listener.port or None for listener in settings.listeners]
    for index in _repeats(ports):
        sources.refuse(f"listeners[{index}].port", "is listened on twice")


def _check_upstream_name(name: str, settings: Settings, sources: Sources) -> None:
    if not _NAME.fullmatch(name):
        sources.refuse(f"upstreams.{name}", _NAME_RULE)
    if name == DEMO and settings.demo:
        sources.refuse(f"upstreams.{name}", "is the built-in upstream; set `demo: false` or choose another name")


def _check_formats(upstream: UpstreamSettings, at: str, sources: Sources) -> None:
    if upstream.type is not None and upstream.formats is not None:
        sources.refuse(f"{at}.formats", "stands beside `type`; give one of the two")
    if not upstream.spoken:
        sources.refuse(
            f"{at}.formats", "is required: one or more of openai, responses, anthropic, gemini (or give `type`)"
        )
    for index in _repeats(upstream.spoken):
        sources.refuse(f"{at}.formats[{index}]", "is given twice")
    for wire, path in upstream.paths.by_wire().items():
        if path is not None and wire not in upstream.spoken:
            sources.refuse(f"{at}.paths.{wire}", "is for a format that this upstream does not speak")


def _check_keys(name: str, upstream: UpstreamSettings, sources: Sources) -> None:
    at = f"upstreams.{name}"
    if upstream.api_key is not None and upstream.keys:
        sources.refuse(f"{at}.apiKey", "stands beside `keys`; give one of the two")
    for index, entry in enumerate(upstream.keys):
        if entry.id is not None and (entry.id == entry.key or not _NAME.fullmatch(entry.id)):
            reason = "must be 1 to 64 letters, digits, dots, dashes or underscores, and not the key: ids are public"
            sources.refuse(f"{at}.keys[{index}].id", reason)
    if upstream.keys and all(entry.backup for entry in upstream.keys):
        sources.refuse(f"{at}.keys[0].backup", "leaves no key to begin with")
    for index in _repeats(key_id for key_id, _ in upstream.named_keys(name)):
        sources.refuse(f"{at}.keys[{index}].id", "is the id of an earlier key")


def _check_headers(upstream: UpstreamSettings, at: str, sources: Sources) -> None:
    for name in upstream.headers:
        if not _HEADER_NAME.fullmatch(name):
            sources.refuse(f"{at}.{name}", "is not the name of a header")
        if name.lower() in _OWN_HEADERS:
            sources.refuse(f"{at}.{name}", "is set by the gateway itself")
    names = list(upstream.headers)
    for index in _repeats(name.lower() for name in names):
        sources.refuse(f"{at}.{names[index]}", "is given twice, in different spelling")


def _check_proxies(upstream: UpstreamSettings, at: str, settings: Settings, *, sources: Sources) -> None:
    known = ", ".join(settings.proxies) or "none"
    for index, name in enumerate(upstream.proxies):
        if name not in settings.proxies:
            # Not repeated: a URL with its password is what is written here by mistake.
            sources.refuse(f"{at}.proxies[{index}]", f"is not a name in the top-level `proxies`; known: {known}")
    for index in _repeats(upstream.proxies):
        sources.refuse(f"{at}.proxies[{index}]", "is given twice")
    for index, entry in enumerate(upstream.keys):
        if entry.proxy is not None and entry.proxy not in upstream.proxies:
            listed = ", ".join(upstream.proxies) or "none"
            sources.refuse(f"{at}.keys[{index}].proxy", f"is not one of this upstream's `proxies`: {listed}")


def _check_throttle(throttle: ThrottleSettings | None, at: str, sources: Sources) -> None:
    if throttle is None:
        return
    if not (throttle.per_minute or throttle.per_hour or throttle.per_day or throttle.max_in_flight):
        sources.refuse(at, "limits nothing: give perMinute, perHour, perDay or maxInFlight")


def _check_models(settings: Settings, sources: Sources) -> None:
    for index in _repeats(model.id for model in settings.models):
        sources.refuse(f"models[{index}].id", "is the id of an earlier model")
    for index, model in enumerate(settings.models):
        _check_upstream_of(model, f"models[{index}]", settings, sources=sources)


def _check_upstream_of(model: ModelSettings, at: str, settings: Settings, *, sources: Sources) -> None:
    name = settings.upstream_of(model)
    if name is None:
        sources.refuse(f"{at}.upstream", f"is required, since there is no upstream to fall back to; {_known(settings)}")
    _check_known(name, f"{at}.upstream", settings, sources=sources)
    upstream = settings.upstreams.get(name)
    if upstream is not None and model.type is not None and model.type not in upstream.spoken:
        sources.refuse(f"{at}.type", f"is not spoken by the upstream `{name}`")
    served = [name]
    for index, fallback in enumerate(model.fallbacks):
        _check_known(fallback.upstream, f"{at}.fallbacks[{index}].upstream", settings, sources=sources)
        served.append(settings.resolve(fallback.upstream))
    for index in _repeats(served):
        sources.refuse(f"{at}.fallbacks[{index - 1}].upstream", "serves this model already")
    if model.race > len(served):
        sources.refuse(
            f"{at}.race", f"is more than the upstreams that serve this model: {len(served)} with `fallbacks`"
        )


def _check_filters(settings: Settings, sources: Sources) -> None:
    if len(settings.filters) > MAX_RULES:
        sources.refuse(f"filters[{MAX_RULES}]", f"is one too many: each is a pass over every text, {MAX_RULES} may be")
    for index, entry in enumerate(settings.filters):
        for place, name in enumerate(entry.upstreams):
            _check_known(name, f"filters[{index}].upstreams[{place}]", settings, sources=sources)
    filters = Filters(entry.rule for entry in settings.filters)
    for index, entry in enumerate(settings.filters):
        if filters.apply(entry.replacement) != entry.replacement:
            # An answer comes back as history with each turn, and would change a bit more every time.
            sources.refuse(f"filters[{index}].replacement", "holds what one of the patterns would replace again")


def _check_known(name: str, at: str, settings: Settings, *, sources: Sources) -> None:
    target = name if name in settings.upstreams else ALIASES.get(name, name)
    if target in settings.upstreams or (target == DEMO and settings.demo):
        return
    hint = f" ({_HINTS[target]})" if target in _HINTS else ""
    sources.refuse(at, f"there is no upstream `{name}`{hint}; {_known(settings)}")


def _known(settings: Settings) -> str:
    names = [*settings.upstreams, *([DEMO] if settings.demo else [])]
    return "known: " + (", ".join(names) or "none")


def _repeats(values: Iterable[object]) -> Iterator[int]:
    """Where a value stands that stood before; None may stand any number of times."""
    seen = set()
    for index, value in enumerate(values):
        if value in seen:
            yield index
        if value is not None:
            seen.add(value)
