"""Taking recordings so that none is lost: written aside, flushed, renamed, committed, and only then acknowledged.

The sender names every recording by a key of its own and says its SHA-256. Sending it again gives the same answer.
A crash at any moment leaves either an acknowledged recording or none; what it leaves behind besides,
:mod:`auriscope.study.reconcile` removes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session as OrmSession

from auriscope.errors import AuriscopeError
from auriscope.study import stamps
from auriscope.study.campaign import Collection
from auriscope.study.ids import new_id
from auriscope.study.participants import Refused, require_open
from auriscope.study.riff import HEAD_BYTES, Head, HeadError, read_head
from auriscope.study.schema import Session, Submission, Task
from auriscope.study.study import Study

# A recorder stops a little late.
_SPARE_SECONDS = 0.5
_STATUS = {"conflict": 409, "task": 404, "task_done": 409, "too_large": 413, "type": 415}
_MAX_DETAILS_BYTES = 2048
_DETAIL = re.compile(r"[A-Za-z][A-Za-z_]{0,39}")
# These tell one device from all others.
_IDENTIFYING = frozenset({"deviceId", "groupId", "label"})


class UploadError(AuriscopeError):
    """A recording is not taken; ``key`` says why in a word, ``status`` is HTTP's for it.

    ``conflict`` (the key stands for other bytes), ``task`` (nobody was asked that), ``task_done`` (it has its
    recording), ``too_large``, ``type`` (not a WAV file as it is taken), ``hash`` (other bytes arrived than were sent),
    ``cut_off``, ``too_short``, ``too_long``, ``details``.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key, self.status = key, _STATUS.get(key, 422)


@dataclass(frozen=True)
class Upload:
    """What the sender says of a recording: their name for it, what it answers, its digest, how it was recorded."""

    key: str
    task_id: str
    sha256: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Receipt:
    """The acknowledgement: the recording is safe. ``num_submissions`` counts those of the session."""

    submission: str
    sha256: str
    num_bytes: int
    num_submissions: int
    required: int
    finished: bool


