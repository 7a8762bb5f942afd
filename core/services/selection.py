"""Training data: choose it from all feedback, freeze it with an update, read it back as it was."""

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain import selection as rules
from core.domain.errors import DatasetUnusable
from core.domain.feedback import RATED_TYPE, FeedbackKind
from core.domain.model_update import Split, TrainingRole
from core.domain.opinion import Opinion, Picture
from core.domain.policy import SelectionPolicy
from core.domain.preference import PictureRef, PreferenceKind, PreferenceManifest, PreferenceRow
from core.domain.selection import Selection
from core.infra.repository import selection as selections
from core.infra.table import ModelUpdate, TrainingData

_ROLE_OF = {PreferenceKind.LIKED: TrainingRole.LIKED, PreferenceKind.DISLIKED: TrainingRole.DISLIKED}
_KIND_OF = {TrainingRole.LIKED: PreferenceKind.LIKED, TrainingRole.DISLIKED: PreferenceKind.DISLIKED}


def select(
    session: Session,
    *,
    tenant_id: UUID,
    model_id: UUID,
    policy: SelectionPolicy,
    among: Collection[UUID] | None = None,
) -> Selection:
    """What a tenant's feedback on a base model is worth for training, now.

    With `among`: what these pieces of feedback are worth, as they were said, without those withdrawn since. So an
    update can be made again as if they had never been given.
    """
    rows = selections.opinions(session, tenant_id=tenant_id, model_id=model_id, among=among)
    return rules.select((_opinion(row, model_id) for row in rows), policy)


def _opinion(row: Any, model_id: UUID) -> Opinion:
    rejected = _picture(row, "rejected") if row.rejected_id else None
    sides = ("chosen", "rejected") if rejected else ("chosen",)
    return Opinion(
        feedback_id=row.id,
        user_ref=row.user_ref,
        kind=FeedbackKind(row.kind),
        prompt=row.prompt or "",
        picture=_picture(row, "chosen"),
        rejected=rejected,
        liked=row.liked,
        rating=row.rating,
        tags=tuple(row.tags),
        created_at=row.created_at,
        is_available=all(_is_there(row, side) for side in sides),
        is_foreign=any(getattr(row, f"{side}_model_id") != model_id for side in sides),
    )


def _is_there(row: Any, side: str) -> bool:
    return getattr(row, f"{side}_type") == RATED_TYPE and getattr(row, f"{side}_lost_at") is None


def _picture(row: Any, side: str) -> Picture:
    return Picture(
        image_id=getattr(row, f"{side}_id"),
        object_key=getattr(row, f"{side}_object_key"),
        sha256=getattr(row, f"{side}_sha256"),
        perceptual_hash=getattr(row, f"{side}_perceptual_hash"),
    )


def freeze(session: Session, update: ModelUpdate, selection: Selection) -> None:
    """Write the selection down as what this update trains on, and what it left out; the digest seals it.

    Of a pair that was read out of two ratings each picture's row names its own rating.
    """
    rows = zip(selection.rows, selection.sources, strict=True)
    data = [values for position, (row, sources) in enumerate(rows) for values in _frozen(row, sources, position)]
    selections.add_training_data(session, rows=[{"model_update_id": update.id} | values for values in data])
    left_out = [
        {"model_update_id": update.id, "feedback_id": each.feedback_id, "rule": each.rule, "detail": each.detail}
        for each in selection.exclusions
    ]
    selections.add_exclusions(session, rows=left_out)
    update.manifest_sha256 = selection.manifest.digest
    session.flush()


def _frozen(row: PreferenceRow, sources: Sequence[UUID], position: int) -> Iterator[dict[str, Any]]:
    """The rows of the table that a row of the manifest is."""
    if row.rejected is None:
        sides = [(_ROLE_OF[row.kind], row.picture, sources[0])]
    else:
        sides = [
            (TrainingRole.CHOSEN, row.picture, sources[0]),
            (TrainingRole.REJECTED, row.rejected, sources[-1]),
        ]
    for role, picture, feedback_id in sides:
        yield {
            "position": position,
            "feedback_id": feedback_id,
            "image_id": picture.image_id,
            "image_sha256": picture.sha256,
            "prompt": row.prompt,
            "role": role,
            "split": row.split,
            "weight": row.weight,
        }


def read_manifest(session: Session, *, update_id: UUID) -> PreferenceManifest:
    """What an update trains on, exactly as it was frozen.

    Raises:
        DatasetUnusable: it is not what was frozen any more, because feedback of it was withdrawn.
    """
    update = session.get_one(ModelUpdate, update_id)
    found = selections.training_data(session, update_id=update_id)
    sides = groupby(found, key=lambda each: each[0].position)
    manifest = PreferenceManifest(rows=tuple(_thawed(list(each)) for _, each in sides))
    if manifest.digest != update.manifest_sha256:
        raise DatasetUnusable("The training data is not what was frozen: feedback of it was withdrawn meanwhile.")
    return manifest


def _thawed(sides: Sequence[tuple[TrainingData, str]]) -> PreferenceRow:
    first, *second = [_side(row, key) for row, key in sides]
    row = sides[0][0]
    return PreferenceRow(
        feedback_id=row.feedback_id,
        kind=PreferenceKind.PAIR if second else _KIND_OF[TrainingRole(row.role)],
        prompt=row.prompt,
        picture=first,
        rejected=second[0] if second else None,
        weight=row.weight,
        split=Split(row.split),
    )


def _side(row: TrainingData, object_key: str) -> PictureRef:
    return PictureRef(image_id=row.image_id, object_key=object_key, sha256=row.image_sha256 or "")
