"""Seeing that a provider answered from its cache: from its own count, or because it says the same to the same again.

Which request was answered how is remembered for a bounded time and number, as numbers only. Two answers to one and the
same request that agree in length and checksum were not thought of twice, unless they are so short that any model says
so. It is a hint for people: nothing is billed by it. Time is passed in.
"""

from typing import Literal

Source = Literal["usage", "identical"]
Asked = tuple[str, str, int]  # provider, model, hash of the request
Answer = tuple[int, int]  # bytes and checksum of the text

WINDOW_S = 600.0  # caches of whole answers keep them for minutes
MAX_REMEMBERED = 8_192  # some 2 MB; at least half of it is always the newest
SHORTEST = 64  # bytes: "Yes." is said twice without any cache


class Echoes:
    """The answers of the last minutes, by provider, model and request.

    They are remembered in two halves, of which the older is dropped whole when the younger is full: to keep the exact
    order of use costs several times as much, and a hint does not need it.
    """

    def __init__(self) -> None:
        self._younger: dict[int, tuple[float, Answer]] = {}  # by the hash of Asked: 64 bits, and no string is kept
        self._older: dict[int, tuple[float, Answer]] = {}
        self.counts: dict[tuple[str, ...], float] = {}  # provider, model, source

    def hear(self, asked: Asked, answer: Answer, *, read_tokens: int, now_s: float) -> Source | None:
        """Where a complete answer came from, as far as can be seen; None: from the model. The provider's word first."""
        is_echo = answer[0] >= SHORTEST and self._is_echo(hash(asked), answer, now_s)
        source: Source | None = "usage" if read_tokens else "identical" if is_echo else None
        if source is not None:
            label = (*asked[:2], source)
            self.counts[label] = self.counts.get(label, 0) + 1
        return source

    def _is_echo(self, key: int, answer: Answer, now_s: float) -> bool:
        before = self._younger.get(key) or self._older.get(key)
        self._younger[key] = (now_s, answer)
        if len(self._younger) >= MAX_REMEMBERED // 2:
            self._younger, self._older = {}, self._younger
        return before is not None and before[1] == answer and now_s - before[0] <= WINDOW_S
