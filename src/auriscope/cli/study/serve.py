"""``auriscope study serve``: the pages of a study."""

from __future__ import annotations

from typing import Annotated

import typer

from auriscope.cli.study.options import Folder, opened


def serve(
    folder: Folder,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port to listen at.")] = 8000,
) -> None:
    """Serve a study until it is stopped with Ctrl-C."""
    with opened(folder) as study:
        import uvicorn

        from auriscope.study.web.app import create_app

        uvicorn.run(create_app(study), host=host, port=port, access_log=False)
