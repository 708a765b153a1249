"""``auriscope study serve``: the pages of a study, and its workers."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, say
from auriscope.cli.options import Json
from auriscope.cli.study.options import Folder, opened

WORK = "from auriscope.cli import main; main()"
"""What a worker's process runs, with ``study work FOLDER`` as its arguments."""


def serve(
    folder: Folder,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port to listen at; 0 takes a free one.")
    ] = 8000,
    processes: Annotated[int, typer.Option("--processes", metavar="N", min=1, help="Web processes.")] = 1,
    workers: Annotated[
        int,
        typer.Option("--workers", metavar="N", min=0, help="Workers that check and score recordings; 0 for none here."),
    ] = 1,
    json: Json = False,
) -> None:
    """Serve a study until it is stopped with Ctrl-C; web processes and workers that die are started again."""
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study import logs, serving
        from auriscope.study.campaign import placeholders

        logs.configure()
        left = placeholders(study.campaign)
        if left:
            complain(f"participants will read {', '.join(left)} in the consent; fill that in in campaign.yaml")

        def tell(address: str) -> None:
            if json:
                emit({"input": folder, "address": address, "processes": processes, "workers": workers})
            else:
                say(f"{study.campaign.name}: {address} (administration: {address}/admin); Ctrl-C stops it")

        command = [sys.executable, "-c", WORK, "study", "work", str(folder)]
        serving.serve(
            study,
            host=host,
            port=port,
            processes=processes,
            workers=workers,
            worker_command=command,
            on_ready=tell,
        )
