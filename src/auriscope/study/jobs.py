"""What the worker does with recordings: check them, and score them without ground truth.

The queue only says that there is work; the database says what is left to do. So a job may come twice or get lost (the
reconciler finds what was forgotten), and doing it again changes nothing. Attempts are counted before they begin, so
that a recording that kills the worker is left alone after ``MAX_ATTEMPTS``.
"""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
from huey import Huey, RedisHuey, SqliteHuey
from huey.registry import Message
from huey.serializer import Serializer
from huey.storage import SqliteStorage
from sqlalchemy import select
from sqlalchemy.orm import undefer

from auriscope.errors import AuriscopeError
from auriscope.study import checks, heartbeat
from auriscope.study.decode import Decoded, DecodeError, decode
from auriscope.study.fingerprint import fingerprint
from auriscope.study.ids import now
from auriscope.study.schema import Score, Submission, Task
from auriscope.study.study import Study, audit
from auriscope.study.uploads import campaign_of

LOG = logging.getLogger("auriscope.study")

MAX_ATTEMPTS = 3
"""So often a job is tried."""

_IDLE_SECONDS = 0.5


@dataclass(frozen=True)
class TrackScore:
    """A separated track: its file, what is estimated of it, and whether the estimator knows such recordings."""

    path: Path
    blind_si_snr_db: float | None
    expected_error_db: float | None
    in_range: bool | None


@dataclass(frozen=True)
class ScoreFacts:
    """What a scorer found: the addresses of the two models, and the tracks."""

    separator: str
    estimator: str
    tracks: Sequence[TrackScore]


Scorer = Callable[[Path, Path], ScoreFacts]
"""Separates a recording, the first path, into a folder, the second, and scores the tracks; handed in from above."""

Transcriber = Callable[[Decoded], str]
"""Writes down what is said in a recording, in any order; handed in from above."""


class _Json(Serializer):  # type: ignore[misc]
    """Jobs as JSON: whoever can write to the queue must not be able to run code here, as pickles would let them."""

    def _serialize(self, data: Any) -> bytes:
        return json.dumps(list(data)).encode()

    def _deserialize(self, data: bytes) -> Message:
        return Message(*json.loads(bytes(data)))


class _QueueFile(SqliteStorage):  # type: ignore[misc]
    """A queue in a file that a crash cannot damage; its last jobs may be lost, and are then found again."""

    def _create_connection(self) -> Any:
        connection = super()._create_connection()
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection


class Jobs:
    """The queue of a study, for whoever adds jobs to it and, with ``work`` or ``drain``, for whoever does them."""

    def __init__(self, study: Study, scorer: Scorer | None = None, transcriber: Transcriber | None = None) -> None:
        self._study, self._scorer, self._transcriber = study, scorer, transcriber
        self._queue = _open(study.settings.queue)
        self._check = self._queue.task(name="check")(self._do_check)
        self._score = self._queue.task(name="score")(self._do_score)

    def check(self, submission_id: str) -> None:
        """Have a recording checked."""
        self._check(submission_id)

    def score(self, submission_id: str) -> None:
        """Have a recording separated and scored."""
        self._score(submission_id)

    def num_queued(self) -> int:
        """Count the jobs that nobody has begun."""
        return int(self._queue.pending_count())

    def do_one(self) -> bool:
        """Do the next job, if there is one, and say whether there was; problems are logged, not raised."""
        try:
            job = self._queue.dequeue()
        except Exception:
            # A message that nobody understands is gone from the queue; work goes on with the next.
            LOG.exception("a job could not be read")
            return True
        if job is None:
            return False
        self._queue.execute(job)
        return True

    def drain(self) -> int:
        """Do all jobs that there are, and count them."""
        count = 0
        while self.do_one():
            count += 1
        return count

    def work(self, stop: threading.Event) -> None:
        """Do jobs until ``stop`` is set, and say now and then that this worker is alive."""
        beating = threading.Thread(target=_beat, args=(self._study, stop), daemon=True)
        beating.start()
        while not stop.is_set():
            if not self.do_one():
                stop.wait(_IDLE_SECONDS)
        beating.join()

    def _do_check(self, submission_id: str) -> None:
        with _logged("check", submission_id):
            if check_submission(self._study, submission_id, self._transcriber) and self._scorer is not None:
                self.score(submission_id)

    def _do_score(self, submission_id: str) -> None:
        if self._scorer is None:
            return
        with _logged("score", submission_id):
            score_submission(self._study, submission_id, self._scorer)


def _open(queue: str) -> Huey:
    kind: dict[str, Any] = {"name": "auriscope-study", "results": False, "serializer": _Json()}
    if queue.startswith(("redis://", "rediss://")):
        return RedisHuey(url=queue, **kind)
    return SqliteHuey(filename=queue, storage_class=_QueueFile, cache_mb=1, timeout=30, **kind)


class _logged:  # noqa: N801 - a context manager
    """Logs a job's end, and its failure instead of raising it: it is tried again by the reconciler."""

    def __init__(self, job: str, submission_id: str) -> None:
        self._line = {"event": "job", "job": job, "submission": submission_id}

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        outcome = "done" if error is None else f"failed: {type(error).__name__}"
        LOG.log(logging.INFO if error is None else logging.ERROR, json.dumps({**self._line, "outcome": outcome}))
        if error is not None:
            LOG.error("a job failed", exc_info=error)
        return isinstance(error, Exception)


def _beat(study: Study, stop: threading.Event) -> None:
    while True:
        try:
            heartbeat.beat(study)
        except Exception:
            LOG.exception("the worker could not say that it is alive")
        if stop.wait(heartbeat.SECONDS_BETWEEN):
            return


