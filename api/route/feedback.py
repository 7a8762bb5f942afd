"""Feedback: say it, read it, take it back."""

import time
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, BackgroundTasks, Path, Query, Response

from api.dependency import Cursor, Limit, LinkDep, RuntimeDep, Speaker, TenantId, needs
from api.json_body import OpinionRoute
from api.runtime import Runtime
from api.view.feedback import FeedbackView, WithdrawalView, view, view_withdrawal
from api.view.page import Page
from core.domain.api_key import Scope
from core.domain.errors import LorikeetError
from core.domain.feedback import FeedbackSpec, UserRef
from core.infra.table import UserFeedback
from core.services import feedback as feedbacks
from core.services import model_update as model_updates
from core.services import withdrawal as withdrawals
from core.services.feedback import Author

router = APIRouter(prefix="/api", tags=["feedback"], route_class=OpinionRoute)

_log = structlog.get_logger()


@router.post("/feedback", status_code=201)
def record(
    spec: FeedbackSpec,
    runtime: RuntimeDep,
    speaker: Speaker,
    link: LinkDep,
    response: Response,
    afterwards: BackgroundTasks,
) -> FeedbackView:
    """Say what a user thinks of an image, or which of two is better; the latest word of a user counts.

    An API key speaks for any of your users, `user_ref`. Without one, the `feedback_token` of the image's output does:
    once, for the user of the request that made the image.
    """
    author = _author(spec, speaker, runtime)
    with runtime.database.transaction(speaker) as session:
        row = feedbacks.record(session, spec, author=author)
        shown = view(row, link)
    afterwards.add_task(_consider, runtime, row)
    response.headers["Location"] = shown.urls.self
    return shown


def _consider(runtime: Runtime, row: UserFeedback) -> None:
    """Look whether this was the word that makes an update due; whoever spoke has had the answer by then."""
    try:
        with runtime.database.transaction(row.tenant_id) as session:
            model_updates.consider(
                session,
                tenant_id=row.tenant_id,
                model_id=row.stable_diffusion_id,
                queue=runtime.queue,
                settings=runtime.settings,
            )
    except LorikeetError as error:  # the feedback is kept, and the clockwork looks again
        _log.warning("update_not_considered", model_id=str(row.stable_diffusion_id), error=error.message)
    except Exception:  # noqa: BLE001  # likewise
        _log.exception("update_not_considered", model_id=str(row.stable_diffusion_id))


def _author(spec: FeedbackSpec, tenant_id: UUID | None, runtime: Runtime) -> Author:
    if tenant_id is not None:
        return Author(tenant_id=tenant_id)
    given = {name: getattr(spec, name, None) for name in ("feedback_token", "rejected_feedback_token")}
    now = time.time()
    return Author(tokens={name: runtime.token_signer.read(token, now=now) for name, token in given.items() if token})


@router.get("/feedback")
def list_feedback(
    runtime: RuntimeDep,
    tenant_id: TenantId,
    link: LinkDep,
    model_id: Annotated[UUID | None, Query(description="of a base model")] = None,
    user_ref: Annotated[UserRef | None, Query()] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[FeedbackView]:
    """What your users say now, newest first."""
    with runtime.database.transaction(tenant_id) as session:
        found, next_cursor = feedbacks.list_page(
            session, tenant_id=tenant_id, model_id=model_id, user_ref=user_ref, limit=limit, cursor=cursor
        )
        return Page(items=[view(row, link) for row in found], next_cursor=next_cursor)


@router.get("/feedback/{feedback_id}")
def read_feedback(feedback_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep) -> FeedbackView:
    """One word of one user, as it was said."""
    with runtime.database.transaction(tenant_id) as session:
        return view(feedbacks.get(session, tenant_id=tenant_id, feedback_id=feedback_id), link)


@router.delete("/feedback/{feedback_id}", dependencies=[needs(Scope.FEEDBACK)])
def withdraw(feedback_id: UUID, runtime: RuntimeDep, tenant_id: TenantId) -> WithdrawalView:
    """Take back what a user said on an image or a pair. Nothing new is trained on it; what was, is replaced."""
    with runtime.database.transaction(tenant_id) as session:
        return view_withdrawal(withdrawals.withdraw(session, tenant_id=tenant_id, feedback_id=feedback_id))


@router.delete("/users/{user_ref:path}/feedback", dependencies=[needs(Scope.FEEDBACK)])
def withdraw_user(
    user_ref: Annotated[UserRef, Path(description="as it came with the feedback")],
    runtime: RuntimeDep,
    tenant_id: TenantId,
) -> WithdrawalView:
    """Forget a user: take back all that was ever said by this `user_ref`."""
    with runtime.database.transaction(tenant_id) as session:
        return view_withdrawal(withdrawals.withdraw_user(session, tenant_id=tenant_id, user_ref=user_ref))
