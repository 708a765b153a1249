"""The way in, the same for collections and listening studies: what it is about, consent, the questionnaire, the end."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool

from auriscope.study import crowd, stamps
from auriscope.study.campaign import Collection
from auriscope.study.ids import sha256_of
from auriscope.study.participants import Refused, arrival_from, begin, is_preview, require_open
from auriscope.study.removal import remove_session
from auriscope.study.schema import Assignment, Contributor, Session, Submission
from auriscope.study.web.pages import SESSION_COOKIE, CsrfDep, StudyDep, VisitDep, get_visit, language_of, page
from auriscope.study.web.questionnaire import DEVICES, GENDERS, HEARING, AnswersError, language_names, read_answers

router = APIRouter(include_in_schema=False)


@router.get("/")
def welcome(request: Request, study: StudyDep) -> Response:
    """Show what the study is about and ask for consent; a visitor who has begun goes on where they were."""
    if request.cookies.get(SESSION_COOKIE):
        try:
            get_visit(request, study)
        except Refused:
            pass
        else:
            return RedirectResponse("/next", status_code=303)
    language = language_of(request, study)
    return page(
        request,
        "welcome.html.j2",
        language=language,
        preview=is_preview(request.query_params),
        arrival=dict(request.query_params),
        consent=study.campaign.consent_text(language),
        consent_sha256=sha256_of(study.campaign.consent_text(language)),
    )


@router.post("/begin")
async def begin_session(
    request: Request,
    study: StudyDep,
    language: Annotated[str, Form(max_length=2)],
    consent_sha256: Annotated[str, Form(max_length=64)],
    agree: Annotated[str, Form(max_length=10)] = "",
) -> Response:
    """Begin a session: only with consent, and only to the text that was shown."""
    form = {key: value for key, value in (await request.form()).items() if isinstance(value, str)}
    if is_preview(form):
        raise Refused("preview")
    if language not in study.campaign.languages or sha256_of(study.campaign.consent_text(language)) != consent_sha256:
        raise Refused("form")
    if agree != "yes":
        return page(request, "declined.html.j2", language=language)
    arrival = arrival_from(form)

    def start() -> str:
        with study.database.write(alone="begin") as session:
            return begin(study, session, arrival, language)[1]

    token = await run_in_threadpool(start)
    response = RedirectResponse("/next", status_code=303)
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=round(3600 * study.campaign.limits.session_hours),
        httponly=True,
        secure=study.settings.is_https,
        samesite="lax",
    )
    return response


@router.get("/next")
def go_on(request: Request, study: StudyDep) -> Response:
    """Send the visitor to the page that comes next for them."""
    visit = get_visit(request, study)
    if visit.state == "finished":
        return RedirectResponse("/done", status_code=303)
    if visit.answers is None:
        return RedirectResponse("/questionnaire", status_code=303)
    first = "/record" if isinstance(study.campaign, Collection) else "/rate"
    return RedirectResponse(first, status_code=303)


@router.get("/questionnaire")
def ask(request: Request, visit: VisitDep) -> Response:
    """Ask the questions; they are answered once."""
    if visit.state == "finished" or visit.answers is not None:
        return RedirectResponse("/next", status_code=303)
    return _questions(request, visit, {}, [])


@router.post("/questionnaire", dependencies=[CsrfDep])
async def answer(request: Request, study: StudyDep, visit: VisitDep) -> Response:
    """Keep the answers, or show what is missing."""
    form = {key: value for key, value in (await request.form()).items() if isinstance(value, str)}
    require_open(visit)
    try:
        answers = read_answers(study.campaign, form)
    except AnswersError as error:
        return _questions(request, visit, form, error.fields)

    def keep() -> None:
        with study.database.write() as session:
            kept = session.get_one(Session, visit.id)
            if kept.answers is None:
                kept.answers = answers

    await run_in_threadpool(keep)
    return RedirectResponse("/next", status_code=303)


def _questions(request: Request, visit: Session, given: dict[str, str], wrong: list[str]) -> Response:
    return page(
        request,
        "questionnaire.html.j2",
        status=422 if wrong else 200,
        visit=visit,
        given=given,
        wrong=wrong,
        genders=GENDERS,
        hearing=HEARING,
        devices=DEVICES,
        language_names=language_names(visit.language),
    )


@router.get("/done")
def done(request: Request, study: StudyDep, visit: VisitDep) -> Response:
    """Thank the participant, and give them the stamp, the way back to the platform, and their code."""
    if visit.state != "finished":
        return RedirectResponse("/next", status_code=303)
    if isinstance(study.campaign, Collection):
        count = select(func.count()).select_from(Submission).where(Submission.session_id == visit.id)
    else:
        answered = Assignment.answered_at.is_not(None)
        count = select(func.count()).select_from(Assignment).where(Assignment.session_id == visit.id, answered)
    with study.database.read() as session:
        values: dict[str, Any] = {
            "count": session.scalar(count) or 0,
            "stamp": stamps.stamp_of(study, session, visit),
            "platform": session.get_one(Contributor, visit.contributor_id).platform,
        }
    link = crowd.completion_link(study, visit)
    return page(request, "done.html.j2", visit=visit, code=visit.contributor_id, completion_link=link, **values)


@router.get("/withdraw")
def ask_to_withdraw(request: Request, visit: VisitDep) -> Response:
    """Ask whether the participant means it."""
    if visit.state == "finished":
        return RedirectResponse("/done", status_code=303)
    return page(request, "withdraw.html.j2", visit=visit)


@router.post("/withdraw", dependencies=[CsrfDep])
def withdraw(request: Request, study: StudyDep, visit: VisitDep) -> Response:
    """End the participation and delete what was sent in this session, every byte of it.

    Nothing of other sessions: a worker's name in an address proves nothing, so whoever came with it may touch only what
    their own cookie stands for.
    """
    require_open(visit)
    remove_session(study, visit.id, "participant")
    response = page(request, "withdrawn.html.j2", language=visit.language)
    response.delete_cookie(SESSION_COOKIE)
    return response
