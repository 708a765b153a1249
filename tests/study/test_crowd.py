"""Crowd platforms: who is due what, and the files in which the platforms take it."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from auriscope.errors import AuriscopeError
from auriscope.study.analysis import analyse, read_csv, write_analysis
from auriscope.study.campaign import Prolific
from auriscope.study.cells import without_formula
from auriscope.study.crowd import Override, Payout, completion_link, payouts, screen_out_link
from auriscope.study.database import Database
from auriscope.study.payments import read_overrides, write_payments
from auriscope.study.schema import Session, Submission
from auriscope.study.stamps import stamp_of
from auriscope.study.study import Study

TURK = {"platform": "mturk", "details": {"assignmentId": "A1", "hitId": "H1"}}


def decide(study: Study, session_id: str, *payments: str, reason: str | None = None) -> None:
    with study.database.write() as session:
        chosen = select(Submission).where(Submission.session_id == session_id).order_by(Submission.received_at)
        for submission, payment in zip(session.scalars(chosen), payments, strict=True):
            submission.payment = payment
            submission.payment_reason = reason if payment == "rejected" else None
            # It must not matter.
            submission.use = "excluded" if payment == "approved" else "included"


def due(study: Study, overrides: dict[str, Override] | None = None, **options: float) -> dict[str, Payout]:
    with study.database.read() as session:
        return {payout.session_id: payout for payout in payouts(study, session, overrides, **options)}


def all_due(study: Study) -> list[Payout]:
    with study.database.read() as session:
        return payouts(study, session)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def paying(study: Study, amount: float = 1.5, bonus: float = 0.25) -> Study:
    payment = study.campaign.payment.model_copy(update={"amount": amount, "bonus": bonus})
    study.campaign = study.campaign.model_copy(update={"payment": payment})
    return study


def test_only_prolific_participants_who_have_finished_get_the_link(
    collection: Study, take_part: Callable[..., str]
) -> None:
    links = {}
    for name, session_id in {
        "finished": take_part(collection, "P1"),
        "begun": take_part(collection, "P2", num_recordings=1),
        "turk": take_part(collection, "W1", **TURK),
        "link": take_part(collection),
    }.items():
        with collection.database.read() as session:
            links[name] = completion_link(collection, session.get_one(Session, session_id))
    assert links == {
        "finished": "https://app.prolific.com/submissions/complete?cc=C1A2B3",
        "begun": None,
        "turk": None,
        "link": None,
    }


def test_screened_out_participants_of_prolific_get_the_other_code(
    collection: Study, take_part: Callable[..., str]
) -> None:
    begun, turk = take_part(collection, "P1", num_recordings=0), take_part(collection, "W1", **TURK)
    with collection.database.read() as session:
        visits = [session.get_one(Session, name) for name in (begun, turk)]
    assert screen_out_link(collection, visits[0]) is None
    prolific = Prolific(completion_code="C1A2B3", screen_out_code="OUT99")
    collection.campaign = collection.campaign.model_copy(update={"prolific": prolific})
    assert [screen_out_link(collection, visit) for visit in visits] == [
        "https://app.prolific.com/submissions/complete?cc=OUT99",
        None,
    ]


def test_payment_follows_its_own_decision_and_waits_for_all_of_them(
    collection: Study, take_part: Callable[..., str]
) -> None:
    study = paying(collection)
    names = ("all", "half", "none", "undecided", "begun")
    sessions = {name: take_part(study, name, num_recordings=1 if name == "begun" else 2) for name in names}
    decide(study, sessions["all"], "approved", "approved")
    decide(study, sessions["half"], "approved", "rejected", reason="One voice only.")
    decide(study, sessions["none"], "rejected", "rejected", reason="Silence.")
    decide(study, sessions["undecided"], "approved", "pending")
    found = due(study)
    assert {name: found[session].decision for name, session in sessions.items()} == {
        "all": "approve", "half": "approve", "none": "reject", "undecided": "wait", "begun": "wait",
    }  # fmt: skip
    assert {name: (found[session].amount, found[session].bonus) for name, session in sessions.items()} == {
        "all": (1.5, 0.25), "half": (1.5, 0.0), "none": (0.0, 0.0), "undecided": (0.0, 0.0), "begun": (0.0, 0.0),
    }  # fmt: skip
    assert found[sessions["none"]].reason == "Silence."
    assert due(study, min_approved=0.75)[sessions["half"]].decision == "reject"


def test_decisions_by_hand_win_and_must_name_somebody(
    collection: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    study = paying(collection)
    session_id = take_part(study, "P1")
    file = tmp_path / "decisions.csv"
    file.write_text(f"session,decision,bonus,reason\n{session_id},approve,2.00,They wrote to us\n")
    payout = due(study, read_overrides(file))[session_id]
    assert (payout.decision, payout.amount, payout.bonus) == ("approve", 1.5, 2.0)
    with pytest.raises(AuriscopeError, match="ses_nobody: there is no such session"):
        due(study, {"ses_nobody": Override("approve")})
    for text, complaint in {
        "session,decision\nx,maybe\n": "line 2: 'maybe' is no decision",
        "session,bonus\nx,much\n": "line 2: the bonus 'much' is no amount",
        "session,bonus\nx,nan\n": "line 2: the bonus 'nan' is no amount",
        "who,bonus\nx,1\n": "has no column 'session'",
    }.items():
        file.write_text(text)
        with pytest.raises(AuriscopeError, match=complaint):
            read_overrides(file)


def test_a_listening_session_is_approved_when_finished(listening: Study, take_part: Callable[..., str]) -> None:
    session_id = take_part(listening, "P1", num_recordings=0)
    assert due(listening)[session_id].decision == "wait"
    with listening.database.write() as session:
        session.get_one(Session, session_id).state = "finished"
    assert due(listening)[session_id].decision == "approve"
    assert due(listening, {session_id: Override(bonus=0.5)})[session_id].bonus == 0.5


def test_a_persons_bonus_is_paid_with_one_of_their_sessions(
    listening: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    limits = listening.campaign.limits.model_copy(update={"sessions_per_contributor": 2})
    listening.campaign = listening.campaign.model_copy(update={"limits": limits})
    sessions = [take_part(listening, "P1", num_recordings=0) for _ in range(2)]
    with listening.database.write() as session:
        for session_id in sessions:
            visit = session.get_one(Session, session_id)
            visit.state = "finished"
    # As the analysis of a study writes them.
    file = tmp_path / "bonuses.csv"
    file.write_text(f"rater,bonus,rank,distance_from_others,num_compared\n{visit.contributor_id},0.5,1,0.2,40\n")
    found = due(listening, read_overrides(file))
    assert [found[session_id].bonus for session_id in sessions] == [0.5, 0.0]
    assert {payout.decision for payout in found.values()} == {"approve"}


def finish(study: Study, session_id: str, state: str = "finished") -> str:
    with study.database.write() as session:
        visit = session.get_one(Session, session_id)
        visit.state = state
        return visit.contributor_id


def twice(study: Study, take_part: Callable[..., str], num_recordings: int = 0) -> list[str]:
    limits = study.campaign.limits.model_copy(update={"sessions_per_contributor": 2})
    study.campaign = study.campaign.model_copy(update={"limits": limits})
    return [take_part(study, "P1", num_recordings=num_recordings) for _ in range(2)]


def test_a_persons_bonus_waits_for_a_session_that_is_approved(
    listening: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    begun, finished = twice(listening, take_part)
    person = finish(listening, finished)
    overrides = {person: Override(bonus=0.5)}
    assert [due(listening, overrides)[name].bonus for name in (begun, finished)] == [0.0, 0.5]
    with listening.database.read() as session:
        write_payments(listening, payouts(listening, session, overrides), tmp_path)
    # The first session ends after all: the bonus is not paid once more.
    finish(listening, begun)
    found = due(listening, overrides)
    assert [(found[name].bonus, found[name].bonus_is_handed_out) for name in (begun, finished)] == [
        (0.0, False),
        (0.5, True),
    ]


def test_a_persons_decision_without_bonus_leaves_their_sessions_bonuses(
    collection: Study, take_part: Callable[..., str]
) -> None:
    sessions = twice(paying(collection), take_part, num_recordings=2)
    for session_id in sessions:
        decide(collection, session_id, "approved", "approved")
    with collection.database.read() as session:
        person = session.get_one(Session, sessions[0]).contributor_id
    found = due(collection, {person: Override("approve", reason="Good work.")})
    assert [found[name].bonus for name in sessions] == [0.25, 0.25]


def test_a_persons_decision_is_about_finished_sessions(listening: Study, take_part: Callable[..., str]) -> None:
    begun, finished = twice(listening, take_part)
    person = finish(listening, finished)
    found = due(listening, {person: Override("approve", 0.5)})
    assert (found[begun].decision, found[begun].amount, found[begun].bonus) == ("wait", 0.0, 0.0)
    assert found[finished].decision == "approve"
    # By its own name, a session that is open is decided too.
    assert due(listening, {begun: Override("approve")})[begun].decision == "approve"


def test_what_mechanical_turk_cannot_pay_counts_as_not_paid(
    collection: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    study = paying(collection)
    known, unknown = take_part(study, "W1", **TURK), take_part(study, "W2", platform="mturk")
    for session_id in (known, unknown):
        decide(study, session_id, "approved", "approved")
    files = write_payments(study, all_due(study), tmp_path / "first")
    assert [row["WorkerId"] for row in table(tmp_path / "first" / "mturk-results.csv")] == ["W1"]
    assert [row["WorkerId"] for row in table(tmp_path / "first" / "mturk-bonus.csv")] == ["W1"]
    assert (files.bonus, files.without_assignment) == (0.25, [unknown])
    assert {name: payout.bonus_is_handed_out for name, payout in due(study).items()} == {known: True, unknown: False}
    # The results of Mechanical Turk tell the assignment that the stamp was handed in for.
    with study.database.read() as session:
        text = str(stamp_of(study, session, session.get_one(Session, unknown)))
    given = results(tmp_path / "Batch.csv", ("A2", "W2", text))
    files = write_payments(study, all_due(study), tmp_path / "second", results=given)
    assert (tmp_path / "second" / "mturk-bonus.csv").read_text().splitlines()[1:] == [
        "W2,A2,0.25,Thank you: all of your work was good."
    ]
    assert (files.bonus, files.without_assignment) == (0.25, [])
    assert due(study)[unknown].bonus_is_handed_out


def test_each_platform_gets_its_own_files(collection: Study, take_part: Callable[..., str], tmp_path: Path) -> None:
    study = paying(collection)
    people = {worker: take_part(study, worker) for worker in ("5f1a", "5f1b", "5f1c")}
    for number in (1, 2):
        details = {"assignmentId": f"A{number}", "hitId": "H1"}
        people[f"W{number}"] = take_part(study, f"W{number}", platform="mturk", details=details)
    people["guest"] = take_part(study)
    for worker in ("5f1a", "W1", "guest"):
        decide(study, people[worker], "approved", "approved")
    for worker in ("5f1b", "W2"):
        decide(study, people[worker], "rejected", "rejected", reason="Silence.")
    files = write_payments(study, all_due(study), tmp_path)
    assert (files.num_approved, files.num_rejected, files.num_waiting) == (3, 2, 1)
    assert (files.amount, files.bonus, files.currency) == (4.5, 0.5, "USD")
    assert (tmp_path / "prolific-approve.txt").read_text() == "5f1a\n"
    assert (tmp_path / "prolific-reject.txt").read_text() == "5f1b\n"
    assert (tmp_path / "prolific-bonus.csv").read_text() == "5f1a,0.25\n"
    assert (tmp_path / "mturk-results.csv").read_text() == (
        "HITId,AssignmentId,WorkerId,Approve,Reject\nH1,A1,W1,x,\nH1,A2,W2,,Silence.\n"
    )
    assert (tmp_path / "mturk-bonus.csv").read_text() == (
        "WorkerId,AssignmentId,BonusAmount,Reason\nW1,A1,0.25,Thank you: all of your work was good.\n"
    )
    rows = {row["session"]: row for row in table(tmp_path / "payments.csv")}
    assert set(rows) == set(people.values())
    assert rows[people["guest"]]["platform"] == "link"
    assert rows[people["5f1c"]]["decision"] == "wait"


def test_only_the_owner_reads_who_is_paid(collection: Study, take_part: Callable[..., str], tmp_path: Path) -> None:
    take_part(collection, "5f1a")
    before = os.umask(0o022)
    try:
        files = write_payments(collection, all_due(collection), tmp_path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.paths.values()} == {0o600}


def test_only_the_owner_reads_who_rated_what(tmp_path: Path) -> None:
    lines = ["rater,mixture,system,score"]
    lines += [f"r{n},m{m},{system},{1 + (n + m) % 5}" for n in range(3) for m in range(4) for system in "ab"]
    (tmp_path / "votes.csv").write_text("\n".join(lines))
    before = os.umask(0o022)
    try:
        paths = write_analysis(analyse(read_csv(tmp_path / "votes.csv")), tmp_path / "out")
    finally:
        os.umask(before)
    tables = [path for path in paths.values() if path.suffix == ".csv"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tables} == {0o600}


def test_only_the_owner_reads_a_new_database(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        database = Database(f"sqlite:///{tmp_path / 'study.db'}")
        database.prepare()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    database.close()
    assert "study.db-wal" in modes
    assert set(modes.values()) == {0o600}


def test_a_bonus_is_handed_out_once(collection: Study, take_part: Callable[..., str], tmp_path: Path) -> None:
    study = paying(collection)
    decide(study, take_part(study, "5f1a"), "approved", "approved")
    for folder, options, expected in (
        ("first", {}, "5f1a,0.25\n"),
        ("second", {}, ""),
        ("again", {"again": True}, "5f1a,0.25\n"),
        ("last", {}, ""),
    ):
        write_payments(study, all_due(study), tmp_path / folder, **options)
        assert (tmp_path / folder / "prolific-bonus.csv").read_text() == expected


def test_made_up_ids_reach_no_platform_and_no_formula_reaches_a_table(
    collection: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    session_id = take_part(collection, '=HYPERLINK("http://example.org")')
    decide(collection, session_id, "approved", "approved")
    files = write_payments(collection, all_due(collection), tmp_path)
    assert files.left_out == [session_id]
    assert not (tmp_path / "prolific-approve.txt").exists()
    assert table(tmp_path / "payments.csv")[0]["worker"].startswith("'=")
    assert without_formula("-1") == "'-1"


def results(path: Path, *rows: tuple[str, str, str]) -> Path:
    lines = ["HITId,AssignmentId,WorkerId,AssignmentStatus,Answer.surveycode,Approve,Reject"]
    lines += [f"H1,{assignment},{worker},Submitted,{text},," for assignment, worker, text in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_results_of_mechanical_turk_are_filled_in_by_the_stamps(
    collection: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    texts = {}
    for number in (1, 2, 3):
        details = {"assignmentId": f"A{number}"}
        session_id = take_part(collection, f"W{number}", platform="mturk", details=details)
        decide(collection, session_id, *(["rejected" if number == 2 else "approved"] * 2), reason="Silence.")
        with collection.database.read() as session:
            texts[number] = str(stamp_of(collection, session, session.get_one(Session, session_id)))
    given = results(
        tmp_path / "Batch_1.csv",
        ("A1", "W1", texts[1]),
        ("A2", "W2", texts[2]),
        ("A3", "W3", texts[3][:-2]),
        ("A4", "W4", texts[1]),
        ("A5", "W5", "done"),
    )
    # The second run sees the stamps used up by the same assignments.
    for folder in ("first", "second"):
        files = write_payments(collection, all_due(collection), tmp_path / folder, results=given)
        rows = {row["AssignmentId"]: row for row in table(tmp_path / folder / "mturk-results.csv")}
        assert {name: (row["Approve"], row["Reject"]) for name, row in rows.items()} == {
            "A1": ("x", ""), "A2": ("", "Silence."), "A3": ("", ""), "A4": ("", ""), "A5": ("", ""),
        }  # fmt: skip
        assert rows["A1"]["AssignmentStatus"] == "Submitted"
        assert {finding.assignment: finding.verdict.reason for finding in files.findings} == {
            "A3": "malformed", "A4": "not_theirs", "A5": "malformed",
        }  # fmt: skip
    write_payments(collection, all_due(collection), tmp_path / "strict", results=given, reject_invalid=True)
    rows = {row["AssignmentId"]: row for row in table(tmp_path / "strict" / "mturk-results.csv")}
    assert rows["A5"]["Reject"] == "The work stamp is not valid."
    assert rows["A1"]["Approve"] == "x"


def test_results_without_the_stamps_column_are_refused(collection: Study, tmp_path: Path) -> None:
    given = tmp_path / "Batch.csv"
    given.write_text("AssignmentId,WorkerId\nA1,W1\n")
    with pytest.raises(AuriscopeError, match=r"no column 'Answer\.surveycode'"):
        write_payments(collection, [], tmp_path / "out", results=given)
