"""Everything that can go wrong, as a closed taxonomy.

Each error says what it is (`code`, which is also the metric label), how it is answered (`status`), whose fault it is
(`origin`), what may be tried next (`retry`) and, where an upstream failed, what that says of the key, proxy or provider
that was used (`failure`; docs/upstreams.md). Foreign exceptions become one of these in `upstream/` and `store/` and
nowhere else; each wire format renders them in its own dialect. Messages are written for the person at the client and
never hold secrets, host names or bodies.
"""

from typing import Literal, Self

Origin = Literal["client", "gateway", "proxy", "upstream"]
Retry = Literal["never", "other_key", "other_proxy", "other_provider"]
Failure = Literal["auth", "budget", "rate", "overload", "network", "content"]


class GatewayError(Exception):
    """Base of the taxonomy; the class attributes are the defaults that an instance may sharpen."""

    code = "internal_error"
    status = 500
    origin: Origin = "gateway"
    retry: Retry = "never"
    failure: Failure | None = None  # None: no upstream was at fault, or none was asked

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        failure: Failure | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        if failure is not None:
            self.failure = failure

    def beyond_proxy(self) -> Self:
        """The provider's failure as far as can be seen, but seen through a proxy: another one may know better."""
        self.retry = "other_proxy"
        return self


class InvalidRequest(GatewayError):
    """The request cannot be understood, or asks for what cannot be done."""

    code, status, origin = "invalid_request", 400, "client"


class Unauthenticated(GatewayError):
    """No key, or one that opens nothing. Codes: missing_key, invalid_key, key_revoked, key_expired."""

    code, status, origin = "invalid_key", 401, "client"


class InsufficientCredits(GatewayError):
    """The balance does not cover what the request may cost."""

    code, status, origin = "insufficient_credits", 402, "client"


class Forbidden(GatewayError):
    """The key is known but may not do this. Codes: account_disabled, migration_required, model_not_allowed."""

    code, status, origin = "forbidden", 403, "client"


class NotFound(GatewayError):
    """No such route, model or record. Codes: not_found, model_not_found."""

    code, status, origin = "not_found", 404, "client"


class MethodNotAllowed(GatewayError):
    """The route exists, the verb does not."""

    code, status, origin = "method_not_allowed", 405, "client"


class ClientTooSlow(GatewayError):
    """The client did not send its request within the deadline."""

    code, status, origin = "request_timeout", 408, "client"


class PayloadTooLarge(GatewayError):
    """The body is over the limit."""

    code, status, origin = "payload_too_large", 413, "client"


class RateLimited(GatewayError):
    """The caller's own limit is reached; `retry_after_s` says when a request fits again."""

    code, status, origin = "rate_limit_exceeded", 429, "client"


class ClientGone(GatewayError):
    """The client hung up. Nobody reads the answer; it exists for the log and the bill."""

    code, status, origin = "client_disconnected", 499, "client"


class Overloaded(GatewayError):
    """The gateway has no room: too many requests in flight, draining, or its books cannot be written."""

    code, status, origin = "gateway_overloaded", 503, "gateway"


class StoreUnavailable(GatewayError):
    """The store did not answer in time. What can be served from memory still is."""

    code, status, origin = "store_unavailable", 503, "gateway"


class UpstreamRejected(GatewayError):
    """The provider found fault with the request itself; its words are the client's to read."""

    code, status, origin = "upstream_rejected", 400, "upstream"
    failure = "content"


class UpstreamAuthFailed(GatewayError):
    """The provider refused our key; that is the operator's trouble, not the client's."""

    code, status, origin, retry = "upstream_auth", 502, "upstream", "other_key"
    failure = "auth"


class UpstreamBudgetSpent(GatewayError):
    """Our key has nothing left to spend at the provider; the client's own balance has no part in it."""

    code, status, origin, retry = "upstream_budget", 502, "upstream", "other_key"
    failure = "budget"


class UpstreamRateLimited(GatewayError):
    """The provider throttles our key."""

    code, status, origin, retry = "upstream_rate_limited", 429, "upstream", "other_key"
    failure = "rate"


class UpstreamUnavailable(GatewayError):
    """The provider could not be reached or says it is overloaded. Codes: upstream_unavailable, upstream_overloaded."""

    code, status, origin, retry = "upstream_unavailable", 502, "upstream", "other_provider"
    failure = "network"


class ProxyFailed(GatewayError):
    """An outbound proxy opened no way to the provider, which has not seen the request. Codes: proxy_unavailable,
    proxy_auth.
    """

    code, status, origin, retry = "proxy_unavailable", 502, "proxy", "other_proxy"
    failure = "network"


class UpstreamTimeout(GatewayError):
    """The provider took longer than the configured connect, first-byte or idle deadline."""

    code, status, origin, retry = "upstream_timeout", 504, "upstream", "other_provider"
    failure = "network"


class UpstreamBroken(GatewayError):
    """The provider's answer ended early or is not what its format promises."""

    code, status, origin, retry = "upstream_broken", 502, "upstream", "other_provider"
    failure = "network"
