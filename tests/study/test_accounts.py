"""Accounts: passwords as Argon2id, roles, logins that end, and the commands that make and change them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import func, select
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.errors import AuriscopeError
from auriscope.study import accounts
from auriscope.study.ids import now, sha256_of
from auriscope.study.schema import Account, AuditEntry, Login
from auriscope.study.study import Study

from .conftest import COLLECTION, write_study

PASSWORD = "correct horse battery staple"


def add(study: Study, name: str = "olga", role: str = "owner") -> Account:
    return accounts.add_account(study, name, role, PASSWORD, "command")


def account_of(study: Study, token: str) -> Account | None:
    with study.database.read() as session:
        return accounts.logged_in(session, token)


def test_a_password_is_kept_as_argon2id_and_a_login_as_a_digest(collection: Study) -> None:
    add(collection)
    found = accounts.log_in(collection, "olga", PASSWORD)
    assert found is not None
    account, token = found
    assert account.role == "owner"
    assert account.password_hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    with collection.database.read() as session:
        login = session.scalars(select(Login)).one()
        assert login.token_sha256 == sha256_of(token)
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["account.add", "login"]
    known = account_of(collection, token)
    assert known is not None
    assert known.id == account.id
    assert account_of(collection, token + "x") is None


@pytest.mark.parametrize(
    "password", ["", "correct horse battery stapl", PASSWORD + "e", PASSWORD.upper(), "x" * 300, "\x00"]
)
def test_a_wrong_password_opens_nothing(collection: Study, password: str) -> None:
    add(collection)
    assert accounts.log_in(collection, "olga", password) is None
    with collection.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Login)) == 0


@pytest.mark.parametrize("name", ["nobody", "disabled", "olga\x00", "OLGA", "' OR 1=1 --", "x" * 500, ""])
def test_unknown_names_cost_the_same_work(collection: Study, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    add(collection)
    add(collection, "disabled")
    accounts.disable_account(collection, "disabled", "command")
    verified: list[str] = []
    real = accounts._HASHER.verify

    class Counting(accounts.PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:
            verified.append(str(hash).rpartition("$")[0].rpartition("$")[0])
            return bool(real(hash, password))

    accounts.log_in(collection, "nobody", PASSWORD)
    monkeypatch.setattr(accounts, "_HASHER", Counting())
    assert accounts.log_in(collection, name, PASSWORD) is None
    assert accounts.log_in(collection, "olga", "a wrong password") is None
    assert len(verified) == 2
    assert verified[0] == verified[1]


def test_a_login_ends_after_a_while(collection: Study) -> None:
    add(collection)
    found = accounts.log_in(collection, "olga", PASSWORD)
    assert found is not None
    later = now() + timedelta(hours=accounts.LOGIN_HOURS)
    with collection.database.read() as session:
        assert accounts.logged_in(session, found[1], later - timedelta(seconds=5)) is not None
        assert accounts.logged_in(session, found[1], later + timedelta(seconds=5)) is None
    with collection.database.write() as session:
        session.scalars(select(Login)).one().expires_at = now() - timedelta(seconds=1)
    assert account_of(collection, found[1]) is None
    # The next login sweeps those that have ended.
    accounts.log_in(collection, "olga", PASSWORD)
    with collection.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Login)) == 1


def test_disabling_resetting_and_logging_out_end_logins_at_once(collection: Study) -> None:
    add(collection)

    def token() -> str:
        found = accounts.log_in(collection, "olga", PASSWORD)
        assert found is not None
        return found[1]

    first, second = token(), token()
    accounts.log_out(collection, first)
    assert account_of(collection, first) is None
    assert account_of(collection, second) is not None
    accounts.disable_account(collection, "olga", "command")
    assert account_of(collection, second) is None
    assert accounts.log_in(collection, "olga", PASSWORD) is None
    accounts.enable_account(collection, "olga", "command")
    third = token()
    accounts.reset_password(collection, "olga", "another good password", "command")
    assert account_of(collection, third) is None
    assert accounts.log_in(collection, "olga", PASSWORD) is None
    assert accounts.log_in(collection, "olga", "another good password") is not None


def test_old_hashes_are_renewed_at_the_next_login(collection: Study) -> None:
    add(collection)
    weak = accounts.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    with collection.database.write() as session:
        session.scalars(select(Account)).one().password_hash = weak
    assert accounts.log_in(collection, "olga", PASSWORD) is not None
    assert accounts.list_accounts(collection)[0].password_hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_what_is_wrong_with_an_account_is_said(collection: Study) -> None:
    add(collection)
    with pytest.raises(AuriscopeError, match="already an account 'olga'"):
        add(collection)
    with pytest.raises(AuriscopeError, match="no account's name"):
        add(collection, "Olga Owner")
    with pytest.raises(AuriscopeError, match="choose owner, reviewer, reader"):
        add(collection, "rita", "root")
    with pytest.raises(AuriscopeError, match="12 to 200"):
        accounts.add_account(collection, "rita", "reader", "short", "command")
    with pytest.raises(AuriscopeError, match="no account 'rita'"):
        accounts.disable_account(collection, "rita", "command")


def run(*arguments: object, given: str = "") -> Result:
    return CliRunner().invoke(app, ["study", *map(str, arguments)], input=given)


def test_the_commands_make_list_and_change_accounts(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", COLLECTION)
    made = run("account", "add", folder, "olga", "--role", "owner", "--generate", "--json")
    owner = json.loads(made.stdout)
    assert (owner["name"], owner["role"], len(owner["password"])) == ("olga", "owner", 29)
    given = run("account", "add", folder, "rita", given="a password from stdin\n")
    assert (given.exit_code, given.stdout) == (0, "rita (reviewer)\n")
    assert run("account", "disable", folder, "rita").stdout == "rita (reviewer, disabled)\n"
    assert run("account", "list", folder).stdout == "olga (owner)\nrita (reviewer, disabled)\n"
    assert run("account", "enable", folder, "rita").exit_code == 0
    assert "password" in run("account", "reset", folder, "rita", "--generate").stdout
    empty = run("account", "add", folder, "ralf")
    assert (empty.exit_code, empty.stdout) == (1, "")
    assert "--generate" in empty.stderr
    study = Study.open(folder)
    assert accounts.log_in(study, "olga", owner["password"]) is not None
    assert accounts.log_in(study, "rita", "a password from stdin") is None
    study.close()


def test_the_status_is_told_in_lines_and_as_json(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", COLLECTION)
    told = run("status", folder)
    assert told.exit_code == 0
    assert "two-at-once (collection): open" in told.stdout
    assert json.loads(run("status", folder, "--json").stdout)["sessions"] == {
        "open": 0,
        "finished": 0,
        "removed": 0,
    }
