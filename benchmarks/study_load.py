"""Load, kills, raters, stamps and memory of the study's server: the figures of the documentation, measured here.

Everything is started by this script in a temporary folder, and only 127.0.0.1 is addressed. The server shares the
machine with the load; the line at the top says what else kept it busy.

    python benchmarks/study_load.py                      # all rows
    python benchmarks/study_load.py uploads --seconds 20
    python benchmarks/study_load.py kills --kills 20 --database postgresql+psycopg://…
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from sqlalchemy import select

from auriscope.study import stamps
from auriscope.study.ids import new_id
from auriscope.study.participants import Arrival, begin
from auriscope.study.schema import Contributor, Session, Stamp, Submission
from auriscope.study.study import Study
from study_server import (
    COLLECTION,
    LISTENING,
    Connection,
    Sender,
    Server,
    busy_seconds,
    is_running,
    make_recordings,
    make_senders,
    make_study,
    resident,
    serving,
    wait_for,
)


@dataclass
class Row:
    """A line of the table."""

    what: str
    floor: str
    aim: str
    measured: str
    ok: bool


@dataclass
class Sent:
    """What was acknowledged, as submission and digest, how long each upload took in seconds, and what went wrong."""

    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


async def send_all(
    port: Callable[[], int], senders: list[Sender], recordings: list[tuple[bytes, str]], is_over: Callable[[], bool],
    *, patient: bool,
) -> Sent:  # fmt: skip
    """Send recordings over as many connections as there are senders; ``patient`` ones try again until acknowledged."""
    sent = Sent()

    async def send(sender: Sender, number: int) -> None:
        connection = Connection(port)
        for index, task in enumerate(sender.tasks):
            if is_over():
                break
            data, digest = recordings[(number + index) % len(recordings)]
            headers = {
                "Cookie": sender.cookie, "X-CSRF-Token": sender.csrf, "Content-Type": "audio/wav",
                "X-Content-SHA256": digest, "X-Recording-Details": '{"sampleRate": 48000, "listened": true}',
            }  # fmt: skip
            path = f"/api/submissions/{uuid4()}?task={task}"
            started = time.perf_counter()
            while True:
                try:
                    status, _, body = await asyncio.wait_for(connection.ask("PUT", path, headers, data), 60)
                except (OSError, EOFError, TimeoutError) as error:
                    status, body = 0, type(error).__name__.encode()
                    connection.close()
                if status in (200, 201) or not patient or is_over():
                    break
                await asyncio.sleep(0.1)
            if status in (200, 201):
                sent.seconds.append(time.perf_counter() - started)
                sent.acknowledged.append((json.loads(body)["submission"], digest))
            elif not is_over():
                sent.refused.append(f"{status} {body[:100]!r}")
        connection.close()

    await asyncio.gather(*(send(sender, number) for number, sender in enumerate(senders)))
    return sent


def percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else float("nan")


def uploads(folder: Path, options: argparse.Namespace) -> Row:
    study = make_study(folder, COLLECTION, options)
    senders = make_senders(study, options.connections, 400)
    recordings = make_recordings(8, 1_000_000)
    with serving(folder, options.processes) as server:
        before = sum(map(busy_seconds, server.children("study.serving")))
        own = time.process_time()
        started = time.monotonic()
        end = started + options.seconds
        sent = asyncio.run(
            send_all(lambda: server.port, senders, recordings, lambda: time.monotonic() > end, patient=False)
        )
        took = time.monotonic() - started
        own = time.process_time() - own
        busy = sum(map(busy_seconds, server.children("study.serving"))) - before
    wrong = damaged(study, sent.acknowledged)
    study.close()
    rate, slowest = len(sent.acknowledged) / took, percentile(sent.seconds, 99)
    text = f"{rate:.0f} / {slowest:.2f} s (median {percentile(sent.seconds, 50):.2f} s, {len(sent.refused)} refused)"
    for refusal in sorted(set(sent.refused))[:3]:
        print("  refused:", refusal, file=sys.stderr)
    count = max(1, len(sent.acknowledged))
    cost, own_cost = 1000 * busy / count, 1000 * own / count
    print(f"  {cost:.1f} ms of the server's processors per upload, {own_cost:.1f} of the load's", file=sys.stderr)
    what = f"1 MB uploads, {options.connections} connections: per second / p99"
    return Row(what, "60 / 2 s", "150 / 1 s", text, rate >= 60 and slowest <= 2 and not wrong and not sent.refused)


def damaged(study: Study, acknowledged: list[tuple[str, str]]) -> list[str]:
    """Name the acknowledged recordings that are not there byte by byte."""
    with study.database.read() as session:
        keys = {row[0]: row[1] for row in session.execute(select(Submission.id, Submission.storage_key))}
    wrong = []
    for submission, digest in acknowledged:
        try:
            with study.storage.open(keys[submission]) as file:
                if hashlib.sha256(file.read()).hexdigest() != digest:
                    wrong.append(f"{submission}: other bytes")
        except Exception as error:
            wrong.append(f"{submission}: {type(error).__name__}")
    return wrong


def kills(folder: Path, options: argparse.Namespace) -> Row:
    study = make_study(folder, COLLECTION, options)
    senders = make_senders(study, 20, 490)
    recordings = make_recordings(8, 300_000)
    chance = random.Random(1)
    ports = [0]
    over = False

    async def main() -> Sent:
        nonlocal over
        server = await asyncio.to_thread(Server, folder, options.processes, 1)
        ports[0] = server.port
        sending = asyncio.create_task(send_all(lambda: ports[0], senders, recordings, lambda: over, patient=True))
        for number in range(options.kills):
            await asyncio.sleep(chance.uniform(0.2, 2.0))
            # In turn a web process, a worker, and the one that watches them, whose children must end with it.
            kind = ("study.serving", "work", "")[number % 3]
            if kind:
                for pid in server.children(kind)[:1]:
                    os.kill(pid, signal.SIGKILL)
                continue
            left = server.children()
            server.process.kill()
            await asyncio.to_thread(server.process.wait)
            await asyncio.to_thread(wait_for, lambda left=left: not any(is_running(pid) for pid in left), 60)
            server = await asyncio.to_thread(Server, folder, options.processes, 1)
            ports[0] = server.port
        await asyncio.sleep(2)
        over = True
        sent = await sending
        await asyncio.to_thread(server.stop)
        return sent

    sent = asyncio.run(main())
    wrong = damaged(study, sent.acknowledged)
    for line in wrong[:5]:
        print("  lost:", line, file=sys.stderr)
    study.close()
    text = f"{len(wrong)} of {len(sent.acknowledged)} over {options.kills} kills"
    return Row("acknowledged uploads lost or damaged", "0", "0", text, not wrong and bool(sent.acknowledged))


def write_items(folder: Path, count: int) -> None:
    sounds = folder / "sounds"
    sounds.mkdir()
    rows = []
    for number in range(count):
        names = [f"sounds/{number}-{part}.wav" for part in ("mix", "a", "b")]
        for name, (data, _) in zip(names, make_recordings(3, 20_000), strict=True):
            (folder / name).write_bytes(data)
        rows.append({"name": f"i{number}", "system": "s", "mixture": names[0], "estimates": ";".join(names[1:])})
    with (folder / "items.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def raters(folder: Path, options: argparse.Namespace) -> Row:
    from auriscope.study import items

    study = make_study(folder, LISTENING, options)
    write_items(folder, 40)
    items.load_if_empty(study)
    study.close()
    pages: list[float] = []
    votes: list[float] = []
    errors: list[str] = []

    async def timed(kept: list[float], asked: Awaitable[tuple[int, dict[str, str], bytes]], wanted: int) -> bytes:
        started = time.perf_counter()
        status, _, body = await asked
        kept.append(time.perf_counter() - started)
        if status != wanted:
            errors.append(f"{status} instead of {wanted}: {body[:80]!r}")
        return body

    async def rate(port: int, number: int) -> None:
        chance = random.Random(number)
        connection = Connection(port)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        # They come within a few seconds, as after a post on a crowd platform.
        await asyncio.sleep(chance.uniform(0, options.think))
        welcome = (await timed(pages, connection.ask("GET", "/"), 200)).decode()
        hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', welcome)
        agreed = "&".join([*(f"{name}={value}" for name, value in hidden), "agree=yes"]).encode()
        _, headers, _ = await connection.ask("POST", "/begin", form, agreed)
        cookie = {"Cookie": headers["set-cookie"].partition(";")[0]}
        page = (await timed(pages, connection.ask("GET", "/questionnaire", cookie), 200)).decode()
        token = re.findall(r'data-csrf="([^"]+)"', page)[0]
        answered = f"hearing=normal&device=headphones&language1=english&csrf={token}".encode()
        await timed(pages, connection.ask("POST", "/questionnaire", cookie | form, answered), 303)
        await timed(pages, connection.ask("GET", "/rate", cookie), 200)
        await connection.ask("POST", "/rate/begin", cookie | form, f"csrf={token}".encode())
        for _ in range(8):
            await timed(pages, connection.ask("GET", "/rate", cookie), 200)
            trial = json.loads(await timed(pages, connection.ask("GET", "/api/trial", cookie), 200))
            await asyncio.sleep(chance.uniform(0.5, 1.5) * options.think)
            ballot = {"scores": [3, 4], "heard": [0.2] * 3, "plays": [1] * 3, "seconds_on_page": 2.0}
            sent = cookie | {"Content-Type": "application/json", "X-CSRF-Token": token}
            path = f"/api/trial/{trial['assignment']}/votes"
            await timed(votes, connection.ask("POST", path, sent, json.dumps(ballot).encode()), 200)
        connection.close()

    async def main(port: int) -> float:
        started = time.monotonic()
        await asyncio.gather(*(rate(port, number) for number in range(options.raters)))
        return time.monotonic() - started

    with serving(folder, options.processes) as server:
        before = sum(map(busy_seconds, server.children("study.serving")))
        took = asyncio.run(main(server.port))
        busy = sum(map(busy_seconds, server.children("study.serving"))) - before
    for error in sorted(set(errors))[:3]:
        print("  unexpected:", error, file=sys.stderr)
    per_request = 1000 * busy / max(1, len(pages) + len(votes))
    print(f"  {per_request:.1f} ms of the server's processors per request", file=sys.stderr)
    page, vote = percentile(pages, 99), percentile(votes, 99)
    per_second = (len(pages) + len(votes)) / took
    text = (
        f"{page:.2f} s, {vote:.2f} s ({per_second:.0f} requests/s, {options.think:g} s to think, {len(errors)} errors)"
    )
    return Row(f"{options.raters} raters at once: p99 of pages, of votes", "1 s", "0.3 s", text,
               max(page, vote) <= 1 and not errors)  # fmt: skip


def forged(folder: Path, options: argparse.Namespace) -> Row:
    study = make_study(folder, COLLECTION, options)
    chance = random.Random(0)
    issued = []
    with study.database.write() as session:
        for number in range(20):
            contributor = Contributor(platform="mturk", external_id=f"w{number}")
            session.add(contributor)
            session.flush()
            visit, _ = begin(study, session, Arrival("mturk", f"w{number}", {"assignmentId": f"a{number}"}), "en")
            session.add(Stamp(session_id=visit.id, subject_id=new_id("sub")))
            session.flush()
            issued.append(stamps.stamp_of(study, session, session.get_one(Session, visit.id)) or "")
    accepted = 0
    for number, stamp in enumerate(issued):
        own = stamps.redeem(study, stamp, "command", worker=f"w{number}")
        if not own.ok:
            raise SystemExit(f"a good stamp was refused: {own.reason}")
        # Nobody uses it again, nor hands it to somebody else.
        accepted += stamps.redeem(study, stamp, "command", worker=f"w{number}").ok
        accepted += stamps.redeem(study, stamp, "command", worker="somebody").ok
    letters = "23456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_."
    tried = 2 * len(issued)
    with study.database.read() as session:
        while tried < options.stamps:
            stamp = list(chance.choice(issued))
            # A letter changed, a signature of another stamp, a signature made up.
            kind = tried % 3
            if kind == 0:
                place = chance.randrange(len(stamp))
                stamp[place] = chance.choice([letter for letter in letters if letter != stamp[place]])
            elif kind == 1:
                stamp[24:] = chance.choice([other for other in issued if other[:24] != "".join(stamp[:24])])[24:]
            else:
                stamp[25:] = [chance.choice(letters[:-1]) for _ in stamp[25:]]
            text = "".join(stamp)
            verdict = stamps.verify(study, session, text)
            accepted += verdict.ok or (verdict.reason == "redeemed" and text not in issued)
            tried += 1
    study.close()
    return Row(f"accepted forged or replayed stamps of {tried:,}", "0", "0", str(accepted), accepted == 0)


def memory(folder: Path, options: argparse.Namespace) -> Row:
    study = make_study(folder, COLLECTION, options)
    (sender,) = make_senders(study, 1, 20)
    study.close()
    ((good, digest),) = make_recordings(1, 1_000_000)
    head = good[: 1 << 16]

    async def refuse(port: int, *, announced: bool) -> tuple[int, int]:
        """Send a gigabyte, announced or in chunks of unknown number; give the status and the bytes sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        how = "Content-Length: 1000000000" if announced else "Transfer-Encoding: chunked"
        lines = [
            f"PUT /api/submissions/{uuid4()}?task={sender.tasks[-1]} HTTP/1.1", "Host: 127.0.0.1", how,
            f"Cookie: {sender.cookie}", f"X-CSRF-Token: {sender.csrf}", "Content-Type: audio/wav",
            f"X-Content-SHA256: {digest}",
        ]  # fmt: skip
        writer.write("\r\n".join([*lines, "", ""]).encode())
        # It never stops by itself. Its answer is read meanwhile: unread, it would be lost when the connection breaks.
        answer = asyncio.create_task(reader.readuntil(b"\r\n"))
        block, num_bytes = head, 0
        with suppress(OSError):
            while num_bytes < 1_000_000_000:
                writer.write(block if announced else b"%x\r\n%b\r\n" % (len(block), block))
                await writer.drain()
                num_bytes += len(block)
                block = bytes(1 << 16)
        status = 0
        with suppress(OSError, EOFError, IndexError):
            status = int((await answer).split()[1])
        writer.close()
        return status, num_bytes

    with serving(folder) as server:
        (web,) = server.children("study.serving")
        # What every server needs once it has taken recordings is there before.
        connection = Connection(server.port)
        for task in sender.tasks[:10]:
            headers = {"Cookie": sender.cookie, "X-CSRF-Token": sender.csrf, "Content-Type": "audio/wav",
                       "X-Content-SHA256": digest}  # fmt: skip
            path = f"/api/submissions/{uuid4()}?task={task}"
            asked = connection.ask("PUT", path, headers, good)
            status, _, _ = asyncio.run(_once(asked, connection))
            if status != 201:
                raise SystemExit(f"a good recording was refused: {status}")
        (Path("/proc") / str(web) / "clear_refs").write_text("5")
        before = resident(web)
        found = [asyncio.run(refuse(server.port, announced=announced)) for announced in (True, False)]
        grown = (resident(web, "VmHWM") - before) / 1e6
    statuses = [status for status, _ in found]
    sizes = ", ".join(f"{num_bytes / 1e6:.0f} MB" for _, num_bytes in found)
    text = f"{grown:+.1f} MB (answers {statuses}, after {sizes})"
    return Row(
        "server memory while a 1 GB body is refused", "+20 MB", "+5 MB", text, grown <= 20 and set(statuses) == {413}
    )


