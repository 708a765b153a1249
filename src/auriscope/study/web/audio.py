"""Sound from the storage: in ranges, so that players can seek, and by links that end and hold for one person only."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from itsdangerous import BadSignature
from starlette.exceptions import HTTPException

from auriscope.errors import AuriscopeError
from auriscope.study.storage import checked
from auriscope.study.study import Study

AUDIO_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
}
LINK_SECONDS = 3600

_PURPOSE = "audio"
_CHUNK_BYTES = 1 << 16
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def audio_token(study: Study, storage_key: str, holder: str) -> str:
    """Give the last part of a link to a file, which ``holder`` (an account's or a session's id) alone can use."""
    return str(study.links(_PURPOSE).dumps([storage_key, holder]))


def audio_key(study: Study, token: str, holder: str, *, max_age_seconds: int = LINK_SECONDS) -> str:
    """Give the storage key of a link; 404 if it is not ours, has ended, or was made for somebody else."""
    try:
        value = study.links(_PURPOSE).loads(token, max_age=max_age_seconds)
    except BadSignature:
        raise HTTPException(404) from None
    if not isinstance(value, list) or len(value) != 2 or value[1] != holder:
        raise HTTPException(404)
    return str(value[0])


def audio_response(study: Study, storage_key: str, request: Request) -> Response:
    """Send a file of the storage, whole (200) or the part that was asked for (206; 416 if there is no such part).

    Raises 404 if there is no such file, it is no sound, or the key is not of the storage's form. Of several ranges in
    one request none is served: the answer is the whole file, as RFC 9110, section 14.2, allows.
    """
    media_type = AUDIO_TYPES.get(storage_key.rpartition(".")[2])
    try:
        if media_type is None or not study.storage.exists(checked(storage_key)):
            raise HTTPException(404)
        size = study.storage.size(storage_key)
    except (ValueError, OSError, AuriscopeError):
        raise HTTPException(404) from None
    headers = {
        "accept-ranges": "bytes",
        "content-disposition": f'inline; filename="{storage_key.replace("/", "-")}"',
    }
    status, first, last = _part(request.headers.get("range"), size)
    if status == 416:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
    headers["content-length"] = str(last - first + 1)
    if status == 206:
        headers["content-range"] = f"bytes {first}-{last}/{size}"
    return StreamingResponse(
        _chunks(study, storage_key, first, last - first + 1),
        status_code=status,
        media_type=media_type,
        headers=headers,
    )


def _part(header: str | None, size: int) -> tuple[int, int, int]:
    """Read a ``Range`` header: the status to answer with, and the first and last byte.

    >>> _part(None, 10), _part("bytes=2-", 10), _part("bytes=-3", 10), _part("bytes=4-99", 10)
    ((200, 0, 9), (206, 2, 9), (206, 7, 9), (206, 4, 9))
    >>> _part("bytes=10-", 10)[0], _part("bytes=3-2", 10)[0], _part("bytes=0-1,4-5", 10)[0]
    (416, 200, 200)
    """
    whole = (200, 0, size - 1)
    found = _RANGE.fullmatch(header or "")
    if found is None or not (found[1] or found[2]):
        return whole
    if not found[1]:
        length = min(int(found[2]), size)
        return (206, size - length, size - 1) if length else (416, 0, 0)
    first, last = int(found[1]), int(found[2] or max(size - 1, int(found[1])))
    if last < first:
        return whole
    return (206, first, min(last, size - 1)) if first < size else (416, 0, 0)


def _chunks(study: Study, storage_key: str, first: int, length: int) -> Iterator[bytes]:
    with study.storage.open(storage_key) as file:
        file.seek(first)
        while length > 0 and (data := file.read(min(_CHUNK_BYTES, length))):
            length -= len(data)
            yield data
