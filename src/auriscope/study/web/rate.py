"""The raters' pages: headphones, the introduction, and one trial after the other; and the same for programs.

A program that rates (a simulation, a load test) begins like a person, by ``POST /begin`` and ``POST /questionnaire``,
takes the token for ``X-CSRF-Token`` from ``data-csrf`` of any page, and then, until ``finished``, reads
``GET /api/trial`` and sends ``POST /api/trial/{assignment}/votes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from itsdangerous import BadSignature
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from auriscope.study import crowd, headphones, rating
from auriscope.study.campaign import Listening
from auriscope.study.participants import Refused, require_open
from auriscope.study.rating import Ballot, Progress, RatingError
from auriscope.study.schema import Assignment, Session
from auriscope.study.study import Study
from auriscope.study.web.audio import audio_response
from auriscope.study.web.pages import CsrfDep, StudyDep, VisitDep, Whole, get_visit, page
from auriscope.study.web.upload import Problem
from auriscope.study.words import translator

SCORES = (1, 2, 3, 4, 5)

_PURPOSE = "trial"


class TrialSound(BaseModel):
    """A sound of a trial. ``kind``: mixture or reference, heard beside; or rated."""

    kind: Literal["mixture", "reference", "rated"]
    url: str
    seconds: float


class Trial(BaseModel):
    """What is to be rated next.

    ``number`` of ``total`` counts practice apart from the rest; ``num_answered`` of ``num_trials`` counts all.
    ``class_label`` is what an interpretation is said to show. When all is rated, ``finished`` is true and
    ``assignment`` is null.
    """

    assignment: str | None
    practice: bool = False
    number: int = 0
    total: int = 0
    num_answered: int
    num_trials: int
    finished: bool
    question: str
    class_label: str | None = None
    sounds: list[TrialSound] = []


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid")


Score = Annotated[int, Field(ge=1, le=5, strict=True), Whole]
Tone = Annotated[int, Field(ge=1, le=3, strict=True), Whole]
Attempt = Annotated[int, Field(ge=0, lt=headphones.MAX_ATTEMPTS, strict=True), Whole]
Plays = Annotated[int, Field(ge=0, le=10_000, strict=True), Whole]
Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False, strict=True)]


class Votes(_Given):
    """A rater's votes on a trial, all in the order of its ``sounds``.

    ``scores`` by rated sound; ``heard`` (seconds, each stretch counted once) and ``plays`` by sound;
    ``seconds_on_page`` while the page was visible.
    """

    scores: list[Score] = Field(min_length=1, max_length=8)
    heard: list[Seconds] = Field(default=[], max_length=16)
    plays: list[Plays] = Field(default=[], max_length=16)
    seconds_on_page: Seconds = 0.0


class VotesReceipt(BaseModel):
    """The votes are kept. ``next`` is the page to go to."""

    assignment: str
    num_answered: int
    num_trials: int
    finished: bool
    next: str


class HeadphoneCheck(BaseModel):
    """The headphone check: which of three tones is the quietest, in each of ``sounds``; ``attempt`` counts from 0."""

    due: bool
    attempt: int
    level_url: str
    sounds: list[str]


class HeadphoneAnswers(_Given):
    """The quietest tone, 1 to 3, by trial."""

    attempt: Attempt
    answers: list[Tone] = Field(min_length=1, max_length=6)


class HeadphoneVerdict(BaseModel):
    """Whether the check was passed, and how often it may be tried again. ``next`` is the page to go to."""

    passed: bool
    attempts_left: int
    next: str


def _problems(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    common = {
        "s401": "There is no session",
        "s403": "The page's token is missing",
        "s404": "There is no such thing, or this is no listening study",
        "s422": "Not of the form that is asked for",
        "s429": "Too many requests",
    }
    found = {**common, **descriptions}
    return {int(key[1:]): {"model": Problem, "description": text} for key, text in found.items()}


router = APIRouter(tags=["rating"])
AssignmentId = Annotated[str, Path(max_length=40, pattern=r"^[a-z0-9_]+$", description="The trial")]


def _listening(study: Study) -> Listening:
    if not isinstance(study.campaign, Listening):
        raise HTTPException(404)
    return study.campaign


def _refuse(error: RatingError) -> Response:
    return JSONResponse({"error": error.key, "message": str(error)}, error.status)


@router.get("/rate", include_in_schema=False)
def rate(request: Request, study: StudyDep, visit: VisitDep) -> Response:
    """Show what comes next: the headphone check, the introduction, or a trial."""
    campaign = _listening(study)
    if visit.state != "open" or visit.answers is None:
        return RedirectResponse("/next", status_code=303)
    if headphones.is_screened_out(campaign, visit):
        link = crowd.screen_out_link(study, visit)
        return page(request, "screened.html.j2", visit=visit, screen_out_link=link)
    if headphones.is_due(campaign, visit):
        # What they will rate is set aside now, so that nobody is checked in vain.
        rating.progress(study, visit, show=False)
        values = _headphones(campaign, visit).model_dump()
        again = bool(headphones.attempts_of(visit))
        return page(request, "headphones.html.j2", visit=visit, check=values, again=again)
    if not rating.is_introduced(visit):
        found = rating.progress(study, visit, show=False)
        values = {"question": _question(campaign, visit.language), "scores": SCORES, "found": found}
        return page(request, "rate_intro.html.j2", visit=visit, **values)
    found = rating.progress(study, visit, show=True)
    if found.assignment is None:
        return RedirectResponse("/next", status_code=303)
    is_break = bool(
        campaign.break_every
        and not found.is_practice
        and found.number > 1
        and (found.number - 1) % campaign.break_every == 0
    )
    return page(
        request,
        "trial.html.j2",
        visit=visit,
        trial=_trial(study, visit, found).model_dump(),
        scores=SCORES,
        is_break=is_break,
    )


@router.post("/rate/begin", include_in_schema=False, dependencies=[CsrfDep])
def begin(study: StudyDep, visit: VisitDep) -> Response:
    """Note that the introduction was read, and go on to the first trial."""
    _listening(study)
    rating.introduce(study, require_open(visit))
    return RedirectResponse("/rate", status_code=303)


@router.get(
    "/api/trial", response_model=Trial, responses=_problems(s409="The headphone check or the questionnaire comes first")
)
def current_trial(study: StudyDep, visit: VisitDep) -> Response | Trial:
    """Give the trial that is to be rated next; from now on it counts as shown."""
    campaign = _listening(study)
    if visit.state == "open":
        if visit.answers is None:
            raise Refused("questionnaire")
        if headphones.is_due(campaign, visit) or headphones.is_screened_out(campaign, visit):
            raise Refused("headphones")
    return _trial(study, visit, rating.progress(study, visit, show=True))


@router.post(
    "/api/trial/{assignment}/votes",
    response_model=VotesReceipt,
    responses=_problems(
        s409="Rated before, with other scores; not the trial that is due; not as many scores as sounds; not everything "
        "was heard; or the session is finished",
    ),
    dependencies=[CsrfDep],
)
def send_votes(assignment: AssignmentId, votes: Votes, study: StudyDep, visit: VisitDep) -> Response | VotesReceipt:
    """Keep the votes on all sounds of a trial; sending the same again gives the same answer."""
    _listening(study)
    ballot = Ballot(votes.scores, votes.heard, votes.plays, votes.seconds_on_page)
    try:
        receipt = rating.vote(study, visit, assignment, ballot)
    except RatingError as error:
        return _refuse(error)
    return VotesReceipt(**asdict(receipt), next="/done" if receipt.finished else "/rate")


@router.get("/api/trial/audio/{token}", include_in_schema=False)
def trial_audio(
    token: Annotated[str, Path(max_length=300)], request: Request, study: StudyDep, visit: VisitDep
) -> Response:
    """Send a sound of a trial by its signed link, which holds in the session it was made for."""
    _listening(study)
    try:
        age = round(3600 * study.campaign.limits.session_hours)
        assignment_id, place = study.links(_PURPOSE).loads(token, max_age=age)
    except (BadSignature, ValueError, TypeError):
        raise HTTPException(404) from None
    with study.database.read() as session:
        assignment = session.get(Assignment, assignment_id)
        if assignment is None or assignment.session_id != visit.id:
            raise HTTPException(404)
        sounds = rating.sounds_of(assignment)
    response = audio_response(study, sounds[place].storage_key, request)
    # The file's own name would tell which of an item's parts this is.
    response.headers["content-disposition"] = "inline"
    response.headers["cache-control"] = "private, max-age=3600"
    return response


@router.get("/api/headphones", response_model=HeadphoneCheck, responses=_problems())
def headphone_check(study: StudyDep, visit: VisitDep) -> HeadphoneCheck:
    """Give the headphone check of the session."""
    return _headphones(_listening(study), visit)


@router.post(
    "/api/headphones",
    response_model=HeadphoneVerdict,
    responses=_problems(s409="This attempt is not due, was answered otherwise, or has other trials"),
    dependencies=[CsrfDep],
)
def answer_headphones(given: HeadphoneAnswers, study: StudyDep, visit: VisitDep) -> Response | HeadphoneVerdict:
    """Judge the answers of an attempt; sending the same again gives the same verdict."""
    _listening(study)
    try:
        passed, left = rating.check_headphones(study, visit, given.attempt, given.answers)
    except RatingError as error:
        return _refuse(error)
    return HeadphoneVerdict(passed=passed, attempts_left=left, next="/rate")


@router.get("/api/headphones/{attempt}/{trial}", include_in_schema=False)
def headphone_sound(attempt: int, trial: int, study: StudyDep, visit: VisitDep) -> Response:
    """Send the tones of a trial of the headphone check."""
    campaign = _listening(study)
    if not (0 <= attempt < headphones.MAX_ATTEMPTS and 0 <= trial < campaign.headphone_trials):
        raise HTTPException(404)
    order = headphones.orders(visit.seed, attempt, campaign.headphone_trials)[trial]
    return Response(headphones.tones(order), media_type="audio/wav")


@router.get("/api/headphones/level", include_in_schema=False, dependencies=[Depends(get_visit)])
def headphone_level(study: StudyDep) -> Response:
    """Send the noise to which raters set their volume."""
    _listening(study)
    return Response(headphones.level_noise(), media_type="audio/wav")


def _headphones(campaign: Listening, visit: Session) -> HeadphoneCheck:
    is_due = headphones.is_due(campaign, visit)
    attempt = min(len(headphones.attempts_of(visit)), headphones.MAX_ATTEMPTS - 1)
    return HeadphoneCheck(
        due=is_due,
        attempt=attempt,
        level_url="/api/headphones/level",
        sounds=[f"/api/headphones/{attempt}/{trial}" for trial in range(campaign.headphone_trials)] if is_due else [],
    )


def _question(campaign: Listening, language: str) -> str:
    if campaign.question is not None:
        return campaign.question[language]
    return translator(language)(f"rate.question_{campaign.scale}")


def _trial(study: Study, visit: Session, found: Progress) -> Trial:
    """Tell of a trial only what a rater may know: no system, role, expected score or name of a file."""
    trial = Trial(
        assignment=None,
        number=found.number,
        total=found.total,
        num_answered=found.num_answered,
        num_trials=found.num_trials,
        finished=visit.state == "finished",
        question=_question(_listening(study), visit.language),
    )
    if found.assignment is None:
        return trial
    links = study.links(_PURPOSE)
    sounds = [
        TrialSound(
            kind=sound.kind,  # type: ignore[arg-type]
            url=f"/api/trial/audio/{links.dumps([found.assignment.id, place])}",
            seconds=sound.seconds,
        )
        for place, sound in enumerate(rating.sounds_of(found.assignment))
    ]
    classes = found.assignment.item.facts.get("class")
    label = classes.get(visit.language) if isinstance(classes, Mapping) else None
    return trial.model_copy(
        update={
            "assignment": found.assignment.id,
            "practice": found.is_practice,
            "class_label": label,
            "sounds": sounds,
        }
    )
