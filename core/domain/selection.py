"""From opinions to training rows: the rules in their order, the weights, the held-out split. Pure and repeatable."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from core.domain.model_update import Split
from core.domain.opinion import Exclusion, Judgement, Opinion, Reasons, Rule
from core.domain.policy import SelectionPolicy
from core.domain.preference import PreferenceKind, PreferenceManifest, PreferenceRow
from core.domain.rater import Rater, flip_rate, rate, untrusted
from core.domain.rating import judge
from core.domain.selection_rule import bursts, comments, contradictions, duplicates, excess, foreign, unavailable

_HELD_OUT_SALT = "lorikeet held-out 1"
_LEAST_WEIGHT = 1e-6
_DIGITS = 6
"""Of a weight: so few that a manifest's digest does not hang on the last bit of a sum."""

Item = TypeVar("Item", Opinion, Judgement)


@dataclass(frozen=True)
class Selection:
    """The rows that train or are held out, and for all other feedback the rule that left it out.

    `sources[i]` are the ids of the feedback that row i is made of: two where a pair was read out of two ratings.
    `flip_rate` is the share of them that is believed to be mistaken.
    """

    rows: tuple[PreferenceRow, ...]
    sources: tuple[tuple[UUID, ...], ...]
    exclusions: tuple[Exclusion, ...]
    raters: int
    flip_rate: float

    @property
    def manifest(self) -> PreferenceManifest:
        return PreferenceManifest(rows=self.rows)

    @property
    def pairs(self) -> int:
        return self._count(PreferenceKind.PAIR)

    @property
    def likes(self) -> int:
        return self._count(PreferenceKind.LIKED)

    @property
    def dislikes(self) -> int:
        return self._count(PreferenceKind.DISLIKED)

    @property
    def held_out(self) -> int:
        return sum(row.split is Split.HELD_OUT for row in self.rows)

    def _count(self, kind: PreferenceKind) -> int:
        return sum(row.kind is kind for row in self.rows)


@dataclass(frozen=True)
class _Sieve:
    """Lets through what no rule speaks against, and remembers the rest."""

    exclusions: list[Exclusion] = field(default_factory=list)

    def keep(self, items: Sequence[Item], rule: Rule, reasons: Reasons) -> list[Item]:
        for position, reason in sorted(reasons.items()):
            self.exclusions.extend(Exclusion(source, rule, reason) for source in items[position].sources)
        return [item for position, item in enumerate(items) if position not in reasons]


def select(opinions: Iterable[Opinion], policy: SelectionPolicy) -> Selection:
    """Apply every rule in its order to what a tenant's users said of a base model's pictures.

    The same opinions give the same rows, whatever their ids and whatever order they come in.
    """
    sieve = _Sieve()
    said = sorted(opinions, key=lambda opinion: opinion.order)
    said = sieve.keep(said, Rule.COMMENT, comments(said))
    said = sieve.keep(said, Rule.UNAVAILABLE, unavailable(said))
    said = sieve.keep(said, Rule.FOREIGN_MODEL, foreign(said))
    said = sieve.keep(said, Rule.CONTRADICTION, contradictions(said))
    judged, neutral = judge(said)
    sieve.keep(said, Rule.NEUTRAL, neutral)
    kept = sorted(judged, key=lambda judgement: judgement.order)
    kept = sieve.keep(kept, Rule.DUPLICATE, duplicates(kept, distance=policy.duplicate_distance))
    kept = sieve.keep(kept, Rule.BURST, bursts(kept, count=policy.burst_count, seconds=policy.burst_seconds))
    raters = rate(kept)
    doubted = untrusted(kept, raters, min_overlap=policy.min_overlap, min_agreement=policy.min_agreement)
    kept = sieve.keep(kept, Rule.RATER, doubted)
    kept = sieve.keep(kept, Rule.CAP, excess(kept, per_user=policy.max_per_user, share=policy.max_user_share))
    heard = sorted({each.user_ref for each in kept})
    return Selection(
        rows=tuple(_rows(kept, weigh(kept, raters), policy.held_out_share)),
        sources=tuple(each.sources for each in kept),
        exclusions=tuple(sieve.exclusions),
        raters=len(heard),
        flip_rate=flip_rate(raters[user] for user in heard),
    )


def weigh(judgements: Sequence[Judgement], raters: Mapping[str, Rater]) -> list[float]:
    """How much each judgement counts, 1 on average: strength * the rater's weight / root of how much the user said."""
    said = Counter(each.user_ref for each in judgements)
    raw = [each.strength * raters[each.user_ref].weight / said[each.user_ref] ** 0.5 for each in judgements]
    mean = sum(raw) / len(raw) if raw else 1.0
    return [max(_LEAST_WEIGHT, round(weight / mean, _DIGITS)) for weight in raw]


def split_of(*, user_ref: str, prompt: str, share: float) -> Split:
    """Held out are a share of all users and a share of all prompts: their hashes say so, not the rows around them."""
    is_held_out = _hash_share("user", user_ref) < share or _hash_share("prompt", prompt) < share
    return Split.HELD_OUT if is_held_out else Split.TRAIN


def _hash_share(*parts: str) -> float:
    """A number from 0 to 1 that belongs to a text."""
    digest = hashlib.sha256("\n".join([_HELD_OUT_SALT, *parts]).encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _rows(judgements: Sequence[Judgement], weights: Sequence[float], held_out_share: float) -> Iterable[PreferenceRow]:
    for each, weight in zip(judgements, weights, strict=True):
        yield PreferenceRow(
            feedback_id=each.sources[0],
            kind=each.kind,
            prompt=each.prompt,
            picture=each.picture.ref,
            rejected=each.rejected and each.rejected.ref,
            weight=weight,
            split=split_of(user_ref=each.user_ref, prompt=each.prompt, share=held_out_share),
        )
