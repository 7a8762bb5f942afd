"""What the routes ask for, as annotated types."""

import time
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.link import Link
from api.runtime import Runtime
from core.domain.value import Text

_bearer = HTTPBearer(auto_error=False, description="An API key of a tenant.")


async def get_runtime(request: Request) -> Runtime:
    """What the process is built of."""
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]


async def get_tenant_id(
    runtime: RuntimeDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> UUID:
    """The tenant that asks.

    Raises:
        Unauthorized: no valid key.
    """
    return await runtime.doorkeeper.admit(credentials.credentials if credentials else None)


TenantId = Annotated[UUID, Depends(get_tenant_id)]


async def get_speaker(
    request: Request,
    runtime: RuntimeDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> UUID | None:
    """The tenant that asks; None where the body brings a feedback token instead of a key.

    Raises:
        Unauthorized: neither a valid key nor a token, which is not yet checked.
    """
    if credentials is None and await request.body():
        body = await request.json()
        if isinstance(body, dict) and body.get("feedback_token"):
            return None
    return await get_tenant_id(runtime, credentials)


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
    runtime: RuntimeDep,
    is_signed: IsSigned,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> UUID | None:
    """The tenant that asks for a file; None where the URL itself is signed.

    Raises:
        Unauthorized: neither a valid signature nor a valid key.
    """
    return None if is_signed else await get_tenant_id(runtime, credentials)


Reader = Annotated[UUID | None, Depends(get_reader)]
Limit = Annotated[int, Query(ge=1, le=100, description="rows of a page")]
Cursor = Annotated[Text | None, Query(max_length=500, description="next_cursor of the page before")]
