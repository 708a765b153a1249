"""Files for the crowd platforms, each in the platform's own format, and the decisions that people make by hand.

Mechanical Turk's results are a CSV file with columns ``Approve`` (an x) and ``Reject`` (the reason), as its requesters
upload them (Requester UI Guide, "Reviewing Assignments Offline"). Prolific takes lists of participants' ids and, for
bonuses, lines ``id,amount`` (its help pages, "Bonus payments").
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import make_folder, printable, reason, written_aside
from auriscope.study.cells import without_formula
from auriscope.study.crowd import Decision, Override, Payout, record_bonuses
from auriscope.study.stamps import Verdict, redeem_for_assignment
from auriscope.study.study import Study

STAMP_COLUMN = "Answer.surveycode"
"""Where Mechanical Turk's results hold what workers pasted, if the field is called ``surveycode``."""

# The platforms' ids are letters and digits. Others came from a made-up address, and could be formulas in a table.
_PLATFORM_ID = re.compile(r"[A-Za-z0-9]{1,64}")
_NAMES = ("session", "contributor", "rater")
_DECISIONS = ("approve", "reject", "wait")


@dataclass(frozen=True)
class Finding:
    """What was found of the text that a worker handed in for an assignment."""

    assignment: str
    worker: str
    verdict: Verdict
    decision: Decision


