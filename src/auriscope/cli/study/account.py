"""``auriscope study account``: those who run a study, and what they may do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from auriscope.cli.console import emit, one_line_for, say
from auriscope.cli.options import Json
from auriscope.cli.study.options import Folder, opened
from auriscope.errors import AuriscopeError

if TYPE_CHECKING:
    from auriscope.study.schema import Account

app = typer.Typer(
    name="account",
    help="Make, list and change the accounts of those who run a study.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name, to log in with.", show_default=False)]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password and print it, instead of asking for one.")]


@app.command()
def add(
    folder: Folder,
    name: Name,
    role: Annotated[
        str,
        typer.Option(
            "--role", metavar="ROLE", help="owner (everything), reviewer (listens and votes) or reader (figures)."
        ),
    ] = "reviewer",
    generate: Generate = False,
    json: Json = False,
) -> None:
    """Make an account; the password is asked for, or read from standard input (one line)."""
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study.accounts import add_account

        password = _password(generate)
        _tell(add_account(study, name, role, password, "command"), password if generate else None, json)


@app.command("list")
def list_all(folder: Folder, json: Json = False) -> None:
    """Show all accounts, their roles, and whether they are disabled."""
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study.accounts import list_accounts

        for account in list_accounts(study):
            _tell(account, None, json)


@app.command()
def disable(folder: Folder, name: Name, json: Json = False) -> None:
    """End an account's access at once, in all browsers; what it did stays."""
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study.accounts import disable_account

        _tell(disable_account(study, name, "command"), None, json)


@app.command()
def enable(folder: Folder, name: Name, json: Json = False) -> None:
    """Give a disabled account its access back."""
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study.accounts import enable_account

        _tell(enable_account(study, name, "command"), None, json)


@app.command()
def reset(folder: Folder, name: Name, generate: Generate = False, json: Json = False) -> None:
    """Give an account a new password, and log it out everywhere."""
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study.accounts import reset_password

        password = _password(generate)
        _tell(reset_password(study, name, password, "command"), password if generate else None, json)


def _password(generate: bool) -> str:
    from auriscope.study.accounts import generate_password

    if generate:
        return generate_password()
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise AuriscopeError("there is no password on standard input; write it there, or use --generate")
    return line


def _tell(account: Account, password: str | None, json: bool) -> None:
    if json:
        values = {"name": account.name, "role": account.role, "disabled": account.disabled_at is not None}
        emit({**values, **({"password": password} if password else {})})
        return
    state = ", disabled" if account.disabled_at is not None else ""
    say(f"{account.name} ({account.role}{state})" + (f", password {password}" if password else ""))
