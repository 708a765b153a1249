"""``auriscope study``: collect recordings from people, have people rate results, and analyse what they said."""

from __future__ import annotations

import typer

from auriscope.cli.study import (
    account,
    analyse,
    backup,
    hits,
    init,
    items,
    payments,
    reconcile,
    release,
    remove,
    serve,
    status,
    verify,
    work,
)

app = typer.Typer(
    name="study",
    help="Collect recordings from people, have people rate results, and analyse what they said.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("work")(work.work)
app.command("reconcile")(reconcile.reconcile)
app.command("items")(items.items)
app.command("verify")(verify.verify)
app.command("payments")(payments.payments)
app.command("hits")(hits.hits)
app.command("remove")(remove.remove)
app.command("status")(status.status)
app.add_typer(account.app)
app.command("release")(release.release)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("analyse")(analyse.analyse)
