"""`logprobsResult`: how likely each token was, and what else could have stood there."""

from collections.abc import Iterable

import msgspec

from trollproxy.chat import TokenScore


class Scored(msgspec.Struct, gc=False, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class TopScored(msgspec.Struct, gc=False):
    candidates: list[Scored] | None = None


class LogprobsResult(msgspec.Struct, gc=False, rename="camel"):
    chosen_candidates: list[Scored] | None = None
    top_candidates: list[TopScored] | None = None


def read_scores(result: LogprobsResult | None) -> tuple[TokenScore, ...]:
    if result is None:
        return ()
    tops = result.top_candidates or []
    return tuple(
        TokenScore(
            token=chosen.token,
            logprob=chosen.log_probability,
            top=tuple(map(_score, tops[place].candidates or ())) if place < len(tops) else (),
        )
        for place, chosen in enumerate(result.chosen_candidates or ())
    )


def _score(scored: Scored) -> TokenScore:
    return TokenScore(token=scored.token, logprob=scored.log_probability)


def write_scores(scores: Iterable[TokenScore]) -> dict[str, object]:
    listed = list(scores)
    return {
        "chosenCandidates": [_scored(score) for score in listed],
        "topCandidates": [{"candidates": [_scored(top) for top in score.top]} for score in listed],
    }


def _scored(score: TokenScore) -> dict[str, object]:
    return {"token": score.token, "logProbability": score.logprob}