@dataclass
class PaymentFiles:
    """What was written: ``paths`` by kind, how many sessions are approved, rejected and wait, and what is to be paid.

    ``left_out`` are sessions whose platform ids are of no form that the platform gives; ``without_assignment`` are
    decided sessions of Mechanical Turk whose assignment is not known, so that its files cannot name them. ``findings``
    are the assignments of Mechanical Turk's results whose stamp does not hold. ``bonus`` sums what stands in the files.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    num_approved: int = 0
    num_rejected: int = 0
    num_waiting: int = 0
    amount: float = 0.0
    bonus: float = 0.0
    currency: str = ""
    left_out: list[str] = field(default_factory=list)
    without_assignment: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_table(path: Path, needed: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Read a CSV file with a line of names: the names, and the rows. ``AuriscopeError`` if one of ``needed`` lacks."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="", strict=True)
            names = list(reader.fieldnames or ())
            rows = [{name: row[name] for name in names} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AuriscopeError(f"{printable(path)}: cannot be read as a table ({reason(error)})") from None
    for name in needed:
        if name not in names:
            raise AuriscopeError(f"{printable(path)}: has no column {name!r}; its first line must name it")
    return names, rows


def read_overrides(path: Path) -> dict[str, Override]:
    """Read decisions made by hand: a CSV file with ``session`` (or ``contributor``, or ``rater``) and any of
    ``decision`` (approve, reject, wait), ``bonus`` (an amount) and ``reason``.
    """
    names, rows = read_table(path, ())
    by = next((name for name in _NAMES if name in names), None)
    if by is None:
        raise AuriscopeError(f"{printable(path)}: has no column 'session'; its first line must name it")
    found = {}
    for number, row in enumerate(rows, start=2):
        decision, bonus = row.get("decision", "").strip(), row.get("bonus", "").strip()
        if decision and decision not in _DECISIONS:
            raise AuriscopeError(
                f"{printable(path)}, line {number}: {decision!r} is no decision; write approve, reject or wait"
            )
        try:
            amount = float(bonus) if bonus else None
        except ValueError:
            amount = -1.0
        if amount is not None and not 0 <= amount < 10_000:
            raise AuriscopeError(f"{printable(path)}, line {number}: the bonus {bonus!r} is no amount")
        made = cast(Decision, decision) if decision else None
        found[row[by].strip()] = Override(made, amount, row.get("reason", "").strip())
    return found


def fill_results(
    study: Study, rows: Iterable[dict[str, str]], payouts: Iterable[Payout], column: str, reject_invalid: bool
) -> list[Finding]:
    """Fill ``Approve`` and ``Reject`` of Mechanical Turk's results by the stamps that workers handed in.

    A stamp is used up by the assignment that brings it first. Rows whose stamp does not hold stay open for a person to
    look at, unless ``reject_invalid``; so do rows that were decided before. Gives a finding for every row.
    """
    due = {payout.session_id: payout for payout in payouts}
    findings = []
    for row in rows:
        verdict = redeem_for_assignment(study, row[column], row["WorkerId"].strip(), row["AssignmentId"].strip())
        decision: Decision = "wait"
        row.setdefault("Approve", "")
        row.setdefault("Reject", "")
        payout = due.get(verdict.session_id or "")
        rejection = "The work stamp is not valid." if reject_invalid else ""
        if verdict.ok and payout is not None:
            decision, rejection = payout.decision, payout.reason
        elif reject_invalid:
            decision = "reject"
        if not row["Approve"] and not row["Reject"]:
            if decision == "approve":
                row["Approve"] = "x"
            elif decision == "reject":
                row["Reject"] = rejection
        findings.append(Finding(row["AssignmentId"], row["WorkerId"], verdict, decision))
    return findings


def write_payments(
    study: Study,
    payouts: Sequence[Payout],
    out: Path,
    *,
    results: Path | None = None,
    column: str = STAMP_COLUMN,
    reject_invalid: bool = False,
    again: bool = False,
) -> PaymentFiles:
    """Write the files of all platforms that people came from, and ``payments.csv``, which holds every session.

    Args:
        study: the study.
        payouts: what sessions are due.
        out: the folder; files of earlier runs in it are replaced.
        results: Mechanical Turk's results as they were downloaded; they are written back, filled in. Without them the
            file names the assignments that workers came with.
        column: which column of them holds the stamps.
        reject_invalid: whether to reject assignments whose stamp does not hold.
        again: whether to hand out bonuses that were handed out before.
    """
    make_folder(out)
    files = PaymentFiles(currency=study.campaign.payment.currency)
    _count(files, payouts)
    usable = [payout for payout in payouts if payout.worker and _PLATFORM_ID.fullmatch(payout.worker)]
    files.left_out = [payout.session_id for payout in payouts if payout.worker and payout not in usable]
    bonuses = [payout for payout in usable if payout.bonus > 0 and (again or not payout.bonus_is_handed_out)]
    turk = [payout for payout in usable if payout.platform == "mturk"]
    prolific = [payout for payout in usable if payout.platform == "prolific"]
    written: list[Payout] = []
    # A task that was returned and accepted again has another assignment than the one that somebody came with.
    assignments = {payout.session_id: payout.assignment for payout in turk if payout.assignment}
    if results is not None:
        names, rows = read_table(results, ("AssignmentId", "WorkerId", column))
        findings = fill_results(study, rows, payouts, column, reject_invalid)
        files.findings = [finding for finding in findings if not finding.verdict.ok]
        assignments |= {str(one.verdict.session_id): one.assignment for one in findings if one.verdict.ok}
        _write(files, out, "mturk-results.csv", _table([*dict.fromkeys([*names, "Approve", "Reject"])], rows))
    elif turk:
        known = [payout for payout in turk if payout.assignment]
        _write(files, out, "mturk-results.csv", _table(_TURK, map(_turk_row, known)))
    if turk:
        awards = [
            replace(payout, assignment=assignments[payout.session_id])
            for payout in bonuses
            if payout.platform == "mturk" and payout.session_id in assignments
        ]
        _write(files, out, "mturk-bonus.csv", _table(_TURK_BONUS, map(_turk_bonus, awards)))
        written += awards
        files.without_assignment = [
            payout.session_id for payout in turk if payout.decision != "wait" and payout.session_id not in assignments
        ]
    if prolific:
        for decision in ("approve", "reject"):
            lines = [f"{payout.worker}\n" for payout in prolific if payout.decision == decision]
            _write(files, out, f"prolific-{decision}.txt", "".join(lines))
        awards = [payout for payout in bonuses if payout.platform == "prolific"]
        lines = [f"{payout.worker},{payout.bonus:.2f}\n" for payout in awards]
        _write(files, out, "prolific-bonus.csv", "".join(lines))
        written += awards
    _write(files, out, "payments.csv", _table(_ALL, map(_row, payouts)))
    files.bonus = sum(payout.bonus for payout in written)
    # Only now that the files are whole: a run that was cut off before hands the bonuses out again.
    record_bonuses(study, [payout for payout in written if not payout.bonus_is_handed_out], "command")
    return files


BONUS_REASON = "Thank you: all of your work was good."

_TURK = ("HITId", "AssignmentId", "WorkerId", "Approve", "Reject")
_TURK_BONUS = ("WorkerId", "AssignmentId", "BonusAmount", "Reason")
_ALL = (
    *("session", "contributor", "platform", "worker", "assignment", "batch", "state", "stamp", "decision", "reason"),
    *("amount", "bonus", "bonus_handed_out_before", "approved", "rejected", "pending"),
)


def _turk_row(payout: Payout) -> dict[str, str]:
    return {
        "HITId": payout.batch or "",
        "AssignmentId": payout.assignment or "",
        "WorkerId": payout.worker or "",
        "Approve": "x" if payout.decision == "approve" else "",
        "Reject": payout.reason if payout.decision == "reject" else "",
    }


def _turk_bonus(payout: Payout) -> dict[str, str]:
    return {
        "WorkerId": payout.worker or "",
        "AssignmentId": payout.assignment or "",
        "BonusAmount": f"{payout.bonus:.2f}",
        "Reason": BONUS_REASON,
    }


def _row(payout: Payout) -> dict[str, str]:
    values: dict[str, Any] = {
        "session": payout.session_id,
        "contributor": payout.contributor_id,
        "platform": payout.platform,
        "worker": payout.worker or "",
        "assignment": payout.assignment or "",
        "batch": payout.batch or "",
        "state": payout.state,
        "stamp": "issued" if payout.has_stamp else "",
        "decision": payout.decision,
        "reason": payout.reason,
        "amount": f"{payout.amount:.2f}",
        "bonus": f"{payout.bonus:.2f}",
        "bonus_handed_out_before": "yes" if payout.bonus_is_handed_out else "no",
        "approved": payout.num_approved,
        "rejected": payout.num_rejected,
        "pending": payout.num_pending,
    }
    return {name: str(value) for name, value in values.items()}


def _count(files: PaymentFiles, payouts: Iterable[Payout]) -> None:
    for payout in payouts:
        files.num_approved += payout.decision == "approve"
        files.num_rejected += payout.decision == "reject"
        files.num_waiting += payout.decision == "wait"
        files.amount += payout.amount


def _table(names: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: without_formula(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _write(files: PaymentFiles, out: Path, name: str, text: str) -> None:
    with written_aside(out / name) as path:
        # It says who is paid what.
        path.chmod(0o600)
        path.write_text(text, encoding="utf-8")
    files.paths[name] = out / name
