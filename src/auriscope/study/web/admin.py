"""The administration's pages: login, the dashboard with its switch and its tables, the audit log, and removal."""

from __future__ import annotations

import io
import secrets
import tempfile
from collections.abc import Iterator
from typing import IO, Annotated, Literal

from fastapi import APIRouter, FastAPI, Form, Path, Query, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from sqlalchemy import func, select

from auriscope.errors import AuriscopeError
from auriscope.study import removal
from auriscope.study.accounts import MAX_PASSWORD_LETTERS, log_in, log_out
from auriscope.study.campaign import Collection
from auriscope.study.exports import READERS_TABLES, tables_for, write_csv
from auriscope.study.heartbeat import seen_at
from auriscope.study.ids import now
from auriscope.study.overview import Figures, figures, opinions
from auriscope.study.review import release_claims
from auriscope.study.schema import Account, AuditEntry, Contributor, Session, Setting, Submission
from auriscope.study.study import audit
from auriscope.study.web import admin_review, plots
from auriscope.study.web.admin_auth import (
    ADMIN_COOKIE,
    LOGIN_COOKIE,
    AccountDep,
    AdminCsrfDep,
    AdminRefused,
    NotLoggedIn,
    OwnerDep,
    ReaderDep,
    admin_page,
    get_account,
    send_to_login,
    set_admin_cookie,
    tell_refused,
)
from auriscope.study.web.pages import StudyDep, csrf_token

router = APIRouter(prefix="/admin", include_in_schema=False)

_LOGIN_FORM_HOURS = 1
_AUDIT_ROWS = 100
_MEMORY_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 16


def install(app: FastAPI) -> None:
    """Add the administration to an application."""
    app.include_router(router)
    app.include_router(admin_review.router)
    app.add_exception_handler(NotLoggedIn, send_to_login)
    app.add_exception_handler(AdminRefused, tell_refused)


@router.get("/login")
def ask_for_password(request: Request, study: StudyDep) -> Response:
    """Show the form to log in; whoever is logged in goes on."""
    try:
        get_account(request, study)
    except NotLoggedIn:
        return _login_form(request, study, None)
    return RedirectResponse("/admin", status_code=303)


@router.post("/login", dependencies=[AdminCsrfDep])
def login(
    request: Request,
    study: StudyDep,
    name: Annotated[str, Form(max_length=100)],
    password: Annotated[str, Form(max_length=MAX_PASSWORD_LETTERS)],
) -> Response:
    """Log an account in: the browser gets a new secret, whatever it had before."""
    found = log_in(study, name.strip().lower(), password)
    if found is None:
        return _login_form(request, study, "The name or the password is wrong.")
    response = RedirectResponse("/admin", status_code=303)
    set_admin_cookie(response, study, ADMIN_COOKIE, found[1])
    response.delete_cookie(LOGIN_COOKIE, path="/admin")
    return response


@router.post("/logout", dependencies=[AdminCsrfDep])
def logout(request: Request, study: StudyDep, account: AccountDep) -> Response:
    """End this browser's login, and let others have what was being listened to."""
    with study.database.write() as session:
        release_claims(session, account.id)
    log_out(study, request.cookies[ADMIN_COOKIE])
    response = RedirectResponse("/admin/login", status_code=303)
    response.delete_cookie(ADMIN_COOKIE, path="/admin")
    return response


@router.get("")
def home(account: AccountDep) -> Response:
    """Send every role to where its work is."""
    return RedirectResponse("/admin/review" if account.role == "reviewer" else "/admin/overview", status_code=303)


@router.get("/overview")
def overview(request: Request, study: StudyDep, account: ReaderDep) -> Response:
    """Show how the study stands."""
    with study.database.read() as session:
        found = figures(study, session)
        worker = seen_at(session)
        systems = opinions(session) if account.role == "owner" and not isinstance(study.campaign, Collection) else []
    is_collection = isinstance(study.campaign, Collection)
    return admin_page(
        request,
        "overview.html.j2",
        account,
        figures=found,
        is_collection=is_collection,
        plots=_collection_plots(found) if is_collection else _listening_plots(found),
        systems=systems,
        worker=worker,
        limits=study.campaign.limits,
        tables=tables_for(study, personal=account.role == "owner"),
    )


@router.post("/pause", dependencies=[AdminCsrfDep])
def pause(study: StudyDep, account: OwnerDep, state: Annotated[Literal["paused", "open"], Form()]) -> Response:
    """Take nobody new, or go on taking people; those who have begun may finish."""
    with study.database.write(alone="paused") as session:
        setting = session.get(Setting, "paused")
        if setting is None:
            setting = Setting(name="paused", value={})
            session.add(setting)
        setting.value, setting.changed_at = {"paused": state == "paused"}, now()
        audit(session, account.id, "study.pause" if state == "paused" else "study.resume")
    return RedirectResponse("/admin/overview", status_code=303)


