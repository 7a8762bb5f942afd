"""Files of the object store, streamed to clients that cannot reach it."""

from starlette.responses import StreamingResponse

from core.infra.object_store import ObjectStore


def stream_file(
    store: ObjectStore, object_key: str, *, content_type: str, file_name: str, size_bytes: int, sha256: str
) -> StreamingResponse:
    """An object's bytes, for a browser to save and never to show as a page. What a key names never changes.

    Raises:
        NotFound: the object is gone.
        Unavailable: the object store is away.
    """
    headers = {
        "Content-Length": str(size_bytes),
        "Content-Disposition": f'attachment; filename="{file_name}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, max-age=86400, immutable",
        "ETag": f'"{sha256}"',
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(store.stream(object_key), media_type=content_type, headers=headers)
