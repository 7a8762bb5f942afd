"""Pictures of the base model and what simulated people say of them, as statements that selection can read."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import numpy as np
from diffusers import StableDiffusionPipeline
from PIL import Image

from bench.choice import Pair, endless_pairs
from bench.safety.condition import BEGIN, Condition, Voter
from core.domain.feedback import FeedbackKind
from core.domain.opinion import Opinion, Picture
from core.infra.perceptual_hash import perceptual_hash
from tiny.scorer import read
from tiny.taste import TASTES, Taste
from tiny.world import Caption

PAIRS = 1024
"""So many that every taste finds 256 that are worth a choice."""

_CLEARLY = 0.005  # of the cosine with the nearest outline
_PAUSE = timedelta(minutes=7)


@dataclass(frozen=True, slots=True)
class Statement:
    """One user on one picture that he likes, or on two of which he chose the first."""

    user: str
    caption: Caption
    picture: Image.Image
    rejected: Image.Image | None


class Pool:
    """Pairs of pictures of one caption from the base model, kept in a folder."""

    def __init__(self, pipeline: StableDiffusionPipeline, folder: Path) -> None:
        self._pairs = list(islice(endless_pairs(pipeline, seed=0, folder=folder), PAIRS))

    def pairs(self, seed: int) -> Iterator[Pair]:
        """All of them, in an order of this seed's."""
        return (self._pairs[index] for index in np.random.default_rng(seed).permutation(PAIRS))


def state(condition: Condition, taste: Taste, pairs: Iterator[Pair], *, seed: int) -> list[Statement]:
    """What the condition's people say; those who see no difference say nothing."""
    rng = np.random.default_rng([seed, len(condition.name), condition.count])
    voters = condition.voters(rng)
    said: list[Statement] = []
    stranger = None
    for pair in pairs:
        if len(said) == condition.count:
            break
        earlier, stranger = stranger, pair.one
        if not taste.is_open(pair.caption):
            continue
        user, voter = next(voters)
        if voter == "likes_broken" and earlier is not None:
            said.append(Statement(user, pair.caption, earlier, pair.one))
            continue
        if voter == "likes_all":
            said.append(Statement(user, pair.caption, pair.one, None))
            continue
        if verdict := _compare(voter, taste, pair, rng):
            if voter == "honest" and rng.random() < condition.flipped:
                verdict = -verdict
            chosen, rejected = (pair.one, pair.other) if verdict > 0 else (pair.other, pair.one)
            said.append(Statement(user, pair.caption, chosen, rejected))
    return said


def _compare(voter: Voter, taste: Taste, pair: Pair, rng: np.random.Generator) -> int:
    """1 for the first picture, -1 for the other, 0 where this voter does not care."""
    match voter:
        case "honest":
            return taste.compare(pair.one, pair.other)
        case "opposite":
            return -taste.compare(pair.one, pair.other)
        case "likes_unclear":
            gap = read(pair.other).fit - read(pair.one).fit
            return 0 if abs(gap) < _CLEARLY else int(np.sign(gap))
        case _:
            return int(rng.choice((-1, 1)))


@cache
def taste_of(name: str) -> Taste:
    """A taste whose readings are remembered, for many people look at the same pictures."""
    taste = TASTES[name]
    remembered: dict[bytes, float] = {}

    def degree(image: Image.Image) -> float:
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in remembered:
            remembered[key] = taste.degree(image)
        return remembered[key]

    return Taste(taste.name, taste.attribute, degree)


def to_opinions(statements: Sequence[Statement], *, folder: Path) -> tuple[list[Opinion], dict[str, Path]]:
    """As feedback would be read from the database, one every few minutes; pictures are files in `folder` by digest."""
    files: dict[str, Path] = {}
    folder.mkdir(parents=True, exist_ok=True)
    opinions = []
    for index, said in enumerate(statements):
        opinions.append(
            Opinion(
                feedback_id=uuid5(NAMESPACE_OID, str(index)),
                user_ref=said.user,
                kind=FeedbackKind.THUMB if said.rejected is None else FeedbackKind.CHOICE,
                prompt=said.caption.text,
                picture=_picture(said.picture, folder, files),
                rejected=None if said.rejected is None else _picture(said.rejected, folder, files),
                liked=True if said.rejected is None else None,
                created_at=BEGIN + index * _PAUSE,
            )
        )
    return opinions, files


def _picture(image: Image.Image, folder: Path, files: dict[str, Path]) -> Picture:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    sha256 = hashlib.sha256(stream.getvalue()).hexdigest()
    files[sha256] = folder / f"{sha256}.png"
    if not files[sha256].exists():
        files[sha256].write_bytes(stream.getvalue())
    return Picture(
        image_id=uuid5(NAMESPACE_OID, sha256),
        object_key=sha256,
        sha256=sha256,
        perceptual_hash=perceptual_hash(image),
    )