def check_submission(study: Study, submission_id: str, transcriber: Transcriber | None = None) -> bool:
    """Check a recording and keep the findings; say whether it can be scored.

    With a ``transcriber`` what was said is compared with what was to be read.

    Raises whatever goes wrong that does not lie in the recording; the attempt is counted then.
    """
    with study.database.write() as session:
        submission = session.get(Submission, submission_id)
        if submission is None or submission.checks_failed >= MAX_ATTEMPTS:
            return False
        if submission.checked_at is not None:
            return (submission.checks or {}).get("decoding", {}).get("ok") is not False
        submission.checks_failed += 1
        if submission.checks_failed == MAX_ATTEMPTS:
            audit(session, "server", "submission.last_check", submission_id)
        sentences = [part["text"] for part in session.get_one(Task, submission.task_id).sentences]
    campaign = campaign_of(study)
    mark = ""
    try:
        with study.storage.local(submission.storage_key) as path:
            decoded = decode(path, max_seconds=campaign.max_seconds + 1)
    except DecodeError as error:
        found = checks.undecodable(str(error).partition(": ")[2])
    else:
        mark = fingerprint(decoded.mono, decoded.sample_rate)
        limits = checks.Limits(campaign.min_seconds, campaign.max_seconds)
        duplicate = _duplicate(study, submission, mark)
        found = checks.run_checks(decoded, limits, duplicate=duplicate, sentences=sentences, transcriber=transcriber)
    with study.database.write() as session:
        kept = session.get(Submission, submission_id)
        if kept is None:
            # Its contributor was removed meanwhile.
            return False
        if kept.checked_at is not None:
            # Another worker was quicker; scoring may have added to what it found.
            return "decoding" not in (kept.checks or {})
        kept.checks, kept.checked_at, kept.checks_failed, kept.fingerprint = found, now(), 0, mark
    return "decoding" not in found


def _duplicate(study: Study, submission: Submission, mark: str) -> dict[str, Any]:
    with study.database.read() as session:
        before = select(Submission).where(Submission.received_at < submission.received_at)
        twin = session.scalar(
            before.where(Submission.sha256 == submission.sha256).order_by(Submission.received_at).limit(1)
        )
        rows = session.execute(
            before.where(Submission.fingerprint.is_not(None)).with_only_columns(Submission.id, Submission.fingerprint)
        )
        earlier = ((row[0], row[1] or "") for row in rows.yield_per(200))
        return checks.find_duplicate(mark, None if twin is None else twin.id, earlier)


def score_submission(study: Study, submission_id: str, scorer: Scorer) -> None:
    """Separate and score a recording, keep the tracks, and compare their levels; nothing happens if it has a score.

    Raises whatever the scorer raises; the attempt is counted then.
    """
    with study.database.write() as session:
        submission = session.get(Submission, submission_id)
        if submission is None or submission.checked_at is None or submission.scoring_failed >= MAX_ATTEMPTS:
            return
        if session.get(Score, submission_id) is not None:
            return
        submission.scoring_failed += 1
    tracks, levels = [], []
    with (
        study.storage.local(submission.storage_key) as path,
        tempfile.TemporaryDirectory(prefix="auriscope-score-") as folder,
    ):
        facts = scorer(path, Path(folder))
        for number, track in enumerate(facts.tracks, start=1):
            key = f"tracks/{submission_id}/track{number}.wav"
            aside = study.storage.aside(key)
            try:
                aside.write(track.path.read_bytes())
                aside.keep()
            finally:
                aside.discard()
            levels.append(checks.track_level_dbfs(soundfile.read(track.path, dtype="float32")[0]))
            tracks.append(
                {
                    "storage_key": key,
                    "blind_si_snr_db": track.blind_si_snr_db,
                    "expected_error_db": track.expected_error_db,
                    "in_range": track.in_range,
                }
            )
    if not _keep_score(study, submission_id, facts, tracks, levels):
        for kept in tracks:
            study.storage.delete(str(kept["storage_key"]))


def _keep_score(
    study: Study, submission_id: str, facts: ScoreFacts, tracks: list[dict[str, Any]], levels: list[float]
) -> bool:
    with study.database.write() as session:
        # Its row's lock keeps a removal, or another worker with the same job, waiting.
        submission = session.scalar(
            select(Submission).where(Submission.id == submission_id).with_for_update().options(undefer("*"))
        )
        if submission is None:
            return False
        if session.get(Score, submission_id) is None:
            session.add(
                Score(submission_id=submission_id, separator=facts.separator, estimator=facts.estimator, tracks=tracks)
            )
        submission.scoring_failed = 0
        submission.checks = checks.with_levels(submission.checks or {}, levels)
    return True


def has_work(study: Study, submission: Submission, *, scored: bool) -> str | None:
    """Name the job that a submission waits for (``check`` or ``score``); None if there is none, or it has failed."""
    if submission.checked_at is None:
        return "check" if submission.checks_failed < MAX_ATTEMPTS else None
    undecodable = "decoding" in (submission.checks or {})
    if not scored and not undecodable and submission.scoring_failed < MAX_ATTEMPTS and scores(study):
        return "score"
    return None


def scores(study: Study) -> bool:
    """Whether recordings of this study are scored: ``separator: none`` in ``server.yaml`` says no."""
    return study.settings.separator != "none"


def require_collection(study: Study) -> None:
    """Raise ``AuriscopeError`` if there can be no jobs, because the study collects nothing."""
    if study.campaign.kind != "collection":
        raise AuriscopeError("a listening study has no recordings, so there is nothing for a worker to do")
