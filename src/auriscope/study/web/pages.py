"""What every page needs: the study, the visitor's session, the protection of forms, and the templates."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BeforeValidator

from auriscope.study.ids import sha256_of
from auriscope.study.participants import Refused, resume
from auriscope.study.schema import Session
from auriscope.study.study import Study
from auriscope.study.words import best_language, translator

SESSION_COOKIE = "auriscope_session"


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
"""Before an integer's own validator: in JSON, 3.0 is one as 3 is; a text or a truth value is not."""

HERE = Path(__file__).parent


def get_study(request: Request) -> Study:
    """Give the study that the application serves."""
    study: Study = request.app.state.study
    return study


async def _study(request: Request) -> Study:
    """Give the study without the way through another thread that dependencies take which may wait."""
    return get_study(request)


StudyDep = Annotated[Study, Depends(_study)]


def get_visit(request: Request, study: StudyDep) -> Session:
    """Give the visitor's session, as it was when the request came; ``Refused`` if there is none."""
    token = request.cookies.get(SESSION_COOKIE)
    if token:
        with study.database.read() as session:
            visit = resume(study, session, token)
        if visit is not None:
            return visit
    raise Refused("session")


VisitDep = Annotated[Session, Depends(get_visit)]


def csrf_token(study: Study, secret: str) -> str:
    """Give the token that belongs to a cookie's secret: whoever has not got the page cannot know it."""
    return study.signer("csrf").get_signature(sha256_of(secret)).decode()


def check_csrf(study: Study, secret: str | None, token: str | None) -> None:
    """Raise ``Refused`` unless the token belongs to the cookie's secret."""
    if not secret or not token or not study.signer("csrf").verify_signature(sha256_of(secret), token):
        raise Refused("form")


async def require_csrf(request: Request, study: StudyDep, x_csrf_token: Annotated[str | None, Header()] = None) -> None:
    """Let only requests pass that carry the token of the participant's page, in ``X-CSRF-Token`` or as ``csrf``."""
    token = x_csrf_token
    if token is None and request.headers.get("content-type", "").startswith(
        ("application/x-www-form-urlencoded", "multipart/form-data")
    ):
        value = (await request.form()).get("csrf")
        token = value if isinstance(value, str) else None
    check_csrf(study, request.cookies.get(SESSION_COOKIE), token)


CsrfDep = Depends(require_csrf)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def language_of(request: Request, study: Study, visit: Session | None = None) -> str:
    """Choose the page's language: the session's, the one asked for (``?language=fr``), or the browser's."""
    if visit is not None:
        return visit.language
    asked = request.query_params.get("language")
    offered: list[str] = list(study.campaign.languages)
    return asked if asked in offered else best_language(request.headers.get("accept-language"), offered)


def page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    visit: Session | None = None,
    language: str | None = None,
    **values: Any,
) -> HTMLResponse:
    """Render a template for the visitor.

    It sees ``t`` (the words of the language), ``language``, ``campaign``, ``title`` and ``csrf`` besides ``values``.
    """
    study = get_study(request)
    language = language or language_of(request, study, visit)
    secret = request.cookies.get(SESSION_COOKIE)
    context = {
        "t": translator(language),
        "language": language,
        "campaign": study.campaign,
        "title": study.campaign.title[language],
        "csrf": csrf_token(study, secret) if secret else "",
        **values,
    }
    return HTMLResponse(_environment().get_template(template).render(context), status_code=status)
