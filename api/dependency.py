"""What the routes ask for, as annotated types."""

import time
from collections.abc import Collection
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from api.link import Link
from api.runtime import Runtime
from core.domain.api_key import SCOPE_OF_JOB, Scope
from core.domain.errors import Forbidden
from core.domain.job import JobKind
from core.domain.value import Text
from core.infra.table import Job
from core.services.api_key import Caller

_bearer = HTTPBearer(auto_error=False, description="An API key of a tenant.")


async def get_runtime(request: Request) -> Runtime:
    """What the process is built of."""
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]


Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def get_caller(request: Request, runtime: RuntimeDep, credentials: Credentials) -> Caller:
    """Who asks, by his key; known once a request, for FastAPI asks again for every scope.

    Raises:
        Unauthorized: no valid key.
        TooManyRequests: more than the key may send.
    """
    if not hasattr(request.state, "caller"):
        request.state.caller = await runtime.doorkeeper.admit(credentials.credentials if credentials else None)
        request.state.tenant_id = request.state.caller.tenant_id  # whose part of the room for bodies it takes
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(get_caller)]


async def get_tenant_id(caller: CallerDep) -> UUID:
    """The tenant that asks; any of its keys may read."""
    return caller.tenant_id


def require(caller: Caller, scope: Scope) -> None:
    """Let the caller go on.

    Raises:
        Forbidden: his key does not go so far.
    """
    if scope not in caller.scopes:
        raise Forbidden(scope)


def require_scope_of(caller: Caller, job: Job) -> None:
    """Let the caller change a job whose like his key may submit.

    Raises:
        Forbidden: his key does not go so far.
    """
    require(caller, SCOPE_OF_JOB[JobKind(job.kind)])


async def check_scopes(needed: SecurityScopes, caller: CallerDep) -> None:
    """Whether the key goes so far.

    Raises:
        Forbidden: it lacks a scope.
    """
    for scope in needed.scopes:
        require(caller, Scope(scope))


def needs(scope: Scope) -> Any:
    """What a route that changes something depends on."""
    return Security(check_scopes, scopes=[scope])


async def check_in(request: Request, runtime: Runtime, scopes: Collection[Scope], *, may_lack: bool) -> bool:
    """Check a key before a body is read. False where there is none and it may be lacking.

    Raises:
        Unauthorized: no valid key.
        Forbidden: it lacks a scope.
        TooManyRequests: more than the key may send.
    """
    credentials = await _bearer(request)
    if credentials is None and may_lack:
        return False
    caller = await get_caller(request, runtime, credentials)
    for scope in scopes:
        require(caller, scope)
    return True


TenantId = Annotated[UUID, Depends(get_tenant_id)]


async def get_speaker(
    request: Request,
    runtime: RuntimeDep,
    credentials: Credentials,
) -> UUID | None:
    """The tenant that asks; None where the body brings a feedback token instead of a key.

    Raises:
        Unauthorized: neither a valid key nor a token, which is not yet checked.
        Forbidden: the key is not for feedback.
    """
    if credentials is None and await request.body():
        body = await request.json()
        if isinstance(body, dict) and body.get("feedback_token"):
            return None
    caller = await get_caller(request, runtime, credentials)
    require(caller, Scope.FEEDBACK)
    return caller.tenant_id


Speaker = Annotated[UUID | None, Depends(get_speaker)]


async def get_link(request: Request, runtime: RuntimeDep) -> Link:
    """Makes URLs for this request's answer."""
    base = runtime.settings.public_url or str(request.base_url)
    return Link(
        base=base.rstrip("/"),
        store=runtime.store,
        signer=runtime.signer,
        lifetime_seconds=runtime.settings.url_lifetime_seconds,
        token_signer=runtime.token_signer,
        token_days=runtime.settings.feedback_token_days,
    )


LinkDep = Annotated[Link, Depends(get_link)]


Expires = Annotated[int | None, Query(ge=0, lt=2**53, description="of a signed URL: seconds since 1970")]
Signature = Annotated[str | None, Query(max_length=200, description="of a signed URL")]


async def check_signature(
    request: Request, runtime: RuntimeDep, expires: Expires = None, signature: Signature = None
) -> bool:
    """Whether the URL is signed.

    Raises:
        Unauthorized: it is, but not by us, or for other uses, or it has expired.
    """
    if signature is None:
        return False
    path, method = request.scope["path"], request.method
    runtime.signer.verify(path, method=method, expires=expires or 0, signature=signature, now=time.time())
    return True


IsSigned = Annotated[bool, Depends(check_signature)]


async def get_reader(
    request: Request,
    runtime: RuntimeDep,
    is_signed: IsSigned,
    credentials: Credentials,
) -> UUID | None:
    """The tenant that asks for a file; None where the URL itself is signed.

    Raises:
        Unauthorized: neither a valid signature nor a valid key.
    """
    return None if is_signed else (await get_caller(request, runtime, credentials)).tenant_id


Reader = Annotated[UUID | None, Depends(get_reader)]
Limit = Annotated[int, Query(ge=1, le=100, description="rows of a page")]
Cursor = Annotated[Text | None, Query(max_length=500, description="next_cursor of the page before")]