async def _once(asked: Awaitable[Any], connection: Connection) -> Any:
    try:
        return await asked
    finally:
        connection.close()


ROWS: dict[str, Callable[[Path, argparse.Namespace], Row]] = {
    "uploads": uploads, "kills": kills, "raters": raters, "stamps": forged, "memory": memory,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="which rows; by default all")
    parser.add_argument("--seconds", type=float, default=20, help="how long uploads are sent")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--think", type=float, default=5, help="seconds a rater takes for a trial, on average")
    parser.add_argument("--stamps", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=1, help="web processes")
    parser.add_argument("--database", help="URL of an empty database; by default SQLite in the temporary folder")
    parser.add_argument("--storage", help="URL of a storage; by default a folder in the temporary folder")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each row")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="auriscope-load-", dir=options.folder) as folder:
        found = []
        for name in options.rows or ROWS:
            row = ROWS[name](Path(folder) / name, options)
            found.append(row)
            print(json.dumps(vars(row)) if options.json else f"{name}: {row.measured}", flush=True)
    if not options.json:
        print("\n| what | floor | aim | measured |\n|---|---|---|---|")
        for row in found:
            print(f"| {row.what} | {row.floor} | {row.aim} | {row.measured} |")
    print(f"load {os.getloadavg()[0]:.1f} after", file=sys.stderr)
    if not all(row.ok for row in found):
        raise SystemExit("a floor is not reached")


if __name__ == "__main__":
    main()