def read_details(text: str | None) -> dict[str, Any]:
    """Read what the browser tells of a recording: a JSON object of plain values; what names the device is left out."""
    if text is None:
        return {}
    if len(text) > _MAX_DETAILS_BYTES:
        raise UploadError("details", f"the details are longer than {_MAX_DETAILS_BYTES} bytes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UploadError("details", "the details are no JSON object")
    return {
        key: value
        for key, value in values.items()
        if _DETAIL.fullmatch(key) and key not in _IDENTIFYING and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= 100 and value.isprintable()
    return isinstance(value, bool | None) or (isinstance(value, int | float) and abs(value) < 1e15)


def campaign_of(study: Study) -> Collection:
    """Give the campaign; ``Refused`` if the study does not collect recordings."""
    if not isinstance(study.campaign, Collection):
        raise Refused("not_found")
    return study.campaign


def max_bytes(study: Study) -> int:
    """Give the largest size of a recording in bytes."""
    return round(campaign_of(study).max_megabytes * 1_000_000)


def find(study: Study, session: OrmSession, visit: Session, key: str) -> Receipt | None:
    """Give the acknowledgement of a recording again; None if the session has sent none under this key."""
    submission = session.scalar(select(Submission).where(Submission.session_id == visit.id, Submission.key == key))
    return None if submission is None else _receipt(study, session, visit, submission)


def admit(study: Study, session: OrmSession, visit: Session, upload: Upload) -> Receipt | None:
    """Decide, before any of its bytes is read, whether a recording may come.

    Gives the acknowledgement if it is there already. Raises ``UploadError`` or ``Refused`` if it may not come.
    """
    if session.scalar(select(Task.id).where(*_asked(visit.id, upload))) is None:
        raise UploadError("task", "this session was not asked to record that")
    return _known(study, session, visit, upload)


def _asked(session_id: str, upload: Upload) -> tuple[ColumnElement[bool], ...]:
    return Task.id == upload.task_id, Task.session_id == session_id


def _known(study: Study, session: OrmSession, visit: Session, upload: Upload) -> Receipt | None:
    """Give the acknowledgement of a recording that is there already; None if it may come."""
    wanted = or_(Submission.key == upload.key, Submission.task_id == upload.task_id)
    alike = session.scalars(select(Submission).where(Submission.session_id == visit.id, wanted)).all()
    for submission in alike:
        if submission.key == upload.key:
            if submission.sha256 != upload.sha256:
                raise UploadError("conflict", "another recording was sent under this key")
            return _receipt(study, session, visit, submission)
    require_open(visit)
    if alike:
        raise UploadError("task_done", "this pair of sentences has its recording")
    return None


def _receipt(study: Study, session: OrmSession, visit: Session, submission: Submission) -> Receipt:
    count = select(func.count()).select_from(Submission).where(Submission.session_id == visit.id)
    return Receipt(
        submission=submission.id,
        sha256=submission.sha256,
        num_bytes=submission.num_bytes,
        num_submissions=session.scalar(count) or 0,
        required=campaign_of(study).submissions_per_session,
        finished=visit.state == "finished",
    )


class Intake:
    """A recording on its way in: bytes are counted, digested and written aside as they come.

    ``add`` raises ``UploadError`` as soon as the recording cannot be taken any more. ``keep`` makes it a submission.
    ``discard`` must follow unless ``keep`` succeeded; it may always follow. None of them may run on the event loop.
    """

    def __init__(self, study: Study, visit: Session, upload: Upload) -> None:
        self._study, self._visit, self._upload = study, visit, upload
        self._limit = max_bytes(study)
        self._id = new_id("sub")
        self._storage_key = f"recordings/{self._id}.wav"
        self._aside = study.storage.aside(self._storage_key)
        self._digest = hashlib.sha256()
        self._num_bytes = 0
        self._beginning = b""
        self._head: Head | None = None

    def add(self, data: bytes | bytearray) -> None:
        """Take the next bytes."""
        self._num_bytes += len(data)
        if self._num_bytes > self._limit:
            raise UploadError("too_large", f"the recording is larger than {self._limit} bytes")
        if self._head is None:
            self._beginning += data[: HEAD_BYTES - len(self._beginning)]
            self._read_head()
        self._digest.update(data)
        self._aside.write(data)

    def _read_head(self) -> None:
        try:
            self._head = read_head(self._beginning)
        except HeadError as error:
            raise UploadError("type", f"the recording {error}") from None
        if self._head is None:
            return
        campaign = campaign_of(self._study)
        if self._head.data_offset + self._head.data_bytes > self._limit:
            raise UploadError("too_large", f"the recording is larger than {self._limit} bytes")
        if self._head.seconds > campaign.max_seconds + _SPARE_SECONDS:
            raise UploadError("too_long", f"the recording is longer than {campaign.max_seconds:g} seconds")
        if self._head.seconds < campaign.min_seconds:
            raise UploadError("too_short", f"the recording is shorter than {campaign.min_seconds:g} seconds")

    def keep(self) -> tuple[Receipt, bool]:
        """Keep the recording for good, and give its acknowledgement and whether it is new.

        When this returns, the file and the row that points to it are on the disk. Raises ``UploadError`` or
        ``Refused`` if the recording cannot be taken.
        """
        if self._digest.hexdigest() != self._upload.sha256:
            raise UploadError("hash", "the recording arrived with other bytes than were sent")
        if self._head is None:
            raise UploadError("type", "the recording has no samples near its beginning")
        if self._head.data_offset + self._head.data_bytes > self._num_bytes:
            raise UploadError("cut_off", "the recording ends before its last sample")
        self._aside.keep()
        try:
            receipt = self._commit()
        except (Refused, UploadError):
            self._study.storage.delete(self._storage_key)
            raise
        # After any other error nobody knows whether the row was committed: the file stays, and the reconciler decides.
        if receipt.submission != self._id:
            self._study.storage.delete(self._storage_key)
        return receipt, receipt.submission == self._id

    def _commit(self) -> Receipt:
        try:
            return self._store()
        except IntegrityError:
            # Somebody else used the key at the same moment; now it can be seen.
            return self._store()

    def _store(self) -> Receipt:
        assert self._head is not None
        with self._study.database.write() as session:
            # Of two that come at once, the second waits here, and then sees the first. It is the lock without the
            # key, as in ``finish_if_complete``: rows that point to the task need not wait.
            asked = select(Task.id).where(*_asked(self._visit.id, self._upload)).with_for_update(key_share=True)
            if session.scalar(asked) is None:
                # A contributor who was removed has no tasks any more.
                raise Refused("session")
            visit = session.get(Session, self._visit.id)
            if visit is None or visit.state == "removed":
                raise Refused("session")
            known = _known(self._study, session, visit, self._upload)
            if known is not None:
                return known
            submission = Submission(
                id=self._id,
                session_id=visit.id,
                task_id=self._upload.task_id,
                key=self._upload.key,
                sha256=self._upload.sha256,
                num_bytes=self._num_bytes,
                storage_key=self._storage_key,
                sample_rate=self._head.sample_rate,
                num_channels=self._head.num_channels,
                num_frames=self._head.num_frames,
                details=dict(self._upload.details),
            )
            session.add(submission)
            session.flush()
            stamps.finish_if_complete(self._study, session, visit, submission.id)
            return _receipt(self._study, session, visit, submission)

    def discard(self) -> None:
        """Forget what was written aside."""
        self._aside.discard()
