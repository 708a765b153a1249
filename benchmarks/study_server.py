"""A study's server as a process, visitors that are light enough to load it, and what they send.

For ``study_load.py``. Everything lies in a folder of the caller's, and only 127.0.0.1 is addressed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from auriscope.study.ids import new_id
from auriscope.study.participants import Arrival, begin
from auriscope.study.schema import Task
from auriscope.study.study import Study, write_secret
from auriscope.study.web.pages import SESSION_COOKIE, csrf_token

COMMON: dict[str, Any] = {
    "title": "Load",
    "instructions": "Read.",
    "contact": "lab@example.org",
    "consent": {"version": "1", "text": "We keep it."},
}
COLLECTION = {
    **COMMON,
    "kind": "collection",
    "name": "load",
    "sentences": [{"id": f"s{number}", "text": f"Sentence {number}."} for number in range(4)],
    "submissions_per_session": 500,
    "max_megabytes": 5,
}
LISTENING = {
    **COMMON,
    "kind": "listening",
    "name": "load",
    "items_per_session": 8,
    "ratings_per_item": 100,
    "gold_per_session": 0,
    "traps_per_session": 0,
    "training_items": 0,
    "headphone_check": False,
    "complete_listening": False,
}
HIGH = dict.fromkeys(
    ("requests_per_minute", "uploads_per_minute", "logins_per_minute", "begins_per_minute"), 100_000_000
)


@dataclass
class Sender:
    """A session whose recordings are sent, and the ids of what it was asked to record."""

    cookie: str
    csrf: str
    tasks: list[str]


def make_study(folder: Path, campaign: dict[str, Any], options: argparse.Namespace) -> Study:
    folder.mkdir()
    (folder / "campaign.yaml").write_text(yaml.safe_dump(campaign), encoding="utf-8")
    settings = HIGH | {name: value for name in ("database", "storage") if (value := getattr(options, name))}
    (folder / "server.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    write_secret(folder)
    return Study.open(folder)


class Server:
    """``auriscope study serve`` as a process, and what it started."""

    def __init__(self, folder: Path, processes: int, workers: int) -> None:
        code = "from auriscope.cli import main; main()"
        command = [sys.executable, "-c", code, "study", "serve", str(folder), "--port", "0", "--json"]
        self._log = (folder / "log").open("ab")
        self.process = subprocess.Popen(
            [*command, "--processes", str(processes), "--workers", str(workers)],
            stdout=subprocess.PIPE, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the server did not start:\n{(folder / 'log').read_text()}")
        self.port = int(json.loads(line)["address"].rpartition(":")[2])
        wait_for(lambda: len(self.children()) == processes + workers and answers(self.port), 60)

    def children(self, kind: str = "") -> list[int]:
        """Name the processes of the web and the workers that run now."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError, IndexError):
                pid = int(entry.name)
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_text()
                if int(fields[1]) == self.process.pid and fields[0] != "Z" and kind in command:
                    found.append(pid)
        return found

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


@contextmanager
def serving(folder: Path, processes: int = 1, workers: int = 0) -> Iterator[Server]:
    server = Server(folder, processes, workers)
    try:
        yield server
    finally:
        server.stop()


def answers(port: int) -> bool:
    async def ask() -> bool:
        return (await Connection(port).ask("GET", "/"))[0] in (200, 303)

    with suppress(OSError, EOFError, TimeoutError):
        return asyncio.run(asyncio.wait_for(ask(), 5))
    return False


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the server is not ready in time")
        time.sleep(0.05)


class Connection:
    """A connection that is kept, as a browser does; much lighter than any client library."""

    def __init__(self, port: int | Callable[[], int]) -> None:
        self._port = port if callable(port) else lambda: port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request and give status, headers and body of the answer; OSError or EOFError if it breaks off."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port(), limit=1 << 20)
        reader, writer = self._streams
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode())
            writer.write(body)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in head[1:] if line}
            status = int(head[0].split()[1])
            content = await reader.readexactly(int(fields.get("content-length", 0)))
        except BaseException:
            self.close()
            raise
        if fields.get("connection") == "close":
            self.close()
        return status, fields, content

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def make_senders(study: Study, count: int, num_tasks: int) -> list[Sender]:
    senders = []
    with study.database.write() as session:
        for _ in range(count):
            visit, secret = begin(study, session, Arrival(), "en")
            rows = [
                {"id": new_id("tsk"), "session_id": visit.id, "position": position, "pair_id": "s0-s1",
                 "sentences": [{"id": "s0", "text": "One."}, {"id": "s1", "text": "Two."}]}
                for position in range(num_tasks)
            ]  # fmt: skip
            session.execute(Task.__table__.insert(), rows)  # type: ignore[attr-defined]
            senders.append(
                Sender(f"{SESSION_COOKIE}={secret}", csrf_token(study, secret), [str(row["id"]) for row in rows])
            )
    return senders


def make_recordings(count: int, num_bytes: int) -> list[tuple[bytes, str]]:
    found = []
    for seed in range(count):
        samples = np.random.default_rng(seed).integers(-9000, 9000, (num_bytes - 44) // 2, dtype=np.int16)
        file = io.BytesIO()
        soundfile.write(file, samples, 48_000, format="WAV", subtype="PCM_16")
        found.append((file.getvalue(), hashlib.sha256(file.getvalue()).hexdigest()))
    return found


def busy_seconds(pid: int) -> float:
    """Give the processor time of a process so far."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_running(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def resident(pid: int, what: str = "VmRSS") -> int:
    for line in (Path("/proc") / str(pid) / "status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"/proc tells no {what}")
