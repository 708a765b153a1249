"""Who may see which page of the administration: the login's cookie, the roles, and the protection of its forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from auriscope.errors import AuriscopeError
from auriscope.study.accounts import LOGIN_HOURS, logged_in
from auriscope.study.participants import Refused
from auriscope.study.schema import Account
from auriscope.study.study import Study
from auriscope.study.web.pages import StudyDep, check_csrf, csrf_token, get_study, page

ADMIN_COOKIE = "auriscope_admin"
LOGIN_COOKIE = "auriscope_login"
"""Holds a secret before the login, so that the login's form is protected too; it opens nothing."""

PERMISSIONS = {
    "owner": frozenset({"own", "review", "figures"}),
    "reviewer": frozenset({"review"}),
    "reader": frozenset({"figures"}),
}


class AdminRefused(AuriscopeError):  # noqa: N818 - it is no failure
    """An account may not do this, or a form is not ours; ``status`` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotLoggedIn(AuriscopeError):  # noqa: N818 - it is no failure
    """Nobody is logged in."""


def get_account(request: Request, study: StudyDep) -> Account:
    """Give the account that is logged in; ``NotLoggedIn`` if there is none."""
    token = request.cookies.get(ADMIN_COOKIE)
    if token:
        with study.database.read() as session:
            account = logged_in(session, token)
        if account is not None:
            return account
    raise NotLoggedIn("log in first")


AccountDep = Annotated[Account, Depends(get_account)]


def allows(permission: str) -> Callable[[Account], Account]:
    """Give a dependency that lets only accounts pass whose role has a permission: own, review or figures."""

    def check(account: AccountDep) -> Account:
        if permission not in PERMISSIONS.get(account.role, frozenset()):
            raise AdminRefused(403, "Your account may not do this.")
        return account

    return check


OwnerDep = Annotated[Account, Depends(allows("own"))]
ReviewerDep = Annotated[Account, Depends(allows("review"))]
ReaderDep = Annotated[Account, Depends(allows("figures"))]


async def require_admin_csrf(
    request: Request, study: StudyDep, x_csrf_token: Annotated[str | None, Header()] = None
) -> None:
    """Let only requests pass that carry the token of a page of this login, in ``X-CSRF-Token`` or as ``csrf``."""
    token: Any = x_csrf_token
    if token is None:
        token = (await request.form()).get("csrf")
    cookie = LOGIN_COOKIE if request.url.path == "/admin/login" else ADMIN_COOKIE
    try:
        check_csrf(study, request.cookies.get(cookie), token if isinstance(token, str) else None)
    except Refused:
        raise AdminRefused(403, "This form is no longer valid. Load the page again.") from None


AdminCsrfDep = Depends(require_admin_csrf)


def set_admin_cookie(response: Response, study: Study, name: str, secret: str, hours: float = LOGIN_HOURS) -> None:
    """Put a secret into a cookie that scripts cannot read and other sites cannot make the browser send."""
    response.set_cookie(
        name,
        secret,
        max_age=round(3600 * hours),
        path="/admin",
        httponly=True,
        secure=study.settings.is_https,
        samesite="strict",
    )


def admin_page(
    request: Request,
    template: str,
    account: Account | None,
    *,
    status: int = 200,
    csrf: str | None = None,
    **values: Any,
) -> HTMLResponse:
    """Render a page of the administration; templates see ``account`` and ``may`` (its permissions) too."""
    study = get_study(request)
    secret = request.cookies.get(ADMIN_COOKIE)
    return page(
        request,
        f"admin/{template}",
        status=status,
        language=study.campaign.languages[0],
        csrf=csrf if csrf is not None else (csrf_token(study, secret) if secret and account else ""),
        account=account,
        may=PERMISSIONS.get(account.role, frozenset()) if account else frozenset(),
        **values,
    )


@contextmanager
def told_on_a_page() -> Iterator[None]:
    """Turn what cannot be done (``AuriscopeError``) into a page of the administration that says why."""
    try:
        yield
    except AuriscopeError as error:
        raise AdminRefused(409, f"{str(error)[:1].upper()}{str(error)[1:]}.") from None


async def send_to_login(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Answer whoever is not logged in: pages lead to the login, everything else is refused."""
    if request.method in ("GET", "HEAD"):
        return RedirectResponse("/admin/login", status_code=303)
    return admin_page(request, "refused.html.j2", None, status=401, message="You are not logged in any more.")


async def tell_refused(request: Request, error: Exception) -> Response:
    """Say on a page what an account may not do, or why a form was not taken."""
    assert isinstance(error, AdminRefused)
    return admin_page(request, "refused.html.j2", None, status=error.status, message=str(error))
