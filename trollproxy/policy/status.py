"""What people are shown of a pool's members and of a throttle."""

from typing import Literal

import msgspec

from trollproxy.errors import Failure

State = Literal["healthy", "resting", "half_open"]


class MemberStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A member as people are shown it."""

    id: str
    state: State
    failure: Failure | None
    is_lost: bool
    rests_for_s: float
    leases: int
    is_standing_by: bool


class ThrottleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A throttle as people are shown it."""

    in_flight: int
    waiting: int
    share: float  # of the pace that is configured
    last_minute: int
    last_hour: int
    last_day: int
