"""The review queue and the owners' decisions: one recording at a time for reviewers, all of them for owners."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Path, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session as OrmSession
from starlette.exceptions import HTTPException

from auriscope.study.participants import answers_of
from auriscope.study.review import (
    DECISIONS,
    MAX_NOTE_LETTERS,
    REASONS,
    VOTES,
    Filter,
    claim_next,
    count_matching,
    decide,
    decide_all,
    matching,
    release_claim,
    suggestion_of,
    tally,
    undecided,
    vote,
    waiting,
)
from auriscope.study.schema import Account, Review, Session, Submission
from auriscope.study.study import Study
from auriscope.study.web.admin_auth import AdminCsrfDep, OwnerDep, ReviewerDep, admin_page, told_on_a_page
from auriscope.study.web.audio import audio_key, audio_response, audio_token
from auriscope.study.web.pages import StudyDep

router = APIRouter(prefix="/admin", include_in_schema=False)

_PAGE_ROWS = 50

SubmissionId = Annotated[str, Path(pattern=r"^sub_[2-9a-z]{20}$")]
Reason = Annotated[str, Form(max_length=MAX_NOTE_LETTERS)]
Suggestion = Literal["", "good", "bad", "unsure", "open"]
Checks = Literal["", "passed", "failed", "open"]
PaymentState = Literal["", "pending", "approved", "rejected"]
UseState = Literal["", "pending", "included", "excluded"]


@router.get("/review")
def review_next(
    request: Request,
    study: StudyDep,
    account: ReviewerDep,
    skipped: Annotated[str | None, Query(pattern=r"^sub_[2-9a-z]{20}$")] = None,
    saved: Annotated[Literal["yes", ""], Query()] = "",
) -> Response:
    """Show the reviewer the recording to listen to now."""
    with study.database.write() as session:
        submission = claim_next(session, account.id, skipped=skipped)
        name = submission.id if submission is not None else None
    with study.database.read() as session:
        facts = _facts(study, session, account, name) if name is not None else None
        mine = select(func.count()).select_from(Review).where(Review.account_id == account.id)
        counts = {
            "mine": session.scalar(mine) or 0,
            "waiting": session.scalar(select(func.count()).select_from(waiting(tally()).subquery())) or 0,
        }
    return admin_page(
        request, "review.html.j2", account, facts=facts, counts=counts, votes=VOTES, reasons=REASONS, saved=bool(saved)
    )


@router.post("/review/{submission_id}", dependencies=[AdminCsrfDep])
def keep_vote(
    study: StudyDep,
    account: ReviewerDep,
    submission_id: SubmissionId,
    choice: Annotated[Literal["good", "bad", "unsure"], Form(alias="vote")],
    reasons: Annotated[list[str], Form(max_length=20)] = [],  # noqa: B006 - FastAPI copies it
    note: Reason = "",
) -> Response:
    """Keep a vote and go on to the next recording."""
    with told_on_a_page(), study.database.write() as session:
        vote(session, account.id, submission_id, choice, sorted(set(reasons)), note)
    return RedirectResponse("/admin/review?saved=yes", status_code=303)


@router.post("/review/{submission_id}/skip", dependencies=[AdminCsrfDep])
def skip(study: StudyDep, account: ReviewerDep, submission_id: SubmissionId) -> Response:
    """Leave a recording to others, and go on to the next."""
    with study.database.write() as session:
        release_claim(session, account.id, submission_id)
    return RedirectResponse(f"/admin/review?skipped={submission_id}", status_code=303)


@router.get("/audio/{token}")
def listen(request: Request, study: StudyDep, account: ReviewerDep, token: str) -> Response:
    """Play a recording or a track, by a link that was made for this account and ends."""
    return audio_response(study, audio_key(study, token, account.id), request)


@router.get("/submissions")
def list_submissions(
    request: Request,
    study: StudyDep,
    account: OwnerDep,
    suggestion: Suggestion = "",
    checks: Checks = "",
    payment: PaymentState = "",
    use: UseState = "",
    session: Annotated[str, Query(pattern=r"^[a-z0-9_]{0,40}$")] = "",
    start: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """List the recordings that a filter leaves, and offer to decide about all of them."""
    chosen = _filter(suggestion, checks, payment, use, session)
    with study.database.read() as database:
        total = count_matching(database, chosen)
        rows = database.execute(matching(chosen).offset(start).limit(_PAGE_ROWS)).all()
        open_ones = {field: count_matching(database, undecided(chosen, field)) for field in DECISIONS}
    given = {"suggestion": suggestion, "checks": checks, "payment": payment, "use": use, "session": session}

    def page_at(first: int) -> str:
        return "?" + urlencode({**{name: value for name, value in given.items() if value}, "start": first})

    return admin_page(
        request,
        "submissions.html.j2",
        account,
        rows=rows,
        total=total,
        start=start,
        given=given,
        open_ones=open_ones,
        before=page_at(max(start - _PAGE_ROWS, 0)) if start > 0 else None,
        after=page_at(start + _PAGE_ROWS) if start + _PAGE_ROWS < total else None,
    )


@router.post("/submissions/decide", dependencies=[AdminCsrfDep])
def decide_many(
    study: StudyDep,
    account: OwnerDep,
    field: Annotated[Literal["payment", "use"], Form()],
    decision: Annotated[Literal["approved", "rejected", "included", "excluded"], Form()],
    expected: Annotated[int, Form(ge=0)],
    sure: Annotated[Literal["yes"], Form()],  # noqa: ARG001 - the form is not taken without it
    reason: Reason = "",
    suggestion: Annotated[Suggestion, Form()] = "",
    checks: Annotated[Checks, Form()] = "",
    payment: Annotated[PaymentState, Form()] = "",
    use: Annotated[UseState, Form()] = "",
    session: Annotated[str, Form(pattern=r"^[a-z0-9_]{0,40}$")] = "",
) -> Response:
    """Decide about all recordings of a filter that are not decided yet."""
    chosen = _filter(suggestion, checks, payment, use, session)
    with told_on_a_page(), study.database.write() as database:
        decide_all(database, account.id, chosen, field, decision, reason, expected=expected)
    given = {"suggestion": suggestion, "checks": checks, "session": session}
    asked = urlencode({name: value for name, value in given.items() if value})
    return RedirectResponse("/admin/submissions" + (f"?{asked}" if asked else ""), status_code=303)


@router.get("/submissions/{submission_id}")
def show_submission(request: Request, study: StudyDep, account: OwnerDep, submission_id: SubmissionId) -> Response:
    """Show an owner all about a recording: what was found, voted and decided."""
    with study.database.read() as session:
        facts = _facts(study, session, account, submission_id)
        if facts is None:
            raise HTTPException(404)
        query = select(Review, Account.name).join(Account, Account.id == Review.account_id)
        reviews = session.execute(query.where(Review.submission_id == submission_id).order_by(Review.created_at))
        given = reviews.all()
    return admin_page(
        request,
        "submission.html.j2",
        account,
        facts=facts,
        reviews=given,
        reason_names=REASONS,
        suggestion=suggestion_of([review.vote for review, _ in given]),
        decisions=DECISIONS,
    )


@router.post("/submissions/{submission_id}/decide", dependencies=[AdminCsrfDep])
def decide_one(
    study: StudyDep,
    account: OwnerDep,
    submission_id: SubmissionId,
    field: Annotated[Literal["payment", "use"], Form()],
    decision: Annotated[Literal["pending", "approved", "rejected", "included", "excluded"], Form()],
    reason: Reason = "",
) -> Response:
    """Decide about the payment or the use of one recording."""
    with told_on_a_page(), study.database.write() as session:
        decide(session, account.id, submission_id, field, decision, reason)
    return RedirectResponse(f"/admin/submissions/{submission_id}", status_code=303)


def _filter(suggestion: str, checks: str, payment: str, use: str, session: str) -> Filter:
    return Filter(suggestion or None, checks or None, payment or None, use or None, session or None)


def _facts(study: Study, session: OrmSession, account: Account, submission_id: str) -> dict[str, Any] | None:
    """Gather what is shown of a recording; nothing of it names the worker."""
    submission = session.get(Submission, submission_id)
    if submission is None:
        return None
    visit = session.get_one(Session, submission.session_id)
    score = submission.score
    tracks = [
        {**track, "link": _link(study, account, str(track.get("storage_key", "")))}
        for track in (score.tracks if score is not None else [])
    ]
    return {
        "submission": submission,
        "link": _link(study, account, submission.storage_key),
        "seconds": submission.num_frames / submission.sample_rate,
        "sentences": [s.get("text", "") if isinstance(s, dict) else str(s) for s in submission.task.sentences],
        "checks": _checks(submission.checks),
        "is_checked": submission.checked_at is not None,
        "score": score,
        "tracks": tracks,
        "answers": answers_of(visit),
        "settings": {
            _SETTINGS.get(name, name): _plain(value) for name, value in submission.details.items() if value is not None
        },
    }


def _link(study: Study, account: Account, storage_key: str) -> str:
    return f"/admin/audio/{audio_token(study, storage_key, account.id)}"


# What a check's value is measured in, and on which side of the limit it passes.
_UNITS = {
    "silence": ("dBFS", "at least"),
    "clipping": ("of the samples", "at most"),
    "duration": ("s", ""),
    "one_voice": ("probability of two voices", "at least"),
    "level_balance": ("dB between the tracks", "at most"),
    "duplicate": ("alike", "below"),
    "prompts": ("of the words to be read", "at least"),
}
_SETTINGS = {
    "echoCancellation": "Echo cancellation",
    "noiseSuppression": "Noise suppression",
    "autoGainControl": "Automatic gain",
    "sampleRate": "Microphone's rate, Hz",
    "channelCount": "Microphone's channels",
    "recorded_at": "Recorded",
    "listened": "Listened to before sending",
}


def _checks(checks: dict[str, Any] | None) -> list[dict[str, Any]]:
    made = []
    for name, finding in (checks or {}).items():
        if isinstance(finding, dict):
            unit, side = _UNITS.get(name, ("", ""))
            value, limit = _plain(finding.get("value")), _plain(finding.get("limit"))
            made.append(
                {
                    "name": name.replace("_", " "),
                    "ok": finding.get("ok"),
                    "value": value if finding.get("value") is None else f"{value} {unit}".rstrip(),
                    "limit": f"{side} {limit}".lstrip(),
                    "of": finding.get("of"),
                }
            )
    return made


def _plain(value: Any) -> str:
    """Say a finding's value in a few letters.

    >>> _plain(0.123456), _plain([1, 2.5]), _plain({"min": 1, "max": None}), _plain(None)
    ('0.123', '1 to 2.5', 'min 1, max –', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return (" to " if len(value) == 2 else ", ").join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    return str(value)
