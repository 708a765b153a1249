"""The server as it is started: several processes, started again when they die, gone when it stops or is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from auriscope.study.schema import Submission
from auriscope.study.study import Study

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from auriscope.cli import main; main()"]


class Server:
    """``auriscope study serve`` as a process."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [*COMMAND, "study", "serve", str(folder), "--port", "0", "--json", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.address = json.loads(self.process.stdout.readline())["address"]

    def children(self, kind: str = "") -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == self.process.pid and fields[0] != "Z" and kind in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
        return found

    def answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(self.address, timeout=5).status_code == 200
        return False


def is_running(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.05)


@pytest.fixture
def serve(collection: Study) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*options: str) -> Server:
        server = Server(collection.folder, *options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()


def test_a_recording_is_taken_checked_and_both_processes_come_back_when_killed(
    collection: Study, serve: Callable[..., Server], sender: Callable[..., Any], wav: Callable[..., bytes]
) -> None:
    server = serve("--processes", "2", "--workers", "1")
    wait_for(lambda: len(server.children()) == 3 and server.answers())
    visitor = sender(collection)
    visitor.client = httpx.Client(base_url=server.address, timeout=60)
    assert visitor.send(wav(0)).status_code == 201

    def is_checked() -> bool:
        with collection.database.read() as session:
            return all(moment is not None for moment in session.scalars(select(Submission.checked_at)))

    wait_for(is_checked)
    before = server.children()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(set(server.children()) - set(before)) == 3 and server.answers())
    assert visitor.send(wav(1)).json()["finished"] is True
    wait_for(is_checked)
    visitor.client.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_it_stops(serve: Callable[..., Server], how: signal.Signals) -> None:
    server = serve("--processes", "1", "--workers", "1")
    wait_for(lambda: len(server.children()) == 2 and server.answers())
    children = server.children()
    server.process.send_signal(how)
    status = server.process.wait(60)
    assert status == (-signal.SIGKILL if how == signal.SIGKILL else 0)
    wait_for(lambda: not any(is_running(pid) for pid in children))


def test_an_address_that_is_taken_is_said_in_a_line(collection: Study, serve: Callable[..., Server]) -> None:
    server = serve("--workers", "0")
    port = server.address.rpartition(":")[2]
    command = [*COMMAND, "study", "serve", str(collection.folder), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"cannot listen at 127.0.0.1:{port}" in done.stderr.splitlines()[-1]


def test_no_acknowledged_recording_is_lost_when_everything_is_killed_under_load(database_url: str) -> None:
    # The benchmark kills a web process, a worker and the watching process in turn, while 20 visitors send.
    command = [
        sys.executable,
        "benchmarks/study_load.py",
        "kills",
        "--kills",
        "4",
        "--json",
        "--database",
        database_url,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["ok"]
    assert row["measured"].startswith("0 of ")
