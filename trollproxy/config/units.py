"""Values with a unit, as they are written in the configuration and as exact numbers.

Each type is a plain number or text that knows how to read itself (`parse`, raising ValueError with the reason) and how
to be shown again (`shown`). Reasons never repeat the value, since any of them may hold a misplaced secret. Money is
read through Decimal and Fraction: what cannot be kept exactly is refused, nothing is rounded.
Must not know: files, the environment, which setting a value belongs to.
"""

import ipaddress
import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Literal, NamedTuple, Self
from urllib.parse import SplitResult, unquote, urlsplit

MAX_DURATION_S = 86_400.0  # longer than a day is a mistaken unit: nothing here waits that long
MAX_USD = 1_000_000  # a dollar per token; above it a price is a typing error
MAX_MULTIPLIER = 1_000
MIN_SECRET_CHARS = 16

_DURATION_UNITS_S = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}
_DURATION = re.compile(r"(?:\d{1,12}(?:\.\d{1,12})?(?:ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"([\d.]+)(ms|s|m|h)", re.ASCII)
_SIZE_UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([kKMG]i?B|B|)", re.ASCII)
_VISIBLE = re.compile(r"[!-~]+")
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_MODEL_ID = re.compile(r"[!-)+-~]{1,256}\*?|\*")
_PATH = re.compile(r"/[!-\"$-~]*")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_PROXY_SCHEMES: dict[str, Literal["http", "socks5"]] = {"http": "http", "socks5": "socks5", "socks5h": "socks5"}
_MAX_CREDENTIAL_BYTES = 255  # RFC 1929, 2


class Seconds(float):
    """A duration: `30s`, `500ms`, `2m`, `1h`, `1m30s`, or a number of seconds. Above zero, at most a day."""

    @classmethod
    def parse(cls, value: object) -> Self:
        text = str(value)
        if _DURATION.fullmatch(text):
            parts = (Fraction(number) * _DURATION_UNITS_S[unit] for number, unit in _DURATION_PART.findall(text))
            seconds = float(sum(parts))
        else:
            seconds = float(_read_decimal(value, "a duration such as '30s', '500ms', '2m' or seconds"))
        if not 0 < seconds <= MAX_DURATION_S:
            raise ValueError("must be above zero and at most 24h")
        return cls(seconds)

    def shown(self) -> str:
        return f"{float(self):.15g}s"


class SecondsOrOff(Seconds):
    """A duration, or 0 for never."""

    @classmethod
    def parse(cls, value: object) -> Self:
        return cls(0) if str(value) in {"0", "0s"} else super().parse(value)


class ByteSize(int):
    """A number of bytes: `32MiB`, `64kB`, or a plain number. From 1 KiB to 1 GiB: one body is held in memory."""

    @classmethod
    def parse(cls, value: object) -> Self:
        found = _SIZE.fullmatch(str(value))
        if found is None or found[2] not in _SIZE_UNITS:
            raise ValueError("is not a size such as '32MiB', '64kB' or a number of bytes")
        size = Fraction(found[1]) * _SIZE_UNITS[found[2]]
        if size.denominator != 1:
            raise ValueError("is not a whole number of bytes")
        if not 2**10 <= size <= 2**30:
            raise ValueError("must be from 1KiB to 1GiB")
        return cls(int(size))

    def shown(self) -> int:
        return int(self)


class Usd(int):
    """US dollars as an integer of nano-dollars."""

    @classmethod
    def parse(cls, value: object) -> Self:
        amount = _read_decimal(value, "a number of US dollars")
        if not 0 <= amount <= MAX_USD:
            raise ValueError(f"must be from 0 to {MAX_USD}")
        return cls(_scale(amount, decimals=9))

    def shown(self) -> str:
        return _show_scaled(self, decimals=9)


class Multiplier(int):
    """A factor as an integer of millionths."""

    @classmethod
    def parse(cls, value: object) -> Self:
        factor = _read_decimal(value, "a number")
        if not 0 < factor <= MAX_MULTIPLIER:
            raise ValueError(f"must be above 0 and at most {MAX_MULTIPLIER}")
        return cls(_scale(factor, decimals=6))

    def shown(self) -> str:
        return _show_scaled(self, decimals=6)


class Secret(str):
    """A text that must not be seen: its repr is masked, so no struct that holds it can leak it into a log."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        if not (isinstance(value, str) and _VISIBLE.fullmatch(value)):
            raise ValueError("must be text of visible ASCII characters without spaces, and not empty")
        return cls(value)

    def shown(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "'***'"


class LongSecret(Secret):
    """A secret that we check ourselves: shorter ones can be guessed by trying."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        secret = super().parse(value)
        if len(secret) < MIN_SECRET_CHARS:
            raise ValueError(f"must have at least {MIN_SECRET_CHARS} characters")
        return secret


class MongoUri(Secret):
    """A MongoDB connection string; secret because it carries the password."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        uri = super().parse(value)
        if not uri.startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("must begin with mongodb:// or mongodb+srv://")
        return uri


class HeaderValue(Secret):
    """The value of a header sent to a provider: often a key, so treated as one."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        if not (isinstance(value, str) and _HEADER_VALUE.fullmatch(value)):
            raise ValueError("must be text of visible ASCII characters, spaces only inside, and not empty")
        return cls(value)


class ProxyParts(NamedTuple):
    """A proxy's URL in pieces, credentials decoded."""

    kind: Literal["http", "socks5"]
    host: str
    port: int
    username: Secret | None  # vendors of proxies put session and account ids in it
    password: Secret | None


class ProxyUrl(Secret):
    """An outbound proxy: `http://user:password@host:port` or `socks5://…`. Shown without its credentials."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        if not (isinstance(value, str) and _VISIBLE.fullmatch(value)):
            raise ValueError("must be a URL such as 'http://user:password@host:port' or 'socks5://host:port'")
        scheme, mark, rest = value.partition("://")
        if not mark or scheme.lower() not in _PROXY_SCHEMES:
            raise ValueError("must begin with http:// or socks5:// (the way to the proxy itself is not encrypted)")
        if rest.count("@") > 1:
            raise ValueError("holds '@' more than once; in a user or password it is written %40")
        if re.search(r"[/?#]", rest.removesuffix("/")):
            raise ValueError("must end with the port; in a user or password '/', '?' and '#' are %2F, %3F and %23")
        if not _has_valid_authority(value):
            raise ValueError("has no valid host and port")
        parts = urlsplit(value)
        if parts.port is None:
            raise ValueError("must name the port, as in 'http://host:3128'")
        _check_credentials(parts)
        return cls(value)

    def parts(self) -> ProxyParts:
        parts = urlsplit(str(self))
        assert parts.hostname is not None
        assert parts.port is not None
        user = None if parts.username is None else Secret(unquote(parts.username))
        password = None if parts.password is None else Secret(unquote(parts.password))
        return ProxyParts(_PROXY_SCHEMES[parts.scheme], parts.hostname, parts.port, user, password)

    def shown(self) -> str:
        scheme, _, rest = self.partition("://")
        credentials, mark, host = rest.rpartition("@")
        return f"{scheme}://{'***' if credentials else ''}{mark}{host}"


class Cidr(str):
    """A network such as `10.0.0.0/8`, or one address."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        try:
            return cls(ipaddress.ip_network(str(value)))
        except ValueError:
            raise ValueError("is not a network such as '10.0.0.0/8' (no bits may be set behind the prefix)") from None


class ModelId(str):
    """A model's name; visible ASCII, with `*` only as the last character."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        if not (isinstance(value, str) and _MODEL_ID.fullmatch(value)):
            raise ValueError("must be 1 to 256 visible ASCII characters, with '*' only at the end")
        return cls(value)


class UrlPath(str):
    """A complete path on a provider's host, with its query where one is needed."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        if not (isinstance(value, str) and _PATH.fullmatch(value)):
            raise ValueError("must be a path that begins with '/', without spaces or '#'")
        return cls(value)


class BaseUrl(str):
    """Where a provider's API begins: http or https, a host, perhaps a port and a path, and nothing else."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        if not (isinstance(value, str) and _VISIBLE.fullmatch(value)):
            raise ValueError("must be a URL")
        scheme, _, rest = value.partition("://")
        if scheme.lower() not in {"http", "https"}:
            raise ValueError("must begin with http:// or https://")
        for mark, what in (("@", "a user or password"), ("?", "a query"), ("#", "a fragment")):
            if mark in rest:
                raise ValueError(f"must not hold {what}")
        if not _has_valid_authority(value):
            raise ValueError("has no valid host and port")
        return cls(value.rstrip("/"))

    def parts(self) -> tuple[str, int, bool, str]:
        """Host, port, whether it is TLS, and the path without a slash at its end."""
        parts = urlsplit(str(self))
        tls = parts.scheme == "https"
        assert parts.hostname is not None
        return parts.hostname, parts.port or (443 if tls else 80), tls, parts.path.rstrip("/")


def _has_valid_authority(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return bool(parts.hostname and _HOST.fullmatch(parts.hostname)) and port != 0


def _check_credentials(parts: SplitResult) -> None:
    if parts.username is None:
        return
    user, password = unquote(parts.username), unquote(parts.password or "")
    if not user:
        raise ValueError("has a password but no user" if password else "has an empty user before '@'")
    if max(len(user.encode()), len(password.encode())) > _MAX_CREDENTIAL_BYTES:
        raise ValueError(f"has a user or password of more than {_MAX_CREDENTIAL_BYTES} bytes")
    if not (user + password).isprintable():
        raise ValueError("has a user or password with characters that cannot be sent")
    if ":" in user and _PROXY_SCHEMES[parts.scheme] == "http":
        raise ValueError("has a user with ':', which ends it in HTTP")


def _read_decimal(value: object, what: str) -> Decimal:
    # Through text, because that is what the operator wrote: Decimal(0.1) would be the float's error in full.
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"is not {what}") from None
    if not number.is_finite():
        raise ValueError("must be a finite number")
    return number


def _scale(number: Decimal, *, decimals: int) -> int:
    # The exponent is looked at first: 1e-999999 would be a fraction of a million digits.
    if number and number.adjusted() < -decimals:
        raise ValueError(f"has more than {decimals} decimals")
    scaled = Fraction(number) * 10**decimals if number else Fraction(0)
    if scaled.denominator != 1:
        raise ValueError(f"has more than {decimals} decimals")
    return int(scaled)


def _show_scaled(scaled: int, *, decimals: int) -> str:
    return format(Decimal(int(scaled)).scaleb(-decimals).normalize(), "f")
