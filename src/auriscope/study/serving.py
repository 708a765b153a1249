"""Serving a study: web processes and workers, each a process of its own, watched by one that starts them again.

The watching process holds the listening socket, so that no connection is refused while a web process starts again.
Its children end with it, even if it is killed: each holds the end of a pipe that breaks.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import reason
from auriscope.study import logs
from auriscope.study.campaign import Collection
from auriscope.study.items import load_if_empty
from auriscope.study.jobs import Jobs
from auriscope.study.reconcile import reconcile
from auriscope.study.study import Study

LOG = logging.getLogger("auriscope.study")

RECONCILE_SECONDS = 600
"""The server brings files and rows together so often."""

_POLL_SECONDS = 0.2
_STOP_SECONDS = 20
_BACKLOG = 2048
# A child that dies sooner is started again later and later.
_SETTLED_SECONDS, _LONGEST_PAUSE_SECONDS = 10, 30
_LIFELINE = "AURISCOPE_STUDY_LIFELINE"


@dataclass
class _Child:
    """A process that is kept running."""

    kind: str
    command: Sequence[str]
    handles: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0

    def watch(self) -> None:
        """Start the process, or start it again if it has died."""
        moment = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            self.failures = self.failures + 1 if moment - self.started_at < _SETTLED_SECONDS else 0
            pause = min(_LONGEST_PAUSE_SECONDS, 2**self.failures - 1)
            LOG.error(
                json.dumps({"event": "died", "process": self.kind, "status": self.process.returncode, "pause": pause})
            )
            self.process, self.start_at = None, moment + pause
        if self.process is None and moment >= self.start_at:
            # A session of its own: Ctrl-C reaches us alone, and we tell the children.
            self.process = subprocess.Popen(
                self.command, pass_fds=self.handles, stdin=subprocess.DEVNULL, start_new_session=True
            )
            self.started_at = moment
            LOG.info(json.dumps({"event": "started", "process": self.kind, "pid": self.process.pid}))


def serve(
    study: Study,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    processes: int = 1,
    workers: int = 1,
    worker_command: Sequence[str] = (),
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a study until the process is told to stop (SIGTERM, Ctrl-C).

    ``worker_command`` starts one worker; ``workers`` of them run. ``on_ready`` is told the address when connections are
    taken. A listening study that has no items yet takes in those of its manifest first. Raises ``AuriscopeError`` if
    that cannot be done, or the address cannot be listened at. Call it in the main thread.
    """
    load_if_empty(study)
    listening = _listen(host, port)
    stop = threading.Event()

    def stop_on(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, stop_on) for number in (signal.SIGTERM, signal.SIGINT)}
    lifeline, ours = os.pipe()
    os.environ[_LIFELINE] = str(lifeline)
    try:
        reconciling = threading.Thread(target=_reconcile, args=(study, stop), daemon=True)
        reconciling.start()
        web = [sys.executable, "-m", "auriscope.study.serving", str(study.folder), str(listening.fileno())]
        children = [_Child("web", web, (listening.fileno(), lifeline)) for _ in range(processes)]
        if isinstance(study.campaign, Collection):
            children += [_Child("worker", worker_command, (lifeline,)) for _ in range(workers)]
        if on_ready is not None:
            bound_host, bound_port = listening.getsockname()[:2]
            shown = f"[{bound_host}]" if ":" in bound_host else bound_host
            on_ready(f"http://{shown}:{bound_port}")
        while not stop.wait(_POLL_SECONDS):
            for child in children:
                child.watch()
        _end([child.process for child in children if child.process is not None])
        reconciling.join()
    finally:
        del os.environ[_LIFELINE]
        os.close(lifeline)
        os.close(ours)
        listening.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        raise AuriscopeError(
            f"cannot listen at {host}:{port} ({reason(error)}); choose another --host or --port"
        ) from None
    return listening


def _reconcile(study: Study, stop: threading.Event) -> None:
    while True:
        try:
            jobs = Jobs(study) if isinstance(study.campaign, Collection) else None
            reconcile(study, jobs=jobs)
        except Exception:
            LOG.exception("files and rows could not be compared")
        if stop.wait(RECONCILE_SECONDS):
            return


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_with_parent() -> None:
    """End this process, as by SIGTERM, when the process that watches it has gone; nothing happens without one."""
    lifeline = os.environ.get(_LIFELINE)
    if lifeline is None:
        return

    def wait() -> None:
        try:
            # Nobody ever writes: reading ends when the other end is gone.
            os.read(int(lifeline), 1)
        except OSError:
            return
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def work(jobs: Jobs) -> None:
    """Do jobs until the process is told to stop (SIGTERM, Ctrl-C); the job in hand is finished. Main thread only."""
    end_with_parent()
    stop = threading.Event()

    def stop_on(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, stop_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        jobs.work(stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve_pages(folder: str, handle: str) -> None:
    """Be one web process: serve a folder's study on a socket that is listening already."""
    import uvicorn

    from auriscope.study.web.app import create_app

    end_with_parent()
    logs.configure()
    study = Study.open(Path(folder))
    config = uvicorn.Config(
        create_app(study),
        access_log=False,
        log_config=None,
        # Who may say where a visitor comes from, we decide ourselves.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
    )
    with socket.socket(fileno=int(handle)) as listening:
        uvicorn.Server(config).run(sockets=[listening])
    study.close()


if __name__ == "__main__":
    _serve_pages(*sys.argv[1:])
