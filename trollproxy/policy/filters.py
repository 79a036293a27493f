"""Words that are replaced in what passes: literal patterns, found in time that grows with the text alone.

A rule is a literal, perhaps without regard to case, perhaps only where it stands as a whole word. There are no regular
expressions: nobody who sends a text can make the search slow. Of what is found, the leftmost counts, of those the
longest, of those the first rule; what was replaced is not looked at again.

A text that comes in pieces gives the same as the whole, whatever the pieces are: the end of one waits as long as it
may be the beginning of a match. Rules bound what waits (`longest` characters) and what a search costs (one pass for
each rule). Must not know: formats, requests, replies.
"""

from collections.abc import Iterable
from functools import lru_cache
from heapq import heapify, heappop, heapreplace

import msgspec

from trollproxy.records import FilterRule

MAX_RULES = 64  # each is a pass over every text: 64 take some 30 ms for a megabyte
MAX_PATTERN = 128  # characters; as many may wait at the end of a stream's piece
MAX_REPLACEMENT = 256  # characters; a text may grow by this for each match


def fold(text: str) -> str:
    """Lower case, character by character: `str.lower` alone makes two of one letter (U+0130) and writes another (the
    Greek sigma) by what stands around it, so that pieces would differ from the whole.
    """
    if text.isascii():
        return text.lower()
    return text.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()


@lru_cache(maxsize=256)
def compile_filters(rules: tuple[FilterRule, ...]) -> "Filters | None":
    """None where there is nothing to do. Equal rules are compiled once."""
    return Filters(rules) if rules else None


class _Family(msgspec.Struct, frozen=True):
    """Patterns that begin alike. Where one of them is, the shortest is as well, so that alone is searched for; and
    since no family's shortest begins with another's, there is one family at most at each place of a text.
    """

    key: str
    rules: tuple[tuple[str, FilterRule], ...]  # with what is searched for, the longest first
    longer: tuple[str, ...]

    def match(self, text: str, folded: str, place: int, *, before: str) -> tuple[int, str] | None:
        """How much of the text counts as found here, and its replacement."""
        has_longer = folded.startswith(self.longer, place)
        for key, rule in self.rules:
            if len(key) > len(self.key) and not (has_longer and folded.startswith(key, place)):
                continue
            if not (rule.ignore_case or text.startswith(rule.pattern, place)):
                continue
            if rule.whole_word and not _stands_alone(text, place, place + len(key), before=before):
                continue
            return len(key), rule.replacement
        return None


class Filters:
    """A set of rules, ready for use."""

    __slots__ = ("_families", "_folds", "_openings", "longest")

    def __init__(self, rules: Iterable[FilterRule]) -> None:
        rules = tuple(rules)
        self._folds = any(rule.ignore_case for rule in rules)
        keys = [(fold(rule.pattern) if self._folds else rule.pattern, rule) for rule in rules]
        self._families = _families(keys)
        self.longest = max((len(key) for key, _ in keys), default=0)
        # What may become a match with more text. A whole word also needs to be seen to end.
        self._openings = frozenset(key[:size] for key, rule in keys for size in range(1, len(key) + rule.whole_word))

    def apply(self, text: str) -> str:
        """A whole text."""
        return self.rewrite(text, len(text))[0]

    def stream(self) -> "FilteredText":
        return FilteredText(self)

    def opens_at(self, text: str) -> int:
        """From where on the text may be the beginning of a match; its length if nothing waits for more."""
        end = self._fold(text[-self.longest :])
        at = next((place for place in range(len(end)) if end[place:] in self._openings), len(end))
        return len(text) - len(end) + at

    def rewrite(self, text: str, until: int, before: str = "") -> tuple[str, int]:
        """What the matches that begin before `until` make of the text, and how much of the text that is. `before` is
        the character that stood before it.

        Linear: `str.find` is (the two-way algorithm), and a match of n characters outdates n - 1 places at most.
        """
        folded = self._fold(text)
        places = [(folded.find(family.key), number) for number, family in enumerate(self._families)]
        places = [found for found in places if found[0] >= 0]
        heapify(places)
        pieces: list[str] = []
        done = 0
        while places and places[0][0] < until:
            place, number = places[0]
            family, start = self._families[number], done
            if place >= done:
                match, start = family.match(text, folded, place, before=before), place + 1
                if match is not None:
                    pieces += (text[done:place], match[1])
                    done = start = place + match[0]
            place = folded.find(family.key, start)
            if place >= 0:
                heapreplace(places, (place, number))
            else:
                heappop(places)
        used = max(done, until)
        return ("".join((*pieces, text[done:used])) if pieces else text[:used]), used

    def _fold(self, text: str) -> str:
        return fold(text) if self._folds else text


class FilteredText:
    """One text that comes in pieces."""

    __slots__ = ("_before", "_filters", "held")

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._before = ""
        self.held = ""  # what waits for more: never longer than the longest pattern

    def feed(self, piece: str) -> str:
        text = self.held + piece
        return self._release(text, self._filters.opens_at(text))

    def finish(self) -> str:
        """The text is over: the rest."""
        return self._release(self.held, len(self.held))

    def _release(self, text: str, until: int) -> str:
        released, used = self._filters.rewrite(text, until, self._before)
        if used:
            self._before = text[used - 1]
        self.held = text[used:]
        return released


def _families(keys: list[tuple[str, FilterRule]]) -> tuple[_Family, ...]:
    shortest = [key for key, _ in keys if not any(key != other and key.startswith(other) for other, _ in keys)]
    families = []
    for head in dict.fromkeys(shortest):
        rules = sorted((found for found in keys if found[0].startswith(head)), key=lambda found: -len(found[0]))
        longer = tuple(key for key, _ in rules if key != head)
        families.append(_Family(head, tuple(rules), longer))
    return tuple(families)


def _stands_alone(text: str, start: int, end: int, *, before: str) -> bool:
    return not (_is_of_word(text[start - 1] if start else before) or _is_of_word(text[end : end + 1]))


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character == "_"
