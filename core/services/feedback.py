"""Record what a user says of an image; read it back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.errors import Conflict, FieldProblem, InvalidInput, NotFound
from core.domain.feedback import (
    ANONYMOUS,
    RATED_TYPE,
    FeedbackKind,
    FeedbackSpec,
    RatingSpec,
    ThumbSpec,
    images_of,
    subject_of,
)
from core.infra.repository import feedback as feedbacks
from core.infra.repository import lock
from core.infra.table import Artifact, Job, UserFeedback


@dataclass(frozen=True, kw_only=True)
class Author:
    """Who speaks: a tenant by its key, or (`tenant_id` None) whoever holds the tokens of images.

    `tokens` maps the field of a token to the image that it speaks for.
    """

    tenant_id: UUID | None = None
    tokens: Mapping[str, UUID] = field(default_factory=dict)


@dataclass(frozen=True)
class _Picture:
    """An image that is judged, and the job that drew it."""

    artifact: Artifact
    job: Job

    @property
    def prompt(self) -> str:
        return str(self.job.plan.get("prompt", ""))


def record(session: Session, spec: FeedbackSpec, *, author: Author) -> UserFeedback:
    """Keep what a user says; the user's earlier word on the same subject no longer counts.

    A changed mind counts towards no further update: it takes over the update that the earlier word was counted in.

    Raises:
        InvalidInput: names the field that is wrong.
        Conflict: the token was used for this before.
    """
    pictures = _pictures(session, spec, author)
    first = pictures[0]
    tenant_id, user_ref, subject = first.artifact.tenant_id, _user_ref(spec, author, first), subject_of(spec)
    lock.take(session, "feedback", tenant_id, subject)
    if author.tenant_id is None and feedbacks.token_was_used(
        session, image_ids=[each.artifact.id for each in pictures], subject=subject
    ):
        raise Conflict("This feedback token was used already: it rates its image once.")
    row = _row(spec, pictures, user_ref=user_ref, by_token=author.tenant_id is None)
    _credit(session, row, pictures)
    previous = feedbacks.current_on(session, tenant_id=tenant_id, user_ref=user_ref, subject=subject)
    if previous is not None:
        previous.superseded_at = func.clock_timestamp()
        row.counted_in_update_id = previous.counted_in_update_id
        session.flush()
    session.add(row)
    session.flush()
    return row


def _user_ref(spec: FeedbackSpec, author: Author, picture: _Picture) -> str:
    if author.tenant_id is None:
        return str(picture.job.spec.get("user_ref") or ANONYMOUS)
    assert spec.user_ref is not None
    return spec.user_ref


def _pictures(session: Session, spec: FeedbackSpec, author: Author) -> list[_Picture]:
    """The images that are spoken of, checked."""
    _check_author(spec, author)
    images = images_of(spec)
    if len(set(images.values())) < len(images):
        raise InvalidInput.of("rejected", "must be another image than the chosen one")
    found = feedbacks.pictures(session, image_ids=images.values())
    problems = [
        FieldProblem(name, f"there is no image {image_id}")
        for name, image_id in images.items()
        if not _is_judged_by(author, found.get(image_id))
    ]
    if problems:
        raise InvalidInput(problems)
    pictures = [_Picture(*found[image_id]) for image_id in images.values()]
    if len(pictures) == 2:
        _check_pair(*pictures)
    return pictures


def _is_judged_by(author: Author, found: tuple[Artifact, Job] | None) -> bool:
    return found is not None and found[0].type == RATED_TYPE and author.tenant_id in (None, found[0].tenant_id)


def _check_author(spec: FeedbackSpec, author: Author) -> None:
    images = images_of(spec)
    token_of = {name: "rejected_feedback_token" if name == "rejected" else "feedback_token" for name in images}
    if author.tenant_id is not None:
        if spec.user_ref is None:
            raise InvalidInput.of("user_ref", "say which of your users this is from; any text of yours will do")
        for name in token_of.values():
            if getattr(spec, name) is not None:
                raise InvalidInput.of(name, "is for callers without an API key; leave it out")
        return
    if spec.user_ref is not None:
        raise InvalidInput.of("user_ref", "goes with an API key; the token knows its user")
    for name, image_id in images.items():
        if token_of[name] not in author.tokens:
            raise InvalidInput.of(token_of[name], f"the token of the {name} image is needed too")
        if author.tokens[token_of[name]] != image_id:
            raise InvalidInput.of(token_of[name], "is the token of another image")


def _check_pair(chosen: _Picture, rejected: _Picture) -> None:
    """A choice says something about a model only where nothing but the picture differs."""
    if chosen.artifact.tenant_id != rejected.artifact.tenant_id:  # two tokens
        raise InvalidInput.of("rejected", f"there is no image {rejected.artifact.id}")
    if chosen.job.base_model_id != rejected.job.base_model_id:
        raise InvalidInput.of("rejected", "was made by another base model than the chosen image")
    if chosen.prompt != rejected.prompt:
        raise InvalidInput.of("rejected", "was made from another prompt than the chosen image")


def _row(spec: FeedbackSpec, pictures: Sequence[_Picture], *, user_ref: str, by_token: bool) -> UserFeedback:
    first = pictures[0]
    return UserFeedback(
        tenant_id=first.artifact.tenant_id,
        stable_diffusion_id=first.job.base_model_id,
        image_id=first.artifact.id,
        rejected_image_id=pictures[1].artifact.id if len(pictures) > 1 else None,
        side=first.artifact.position,
        user_ref=user_ref,
        subject=subject_of(spec),
        kind=FeedbackKind(spec.kind),
        liked=spec.liked if isinstance(spec, ThumbSpec) else None,
        rating=spec.rating if isinstance(spec, RatingSpec) else None,
        comment=spec.comment,
        tags=list(spec.tags),
        by_token=by_token,
        # Not the transaction's start: writers on one subject wait for each other, and the last one is the latest.
        created_at=func.clock_timestamp(),
    )


def _credit(session: Session, row: UserFeedback, pictures: Sequence[_Picture]) -> None:
    """Which adapters made the images, and on which sides of which live comparison."""
    makers = [_maker(each.artifact) for each in pictures]
    alive = feedbacks.existing_adapters(session, adapter_ids={maker for maker in makers if maker})
    row.adapter_id, *rejected = [maker if maker in alive else None for maker in makers]
    row.rejected_adapter_id = rejected[0] if rejected else None
    if len({each.artifact.rollout_id for each in pictures}) == 1:
        row.rollout_id = pictures[0].artifact.rollout_id
        row.arm, *arms = [each.artifact.arm for each in pictures]
        row.rejected_arm = arms[0] if arms else None


def _maker(image: Artifact) -> UUID | None:
    """The adapter that an image is owed to: none where none or several had a part in it."""
    return UUID(image.adapters[0]["id"]) if len(image.adapters) == 1 else None


def get(session: Session, *, tenant_id: UUID, feedback_id: UUID) -> UserFeedback:
    """A tenant's feedback.

    Raises:
        NotFound: no such feedback, another tenant's, or withdrawn.
    """
    row = feedbacks.by_id(session, tenant_id=tenant_id, feedback_id=feedback_id)
    if row is None:
        raise NotFound(f"There is no feedback {feedback_id}.")
    return row


def list_page(
    session: Session,
    *,
    tenant_id: UUID,
    model_id: UUID | None = None,
    user_ref: str | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> tuple[Sequence[UserFeedback], str | None]:
    """A tenant's feedback that counts now, newest first, and the cursor of the next page.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    return feedbacks.page(
        session, tenant_id=tenant_id, model_id=model_id, user_ref=user_ref, limit=limit, cursor=cursor
    )
