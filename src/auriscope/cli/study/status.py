"""``auriscope study status``: how a study stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auriscope.cli.console import emit, one_line_for, say
from auriscope.cli.options import Json
from auriscope.cli.study.options import Folder, opened

if TYPE_CHECKING:
    from datetime import datetime

    from auriscope.study.overview import Figures


def status(folder: Folder, json: Json = False) -> None:
    """Tell how a study stands: who took part, what arrived, what waits, what was decided."""
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study.campaign import Collection
        from auriscope.study.heartbeat import seen_at
        from auriscope.study.overview import figures

        with study.database.read() as session:
            found, worker = figures(study, session), seen_at(session)
        kind = study.campaign.kind
        if json:
            seen = worker.isoformat() if worker else None
            emit(
                {
                    "input": str(folder),
                    "name": study.campaign.name,
                    "kind": kind,
                    "worker_seen_at": seen,
                    **found.to_dict(),
                }
            )
            return
        say(f"{study.campaign.name} ({kind}): {'paused' if found.is_paused else 'open'}")
        finished = "" if found.completion is None else f" ({100 * found.completion:.0f} % finished)"
        say(f"sessions: {_counts(found.sessions)}{finished}")
        if isinstance(study.campaign, Collection):
            _tell_collection(found, worker)
        else:
            say(f"raters: {found.raters}; items with all their ratings: {found.items_complete} of {found.items}")
            say(f"votes: {sum(found.votes.values())}")


def _tell_collection(found: Figures, worker: datetime | None) -> None:
    say(f"recordings: {found.submissions}, {found.recorded_seconds / 3600:.2f} h, {found.bytes_stored / 1e6:.1f} MB")
    say(f"automatic checks: {found.checks_passed} passed; failing: {_counts(found.checks_failing) or 'none'}")
    say(f"review: {found.review_waiting} want votes; suggestions: {_counts(found.suggestions)}")
    say(f"payment: {_counts(found.payment)}; use: {_counts(found.use)}")
    seen = f"last seen {worker:%Y-%m-%d %H:%M:%S} UTC" if worker else "never seen; `auriscope study work` starts one"
    say(f"worker: {seen}; {_counts(found.work_left)}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
