"""Recordings on their way in: ``PUT /api/submissions/{key}``."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

from anyio import fail_after
from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from auriscope.study.jobs import Jobs
from auriscope.study.participants import Refused, resume
from auriscope.study.study import Study
from auriscope.study.uploads import Intake, Receipt, Upload, UploadError, admit, find, max_bytes, read_details
from auriscope.study.web.pages import SESSION_COOKIE, StudyDep, VisitDep, check_csrf, get_study

LOG = logging.getLogger("auriscope.study")

# So much is written and digested at once, off the event loop.
_BLOCK_BYTES = 1 << 19
_LINGER_SECONDS = 5.0
_LINGER_BYTES = 64_000_000
_READ = "auriscope_body_read"
_TYPES = ("audio/wav", "audio/wave", "audio/x-wav", "audio/vnd.wave")


class Acknowledgement(BaseModel):
    """The recording is safe. ``num_submissions`` of ``required`` recordings of the session have arrived."""

    submission: str
    sha256: str
    num_bytes: int
    num_submissions: int
    required: int
    finished: bool


class Problem(BaseModel):
    """Why it could not be done: a word for scripts and a line for people."""

    error: str
    message: str | None = Field(default=None)


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "There is no session"},
    403: {"model": Problem, "description": "The page's token is missing"},
    404: {"model": Problem, "description": "There is no such task or recording"},
    409: {"model": Problem, "description": "The key, the task or the session is used up"},
    413: {"model": Problem, "description": "Too large"},
    415: {"model": Problem, "description": "No WAV file of integer PCM"},
    422: {"model": Problem, "description": "Not what was announced, too short or too long"},
    429: {"model": Problem, "description": "Too many at once"},
    503: {"model": Problem, "description": "It cannot be kept at the moment; send it again later"},
}

router = APIRouter(tags=["submissions"])

Key = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{8,64}$", description="The sender's own name for the recording")]


@router.put(
    "/api/submissions/{key}",
    response_model=Acknowledgement,
    status_code=201,
    responses={200: {"model": Acknowledgement, "description": "It was there already"}, **_PROBLEMS},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def send(
    request: Request,
    key: Key,
    task: Annotated[str, Query(max_length=40, description="What the recording answers")],
    x_content_sha256: Annotated[str, Header(pattern=r"^[0-9a-f]{64}$", description="Digest of the body")],
    x_csrf_token: Annotated[str | None, Header(description="The page's token")] = None,
    x_recording_details: Annotated[str | None, Header(description="JSON object: how it was recorded")] = None,
) -> Response:
    """Take a recording, the body, and acknowledge it when it is safe; sending it again gives the same answer."""
    study = get_study(request)
    secret = request.cookies.get(SESSION_COOKIE)
    check_csrf(study, secret, x_csrf_token)
    try:
        upload = Upload(key, task, x_content_sha256, read_details(x_recording_details))
        problem = _announced_problem(request, study)
        known = await run_in_threadpool(_admitted, study, secret or "", upload, problem)
        if isinstance(known, Receipt):
            return _Lingering(asdict(known), 200)
        receipt, is_new = await _receive(request, known, study)
    except UploadError as error:
        return _Lingering({"error": error.key, "message": str(error)}, error.status)
    except ClientDisconnect:
        return Response(status_code=400)
    except (OSError, SQLAlchemyError) as error:
        # Nothing was acknowledged: the sender keeps the recording and tries again.
        LOG.exception("a recording could not be kept", exc_info=error)
        body = {"error": "storage", "message": "the recording cannot be kept at the moment; send it again later"}
        return _Lingering(body, 503, {"retry-after": "10"})
    return JSONResponse(asdict(receipt), 201 if is_new else 200)


@router.get("/api/submissions/{key}", response_model=Acknowledgement, responses={404: {"model": Problem}})
def acknowledged(key: Key, study: StudyDep, visit: VisitDep) -> Response:
    """Say whether a recording is safe already: its acknowledgement again, or 404."""
    with study.database.read() as session:
        receipt = find(study, session, visit, key)
    study.database.flush()
    if receipt is None:
        return JSONResponse({"error": "not_found", "message": None}, 404)
    return JSONResponse(asdict(receipt))


def _admitted(study: Study, secret: str, upload: Upload, problem: UploadError | None) -> Intake | Receipt:
    """Begin to take a recording that may come, or give its acknowledgement if it is there already.

    Who sends it is asked first, then the task, then whether the headers announce something that is not taken.
    """
    with study.database.read() as session:
        visit = resume(study, session, secret)
        if visit is None:
            raise Refused("session")
        receipt = admit(study, session, visit, upload)
    if receipt is not None:
        # Another request may have committed it a moment ago.
        study.database.flush()
        return receipt
    if problem is not None:
        raise problem
    return Intake(study, visit, upload)


def _announced_problem(request: Request, study: Study) -> UploadError | None:
    """Say what is wrong with a recording by its headers alone."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _TYPES:
        return UploadError("type", "the recording is not announced as audio/wav")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes(study):
        return UploadError("too_large", f"the recording is larger than {max_bytes(study)} bytes")
    return None


async def _receive(request: Request, intake: Intake, study: Study) -> tuple[Receipt, bool]:
    try:
        waiting = bytearray()
        async for chunk in _chunks(request):
            waiting += chunk
            if len(waiting) >= _BLOCK_BYTES:
                await run_in_threadpool(intake.add, waiting)
                waiting = bytearray()

        def finish() -> tuple[Receipt, bool]:
            intake.add(waiting)
            receipt, is_new = intake.keep()
            if is_new:
                _have_checked(request, study, receipt.submission)
            return receipt, is_new

        return await run_in_threadpool(finish)
    finally:
        # Where keeping succeeded there is nothing left to discard.
        await run_in_threadpool(intake.discard)


def _have_checked(request: Request, study: Study, submission_id: str) -> None:
    """Tell the workers of a recording; if that fails, the reconciler tells them later."""
    try:
        state = request.app.state
        if not hasattr(state, "jobs"):
            state.jobs = Jobs(study)
        state.jobs.check(submission_id)
    except Exception as error:
        LOG.exception("a job could not be enqueued", exc_info=error)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """Give the body as it comes, and note when all of it has come, before its last bytes are worked on."""
    while not request.scope.get(_READ):
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        request.scope[_READ] = not message.get("more_body", False)
        yield message.get("body", b"")


class _Lingering(JSONResponse):
    """An answer to a body that was not read to its end, after which the connection ends.

    If it ended at once, the system would throw the answer away with the unread bytes, and the sender would only see a
    broken connection. So some of them are read and forgotten first, for a bounded time.
    """

    def __init__(self, content: Any, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(content, status, {**(headers or {}), "connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, then drain."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        num_bytes, more = 0, not scope.get(_READ, False)
        with suppress(TimeoutError), fail_after(_LINGER_SECONDS):
            while more and num_bytes < _LINGER_BYTES:
                message = await receive()
                num_bytes += len(message.get("body", b""))
                more = message["type"] == "http.request" and message.get("more_body", False)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
