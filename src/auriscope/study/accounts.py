"""Those who run a study: accounts with a role and a password (Argon2id), and the browsers they are logged in with.

``owner`` may do everything, ``reviewer`` listens to recordings and votes, ``reader`` sees figures without personal
data. Account names are no personal data of participants, and stand in the audit log by the account's id.
"""

from __future__ import annotations

import re
import secrets
import threading
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session as OrmSession

from auriscope.errors import AuriscopeError
from auriscope.study.ids import LETTERS, new_token, now, sha256_of
from auriscope.study.schema import Account, Login
from auriscope.study.study import Study, audit

ROLES = ("owner", "reviewer", "reader")
MIN_PASSWORD_LETTERS = 12
MAX_PASSWORD_LETTERS = 200
LOGIN_HOURS = 12

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")
# RFC 9106, section 4, second recommended option: 64 MiB, three passes, four lanes.
_HASHER = PasswordHasher()
# Every hash takes 64 MiB for a moment; more of them at once wait, so that logins cannot fill the memory.
_AT_ONCE = threading.Semaphore(4)


def add_account(study: Study, name: str, role: str, password: str, actor: str) -> Account:
    """Make an account; ``AuriscopeError`` if the name is taken or nothing like a name, or the password too short."""
    if not _NAME.fullmatch(name):
        raise AuriscopeError(f"{name!r} is no account's name; use up to 60 of a-z, 0-9, dot, hyphen and underscore")
    if role not in ROLES:
        raise AuriscopeError(f"{role!r} is no role; choose {', '.join(ROLES)}")
    hashed = hash_password(password)
    try:
        with study.database.write() as session:
            account = Account(name=name, role=role, password_hash=hashed)
            session.add(account)
            session.flush()
            audit(session, actor, "account.add", account.id, {"role": role})
    except IntegrityError:
        raise AuriscopeError(f"there is already an account {name!r}; give it a new password with `reset`") from None
    return account


def list_accounts(study: Study) -> list[Account]:
    """Give all accounts, by name."""
    with study.database.read() as session:
        return list(session.scalars(select(Account).order_by(Account.name)))


def disable_account(study: Study, name: str, actor: str) -> Account:
    """End an account's access at once, in all browsers; what it did stays."""
    with study.database.write() as session:
        account = _account(session, name)
        account.disabled_at = account.disabled_at or now()
        session.execute(delete(Login).where(Login.account_id == account.id))
        audit(session, actor, "account.disable", account.id)
    return account


def enable_account(study: Study, name: str, actor: str) -> Account:
    """Give a disabled account its access back."""
    with study.database.write() as session:
        account = _account(session, name)
        account.disabled_at = None
        audit(session, actor, "account.enable", account.id)
    return account


def reset_password(study: Study, name: str, password: str, actor: str) -> Account:
    """Give an account a new password, and log it out of all browsers."""
    hashed = hash_password(password)
    with study.database.write() as session:
        account = _account(session, name)
        account.password_hash = hashed
        session.execute(delete(Login).where(Login.account_id == account.id))
        audit(session, actor, "account.reset", account.id)
    return account


def log_in(study: Study, name: str, password: str) -> tuple[Account, str] | None:
    """Check a name and a password; give the account and the secret for the browser's cookie, or None.

    Unknown and disabled names cost the same work as a wrong password, so that the time taken tells nothing.
    """
    nobodys = _nobodys_hash()
    account = None
    if _NAME.fullmatch(name):
        with study.database.read() as session:
            account = session.scalar(select(Account).where(Account.name == name))
    usable = account is not None and account.disabled_at is None
    matches = _verify(nobodys if account is None else account.password_hash, password)
    if account is None or not (usable and matches):
        return None
    renewed = hash_password(password) if _HASHER.check_needs_rehash(account.password_hash) else None
    token, moment = new_token(), now()
    with study.database.write() as session:
        current = session.get_one(Account, account.id)
        # Somebody may have disabled it, or changed the password, while we were computing.
        if current.disabled_at is not None or current.password_hash != account.password_hash:
            return None
        if renewed is not None:
            current.password_hash = renewed
        session.execute(delete(Login).where(Login.expires_at <= moment))
        expires = moment + timedelta(hours=LOGIN_HOURS)
        session.add(Login(token_sha256=sha256_of(token), account_id=account.id, expires_at=expires))
        audit(session, account.id, "login")
    return account, token


def logged_in(session: OrmSession, token: str, moment: datetime | None = None) -> Account | None:
    """Give the account of a browser's secret; None if the login has ended or the account is disabled."""
    login = session.get(Login, sha256_of(token))
    if login is None or login.expires_at <= (moment or now()):
        return None
    account = session.get_one(Account, login.account_id)
    return None if account.disabled_at is not None else account


def log_out(study: Study, token: str) -> None:
    """End one browser's login."""
    with study.database.write() as session:
        login = session.get(Login, sha256_of(token))
        if login is not None:
            audit(session, login.account_id, "logout")
            session.delete(login)


def generate_password() -> str:
    """Give a new password of 117 random bits, in groups that can be read out.

    >>> len(generate_password())
    29
    """
    groups = ("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(6))
    return "-".join(groups)


def hash_password(password: str) -> str:
    """Digest a password with Argon2id; ``AuriscopeError`` if it is too short or too long."""
    if not MIN_PASSWORD_LETTERS <= len(password) <= MAX_PASSWORD_LETTERS:
        raise AuriscopeError(
            f"a password has {MIN_PASSWORD_LETTERS} to {MAX_PASSWORD_LETTERS} letters; --generate makes a good one"
        )
    with _AT_ONCE:
        return _HASHER.hash(password)


def _verify(hashed: str, password: str) -> bool:
    with _AT_ONCE:
        try:
            return len(password) <= MAX_PASSWORD_LETTERS and _HASHER.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False


@cache
def _nobodys_hash() -> str:
    return _HASHER.hash(secrets.token_urlsafe(32))


def _account(session: OrmSession, name: str) -> Account:
    account = session.scalar(select(Account).where(Account.name == name))
    if account is None:
        raise AuriscopeError(f"there is no account {name!r}; `auriscope study account list` shows them")
    return account
