"""Releases: the recordings that were included, under pseudonyms, as a versioned corpus.

Pseudonyms are digests (HMAC with SHA-256) under a salt that lies in the study's database and is never released: they
are the same in every version, and nobody can go from them back to an id.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Select, select
from sqlalchemy.orm import selectinload

from auriscope.errors import AuriscopeError
from auriscope.study.campaign import Collection
from auriscope.study.corpus import About, Built, Description, Recording, build
from auriscope.study.ids import LETTERS, now
from auriscope.study.schema import ConsentText, Release, Score, Session, Setting, Submission
from auriscope.study.study import Study, audit
from auriscope.study.words import words

_SALT = "release_salt"
# Ten of 30 letters: 49 bits, and a check that no two are the same.
_LENGTH = 10
_SETTINGS = {
    "echoCancellation": "echo_cancellation",
    "noiseSuppression": "noise_suppression",
    "autoGainControl": "auto_gain_control",
}


@dataclass(frozen=True)
class Released:
    """A release: where it lies, the digest of its checksums, and what it holds."""

    path: Path
    version: str
    sha256: str
    num_recordings: int
    num_sessions: int
    hours: float
    splits: Mapping[str, int]


def release(
    study: Study,
    version: str,
    out: Path,
    *,
    licence: str | None = None,
    licence_text: str | None = None,
    audio: Literal["flac", "wav"] = "flac",
    valid_percent: int = 10,
    test_percent: int = 10,
    actor: str = "command",
) -> Released:
    """Release the included recordings as ``out/NAME-VERSION``, and write down that it was done.

    A version can be made again from the same data, and gives the same bytes; from other data it is refused, and so is
    one that lies there already. Raises ``AuriscopeError``.
    """
    campaign = study.campaign
    if not isinstance(campaign, Collection):
        raise AuriscopeError(
            "a listening study has no recordings to release; `auriscope study analyse` gives its results"
        )
    salt = _salt(study)
    recordings = _recordings(study, salt)
    sources = {recording.source for recording in recordings}
    if not recordings:
        raise AuriscopeError("no recording is included yet: reviewers decide that, and payment apart from it")
    language = campaign.languages[0]
    about = About(
        name=campaign.name,
        title=campaign.title[language],
        version=version,
        origin=_ORIGIN,
        contact=campaign.contact,
        licence=licence,
        licence_text=licence_text,
        valid_percent=valid_percent,
        test_percent=test_percent,
        audio=audio,
    )
    built = build(recordings, about, out)
    try:
        _write_down(study, built, sources, version, actor)
        built.keep()
    except BaseException:
        built.discard()
        raise
    return released(built, version)


def released(built: Built, version: str) -> Released:
    """Say what a corpus that was built holds."""
    return Released(
        built.target,
        version,
        built.sha256,
        built.num_recordings,
        built.num_sessions,
        built.seconds / 3600,
        built.splits,
    )


_ORIGIN = """
Real recordings of two people who read two sentences aloud at once, in one room, into one microphone of a phone or a
computer. They were collected over the web with consent, checked by machine and by people, and only recordings that
reviewers included are here. There is no ground truth of the single voices.
"""


def pseudonym(salt: str, kind: str, name: str) -> str:
    """Give the pseudonym of a contributor, a session or a recording: ten letters.

    >>> pseudonym("salt", "session", "ses_1")
    'xkwtrhmhjw'
    """
    number = int.from_bytes(hmac.digest(salt.encode(), f"{kind}|{name}".encode(), "sha256"), "big")
    letters = []
    for _ in range(_LENGTH):
        number, letter = divmod(number, len(LETTERS))
        letters.append(LETTERS[letter])
    return "".join(letters)


def _salt(study: Study) -> str:
    with study.database.write() as session:
        setting = session.get(Setting, _SALT)
        if setting is None:
            setting = Setting(name=_SALT, value={"salt": secrets.token_urlsafe(32)})
            session.add(setting)
        return str(setting.value["salt"])


def _included(query: Select[Any]) -> Select[Any]:
    return query.join(Session).where(
        Submission.use == "included",
        Session.state.in_(("open", "finished")),
        Session.consent_sha256.is_not(None),
    )


def _recordings(study: Study, salt: str) -> list[Recording]:
    with study.database.read() as session:
        if not study.database.is_sqlite:
            # All tables as they are at one moment, as on SQLite: nobody is half removed.
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        included = session.scalars(
            _included(select(Submission)).options(
                selectinload(Submission.session).selectinload(Session.contributor),
                selectinload(Submission.task),
                selectinload(Submission.score),
            )
        ).all()
        versions = {consent.sha256: consent.version for consent in session.scalars(select(ConsentText))}
    recordings = [_recording(study, salt, submission, versions) for submission in included]
    if len({recording.name for recording in recordings}) < len(recordings):
        raise AuriscopeError(
            "two recordings have the same pseudonym; remove the setting release_salt to draw another salt"
        )
    return recordings


def _recording(study: Study, salt: str, submission: Submission, versions: Mapping[str, str]) -> Recording:
    visit, score = submission.session, submission.score
    return Recording(
        name=pseudonym(salt, "recording", submission.id),
        session=pseudonym(salt, "session", visit.id),
        contributor=pseudonym(salt, "contributor", visit.contributor_id),
        sentences=tuple((str(one["id"]), str(one["text"])) for one in submission.task.sentences),
        open=partial(study.storage.local, submission.storage_key),
        speakers=tuple(_description(answers) for answers in (visit.answers or {}).get("speakers", ())),
        language=visit.language,
        month=f"{submission.received_at:%Y-%m}",
        consent_version=versions.get(visit.consent_sha256 or ""),
        settings={ours: _flag(submission.details.get(theirs)) for theirs, ours in _SETTINGS.items()},
        scores=tuple(track.get("blind_si_snr_db") for track in score.tracks) if score else (),
        scored_by=_scored_by(score),
        source=submission.id,
        is_told_apart=visit.contributor.external_id is not None,
    )


def _description(answers: Mapping[str, Any]) -> Description:
    gender, language = answers.get("gender"), answers.get("native_language")
    return Description(
        gender=None if gender == "undisclosed" else gender,
        native=answers.get("native"),
        # What was written in free words may say more than a language.
        native_language=language if f"languages.{language}" in words("en") else None,
    )


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _scored_by(score: Score | None) -> str | None:
    return None if score is None else f"{score.separator}, {score.estimator}"


def _write_down(study: Study, built: Built, sources: set[str], version: str, actor: str) -> None:
    with study.database.write() as session:
        # Locked, so that whoever removes a contributor afterwards finds the version among those that hold them.
        included = session.scalars(_included(select(Submission.id)).with_for_update(of=Submission, read=True))
        if gone := sources - set(included):
            raise AuriscopeError(
                f"{len(gone)} recordings were removed or excluded while the release was made; make it again"
            )
        known = session.get(Release, version)
        if known is not None:
            if known.sha256 != built.sha256:
                raise AuriscopeError(
                    f"version {version} was released with other contents ({known.created_at:%Y-%m-%d}); choose another"
                )
            return
        session.add(
            Release(version=version, sha256=built.sha256, num_submissions=built.num_recordings, created_at=now())
        )
        audit(session, actor, "release", version, {"sha256": built.sha256, "submissions": built.num_recordings})
