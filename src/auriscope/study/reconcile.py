"""Bringing files and rows together again after a crash: what may be removed, what is missing, what was forgotten.

A crash between the renaming of a file and the commit of its row leaves a file that nobody was told about: it is removed
after a grace time. A row without its file is never repaired in silence: it is reported, loudly.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, field
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session as OrmSession

from auriscope.study.campaign import Collection
from auriscope.study.ids import now
from auriscope.study.jobs import Jobs, has_work
from auriscope.study.removal import is_purge_due, purge
from auriscope.study.schema import Score, Submission
from auriscope.study.storage import Entry, digest
from auriscope.study.study import Study, audit

LOG = logging.getLogger("auriscope.study")

GRACE_SECONDS = 3600.0
"""Files without a row are left alone for so long: their row may be about to be committed."""

_SECONDS_BEFORE_FORGOTTEN = 60


@dataclass
class Reconciled:
    """What was found and done.

    ``swept`` files were begun and never kept, ``orphans`` whole files without a row (storage keys); both are removed.
    ``missing`` and ``damaged`` name submissions whose file is not there or not as it was acknowledged. ``enqueued``
    counts the jobs that were forgotten. ``purged`` says whether the database has forgotten what was deleted; None:
    there was nothing to forget.
    """

    swept: int = 0
    orphans: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    enqueued: int = 0
    purged: bool | None = None

    @property
    def ok(self) -> bool:
        """Whether every acknowledged recording is there."""
        return not self.missing and not self.damaged


def reconcile(
    study: Study, *, grace_seconds: float = GRACE_SECONDS, verify: bool = False, jobs: Jobs | None = None
) -> Reconciled:
    """Compare all files with all rows, remove what nobody was told about, report what is missing.

    ``verify`` reads every recording and compares its digest, not only its size. ``jobs`` takes the jobs that were
    forgotten. Rows that visitors have deleted since the last time are purged from the database's files.
    """
    found = Reconciled(swept=study.storage.sweep(grace_seconds))
    if isinstance(study.campaign, Collection):
        # Rows first: the file of a row that is there now was there before it.
        with study.database.read() as session:
            rows = session.execute(
                select(Submission.id, Submission.storage_key, Submission.num_bytes, Submission.sha256)
            ).all()
        files = {entry.key: entry for prefix in ("recordings/", "tracks/") for entry in study.storage.entries(prefix)}
        _compare(study, rows, files, found, verify=verify)
        _remove_orphans(study, {row[1] for row in rows}, files, grace_seconds, found)
        if jobs is not None:
            found.enqueued = _enqueue_forgotten(study, jobs)
    with study.database.read() as session:
        is_due = is_purge_due(session)
    if is_due:
        # Where others keep the database busy, it stays due until the next time.
        found.purged = purge(study)
    level = logging.INFO if found.ok else logging.ERROR
    LOG.log(level, json.dumps({"event": "reconciled", **asdict(found)}))
    if found.orphans or not found.ok:
        with study.database.write() as session:
            details = {"orphans": len(found.orphans), "missing": found.missing, "damaged": found.damaged}
            audit(session, "server", "reconcile", details=details)
    return found


def _compare(study: Study, rows: object, files: dict[str, Entry], found: Reconciled, *, verify: bool) -> None:
    for submission_id, key, num_bytes, sha256 in rows:  # type: ignore[attr-defined]
        entry = files.get(key)
        if entry is not None and entry.num_bytes == num_bytes and (not verify or digest(study.storage, key) == sha256):
            continue
        with study.database.read() as session:
            # Its contributor may have been removed since.
            if session.get(Submission, submission_id) is not None:
                (found.missing if entry is None else found.damaged).append(submission_id)


def _remove_orphans(
    study: Study, known: set[str], files: dict[str, Entry], grace_seconds: float, found: Reconciled
) -> None:
    oldest = time.time() - grace_seconds
    for key, entry in files.items():
        if key in known or entry.written_at > oldest:
            continue
        with study.database.read() as session:
            if _is_pointed_to(session, key):
                continue
        study.storage.delete(key)
        found.orphans.append(key)


def _is_pointed_to(session: OrmSession, key: str) -> bool:
    kind, _, name = key.partition("/")
    if kind == "recordings":
        return session.scalar(select(Submission.id).where(Submission.storage_key == key)) is not None
    score = session.get(Score, name.partition("/")[0])
    return score is not None and any(track.get("storage_key") == key for track in score.tracks)


def _enqueue_forgotten(study: Study, jobs: Jobs) -> int:
    """Enqueue what is left to do, unless there is a queue already: it may be in there."""
    if jobs.num_queued() > 0:
        return 0
    before = now() - timedelta(seconds=_SECONDS_BEFORE_FORGOTTEN)
    query = select(Submission, Score.submission_id).outerjoin(Score).where(Submission.received_at < before)
    with study.database.read() as session:
        waiting = [
            (submission.id, has_work(study, submission, scored=score is not None))
            for submission, score in session.execute(query)
        ]
    for submission_id, job in waiting:
        if job == "check":
            jobs.check(submission_id)
        elif job == "score":
            jobs.score(submission_id)
    return sum(job is not None for _, job in waiting)
