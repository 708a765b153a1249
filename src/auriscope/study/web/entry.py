"""The way in, the same for collections and listening studies: what it is about, consent, the questionnaire, the end."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from auriscope.study.campaign import Collection
from auriscope.study.ids import sha256_of
from auriscope.study.participants import Refused, arrival_from, begin, is_preview
from auriscope.study.web.pages import SESSION_COOKIE, StudyDep, get_visit, language_of, page

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
    from starlette.concurrency import run_in_threadpool

    form = {key: value for key, value in (await request.form()).items() if isinstance(value, str)}
    if is_preview(form):
        raise Refused("preview")
    if language not in study.campaign.languages or sha256_of(study.campaign.consent_text(language)) != consent_sha256:
        raise Refused("form")
    if agree != "yes":
        return page(request, "declined.html.j2", language=language)
    arrival = arrival_from(form)

    def start() -> str:
        with study.database.write() as session:
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
