"""The page of a collection: the microphone's check, and the two sentences to be read at once.

The recordings themselves come in at :mod:`auriscope.study.web.upload`.
"""

from __future__ import annotations

import json
import mimetypes
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session as OrmSession
from starlette.exceptions import HTTPException

from auriscope.study.campaign import Collection
from auriscope.study.ids import now
from auriscope.study.participants import Refused, require_open
from auriscope.study.prompts import next_pair
from auriscope.study.schema import Session, Submission, Task
from auriscope.study.uploads import campaign_of
from auriscope.study.web.pages import CsrfDep, StudyDep, VisitDep, Whole, page
from auriscope.study.web.upload import Problem
from auriscope.study.words import words

router = APIRouter(tags=["collection"])

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "There is no session"},
    404: {"model": Problem, "description": "The study is no collection"},
    429: {"model": Problem, "description": "Too many requests"},
}
_CHANGE_PROBLEMS: dict[int | str, dict[str, Any]] = {
    **_PROBLEMS,
    400: {"model": Problem, "description": "No text in UTF-8"},
    403: {"model": Problem, "description": "The page's token is missing, or the questionnaire was not answered"},
    409: {"model": Problem, "description": "The session is finished"},
    422: {"model": Problem, "description": "Not what was asked for"},
}


Rate = Annotated[float, Field(ge=1, le=1_000_000, allow_inf_nan=False)]


class Equipment(BaseModel):
    """What the browser tells of the microphone; what it does not tell is None.

    The three kinds of processing are as the track has them now, not as they were asked for. ``track_sample_rate`` is
    the microphone's, ``sample_rate`` that of the recording, in Hz; ``peak_dbfs`` is the loudest that was heard during
    the check.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    echo_cancellation: bool | None = None
    noise_suppression: bool | None = None
    auto_gain_control: bool | None = None
    channel_count: Annotated[int, Field(ge=1, le=64), Whole] | None = None
    track_sample_rate: Rate | None = None
    sample_rate: Rate
    peak_dbfs: Annotated[float, Field(ge=-200, le=20, allow_inf_nan=False)] | None = None


class Prompt(BaseModel):
    """A sentence to read; ``language`` is that of the page where the campaign does not name another."""

    id: str
    text: str
    language: str


class CurrentTask(BaseModel):
    """Two sentences: the first speaker reads the first."""

    id: str
    position: int
    sentences: list[Prompt]


class TaskAnswer(BaseModel):
    """The task that waits for its recording, if there is one, and how far the session has come."""

    task: CurrentTask | None
    num_submissions: int
    required: int
    finished: bool


@router.get("/record", include_in_schema=False)
def record(request: Request, study: StudyDep, visit: VisitDep) -> Response:
    """Show the page on which the microphone is checked and the sentences are read."""
    campaign = campaign_of(study)
    if visit.state == "finished" or visit.answers is None:
        return RedirectResponse("/next", status_code=303)
    prefix = "collect.js_"
    texts = {key.removeprefix(prefix): text for key, text in words(visit.language).items() if key.startswith(prefix)}
    limits = {
        "min_seconds": campaign.min_seconds,
        "max_seconds": campaign.max_seconds,
        "max_bytes": round(1_000_000 * campaign.max_megabytes),
    }
    return page(
        request,
        "record.html.j2",
        visit=visit,
        session_id=visit.id,
        texts=json.dumps(texts, ensure_ascii=False),
        limits=json.dumps(limits),
        example=campaign.example_clip is not None,
        instructions=campaign.instructions[visit.language],
    )


@router.get("/example", include_in_schema=False)
def example(study: StudyDep, _visit: VisitDep) -> Response:
    """Play the campaign's example of two people who read at once."""
    campaign = campaign_of(study)
    if campaign.example_clip is None or not (path := study.folder / campaign.example_clip).is_file():
        raise HTTPException(404)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, headers={"cache-control": "private, max-age=3600"})


@router.post(
    "/api/equipment",
    status_code=204,
    dependencies=[CsrfDep],
    response_class=Response,
    responses=_CHANGE_PROBLEMS,
)
def keep_equipment(study: StudyDep, visit: VisitDep, equipment: Equipment) -> None:
    """Keep what the browser tells of the microphone; a later check replaces an earlier one."""
    campaign_of(study)
    require_open(visit)
    processing = ("echo_cancellation", "noise_suppression", "auto_gain_control")
    facts: dict[str, Any] = {
        **equipment.model_dump(),
        "unprocessed": all(getattr(equipment, name) is False for name in processing),
        "checked_at": now().isoformat(timespec="seconds"),
    }
    with study.database.write() as session:
        session.get_one(Session, visit.id).equipment = facts


@router.get("/api/task", responses=_PROBLEMS)
def current_task(study: StudyDep, visit: VisitDep) -> TaskAnswer:
    """Give the task that waits for its recording; ``task`` is null where the next one has not been made yet."""
    campaign = campaign_of(study)
    with study.database.read() as session:
        return _answer(campaign, session, visit, _waiting(session, visit))


@router.post("/api/task", dependencies=[CsrfDep], responses=_CHANGE_PROBLEMS)
def next_task(study: StudyDep, visit: VisitDep) -> TaskAnswer:
    """Give the task that waits for its recording, or make the next one; ``task`` is null when all is done."""
    campaign = campaign_of(study)
    if visit.answers is None:
        raise Refused("form")
    with study.database.write() as session:
        # Two windows that ask at once wait for each other here on PostgreSQL too.
        visit = session.scalars(select(Session).where(Session.id == visit.id).with_for_update()).one()
        task = _waiting(session, visit)
        if task is None and visit.state == "open" and _count(session, visit) < campaign.submissions_per_session:
            last = session.scalar(select(func.max(Task.position)).where(Task.session_id == visit.id))
            position = 0 if last is None else last + 1
            pair = next_pair(campaign, session, visit, position)
            sentences = [
                Prompt(id=sentence.id, text=sentence.text, language=sentence.language or visit.language).model_dump()
                for sentence in pair.sentences
            ]
            task = Task(session_id=visit.id, position=position, pair_id=pair.pair_id, sentences=sentences)
            session.add(task)
            session.flush()
        return _answer(campaign, session, visit, task)


def _waiting(session: OrmSession, visit: Session) -> Task | None:
    """Give the session's last task if its recording has not arrived."""
    if visit.state != "open":
        return None
    last = session.scalar(select(Task).where(Task.session_id == visit.id).order_by(Task.position.desc()).limit(1))
    if last is None or session.scalar(select(Submission.id).where(Submission.task_id == last.id).limit(1)):
        return None
    return last


def _count(session: OrmSession, visit: Session) -> int:
    return session.scalar(select(func.count()).select_from(Submission).where(Submission.session_id == visit.id)) or 0


def _answer(campaign: Collection, session: OrmSession, visit: Session, task: Task | None) -> TaskAnswer:
    current = None
    if task is not None:
        sentences = [Prompt.model_validate(sentence) for sentence in task.sentences]
        current = CurrentTask(id=task.id, position=task.position, sentences=sentences)
    return TaskAnswer(
        task=current,
        num_submissions=_count(session, visit),
        required=campaign.submissions_per_session,
        finished=visit.state == "finished",
    )
