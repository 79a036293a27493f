"""Seeing that a provider answered from its cache: from its own count, or because it says the same to the same again.

Which request was answered how is remembered for a bounded time and number, as numbers only. Two answers to one and the
same request that agree in length and checksum were not thought of twice, unless they are so short that any model says
so. It is a hint for people: nothing is billed by it. Time is passed in.
"""

from collections import OrderedDict
from typing import Literal

import msgspec

Source = Literal["usage", "identical"]

WINDOW_S = 600.0  # caches of whole answers keep them for minutes
MAX_REMEMBERED = 8_192  # some 2 MB
SHORTEST = 64  # bytes: "Yes." is said twice without any cache


class Answer(msgspec.Struct, frozen=True):
    """What an answer is known again by."""

    text_bytes: int
    text_crc: int


class Echoes:
    """The answers of the last minutes, by provider, model and request."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, int], tuple[float, Answer]] = OrderedDict()
        self.counts: dict[tuple[str, ...], float] = {}  # provider, model, source

    def hear(self, asked: tuple[str, str, int], answer: Answer, *, read_tokens: int, now_s: float) -> Source | None:
        """Where a complete answer came from, as far as can be seen; None: from the model. The provider's word first."""
        is_echo = self._is_echo(asked, answer, now_s)
        source: Source | None = "usage" if read_tokens else "identical" if is_echo else None
        if source is not None:
            label = (*asked[:2], source)
            self.counts[label] = self.counts.get(label, 0) + 1
        return source

    def _is_echo(self, asked: tuple[str, str, int], answer: Answer, now_s: float) -> bool:
        if answer.text_bytes < SHORTEST:
            return False
        before = self._seen.pop(asked, None)
        self._seen[asked] = (now_s, answer)
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return before is not None and before[1] == answer and now_s - before[0] <= WINDOW_S