@router.get("/csv/{table}.csv")
def download(
    study: StudyDep,
    account: ReaderDep,
    table: Annotated[Literal["submissions", "sessions", "reviews", "votes", "audit"], Path()],
) -> Response:
    """Send a table as CSV; personal data, votes and the audit log only to owners."""
    is_owner = account.role == "owner"
    if not is_owner and table not in READERS_TABLES:
        raise AdminRefused(403, "Your account may not do this.")
    # Written before it is sent, so that a slow reader does not hold a transaction open.
    raw = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115 - closed when it has been sent
    text = io.TextIOWrapper(raw, encoding="utf-8", newline="")
    write_csv(study, table, text, personal=is_owner)
    text.flush()
    text.detach()
    with study.database.write() as session:
        audit(session, account.id, "csv.download", table)
    name = f"{study.campaign.name}-{table}-{now():%Y%m%dT%H%M%SZ}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_send(raw), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/audit")
def show_audit(
    request: Request, study: StudyDep, account: OwnerDep, before: Annotated[int | None, Query(ge=1, le=2**31)] = None
) -> Response:
    """Show who did what, the newest first."""
    query = (
        select(AuditEntry, Account.name)
        .outerjoin(Account, Account.id == AuditEntry.actor)
        .order_by(AuditEntry.id.desc())
        .limit(_AUDIT_ROWS)
    )
    if before is not None:
        query = query.where(AuditEntry.id < before)
    with study.database.read() as session:
        rows = session.execute(query).all()
    return admin_page(
        request,
        "audit.html.j2",
        account,
        rows=rows,
        older=rows[-1][0].id if len(rows) == _AUDIT_ROWS else None,
    )


PersonName = Annotated[str, Query(max_length=100, pattern=r"^[\x21-\x7e ]*$")]


@router.get("/removal")
def ask_for_removal(request: Request, study: StudyDep, account: OwnerDep, name: PersonName = "") -> Response:
    """Find a contributor, and say what would be removed."""
    if not name.strip():
        return _removal_page(request, account, name)
    try:
        with study.database.read() as session:
            person = session.get_one(Contributor, removal.find_contributor(session, name.strip()))
            visits = select(Session.id).where(Session.contributor_id == person.id)
            counts = {
                "sessions": session.scalar(select(func.count()).select_from(visits.subquery())),
                "recordings": session.scalar(select(func.count()).where(Submission.session_id.in_(visits))),
            }
    except AuriscopeError as error:
        return _removal_page(request, account, name, message=str(error), status=404)
    return _removal_page(request, account, name, person=person, counts=counts)


@router.post("/removal", dependencies=[AdminCsrfDep])
def remove(
    request: Request,
    study: StudyDep,
    account: OwnerDep,
    contributor: Annotated[str, Form(pattern=r"^con_[2-9a-z]{20}$")],
    again: Annotated[str, Form(max_length=40)],
) -> Response:
    """Remove a contributor for good; the code is typed once more, so that it is meant."""
    if again.strip() != contributor:
        return _removal_page(request, account, contributor, message="The code you typed is another one.", status=422)
    return _removal_page(request, account, "", removed=removal.remove_contributor(study, contributor, account.id))


def _removal_page(
    request: Request,
    account: Account,
    name: str,
    *,
    status: int = 200,
    message: str | None = None,
    person: Contributor | None = None,
    counts: dict[str, int | None] | None = None,
    removed: removal.Removed | None = None,
) -> Response:
    return admin_page(
        request,
        "removal.html.j2",
        account,
        status=status,
        name=name,
        message=message,
        person=person,
        counts=counts,
        removed=removed,
    )


def _login_form(request: Request, study: StudyDep, message: str | None) -> Response:
    secret = secrets.token_urlsafe(32)
    token = csrf_token(study, secret)
    response = admin_page(request, "login.html.j2", None, status=401 if message else 200, csrf=token, message=message)
    set_admin_cookie(response, study, LOGIN_COOKIE, secret, _LOGIN_FORM_HOURS)
    return response


def _collection_plots(found: Figures) -> list[plots.Plot]:
    scores = {f"{step} dB": count for step, count in found.scores.items()}
    return [
        plots.columns("Recordings per day", ("Day", "Recordings"), found.submissions_by_day),
        plots.columns("Sessions begun per day", ("Day", "Sessions"), found.sessions_by_day),
        plots.bars("Sessions by state", ("State", "Sessions"), found.sessions),
        plots.bars("Failed checks", ("Check", "Recordings"), _spaced(found.checks_failing)),
        plots.bars("Reviewers' votes", ("Vote", "Votes"), found.votes),
        plots.bars("Suggestions", ("Suggestion", "Recordings"), found.suggestions),
        plots.bars("Payment", ("Decision", "Recordings"), found.payment),
        plots.bars("Use in the corpus", ("Decision", "Recordings"), found.use),
        plots.columns("Blind SI-SNR of the tracks", ("From", "Tracks"), scores),
    ]


def _listening_plots(found: Figures) -> list[plots.Plot]:
    ratings = {str(count): items for count, items in found.ratings_per_item.items()}
    return [
        plots.columns("Sessions begun per day", ("Day", "Sessions"), found.sessions_by_day),
        plots.bars("Sessions by state", ("State", "Sessions"), found.sessions),
        plots.columns("Items by number of ratings", ("Ratings", "Items"), ratings),
    ]


def _spaced(counts: dict[str, int]) -> dict[str, int]:
    return {name.replace("_", " "): count for name, count in counts.items()}


def _send(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while data := file.read(_CHUNK_BYTES):
            yield data
