"""The files of an analysis: one page, and a CSV table for everything that it shows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from auriscope.metrics.opinion import Estimate
from auriscope.signal.outputs import make_folder, written_aside
from auriscope.study.analysis.report import page
from auriscope.study.analysis.results import Analysis, MeanOpinion
from auriscope.study.exports import cell

PAGE = "report.html"

Table = tuple[Sequence[str], Iterable[Sequence[Any]]]


def write_analysis(analysis: Analysis, out: Path) -> dict[str, Path]:
    """Write the page and the tables into a folder, which is made, and give their paths by name."""
    folder = make_folder(out)
    paths = {"report": folder / PAGE}
    for name, (header, rows) in tables(analysis).items():
        paths[name] = folder / f"{name}.csv"
        with (
            written_aside(paths[name]) as aside,
            aside.open("w", encoding="utf-8", newline="") as stream,
        ):
            # Some tell what people on crowd platforms did.
            aside.chmod(0o600)
            writer = csv.writer(stream, lineterminator="\r\n")
            writer.writerow(header)
            writer.writerows([cell(_rounded(value)) for value in row] for row in rows)
    with written_aside(paths["report"]) as aside:
        # A name may hold bytes that are no characters.
        aside.write_bytes(page(analysis).encode("utf-8", "replace"))
    analysis.paths = paths
    return paths


def tables(analysis: Analysis) -> dict[str, Table]:
    """Give the tables by name: their columns and rows."""
    return {
        "mos": (
            [
                "system", "class", "num_votes", "num_raters", "num_mixtures", "mean", *_bounds(""),
                "standard_deviation", *_bounds("as_independent_"), *(f"votes_{score}" for score in range(1, 6)),
                "blind_si_snr_db",
            ],
            [_mean(row) for row in [*analysis.means, *analysis.by_group]],
        ),
        "items": (
            [
                "item", "mixture", "system", "part", "label", "num_votes", "mean", *_bounds(""), "standard_deviation",
                "blind_si_snr_db", "beyond_expected",
            ],
            [
                (t.item, t.mixture, t.system, t.part, t.label, t.num_votes, *_three(t.mean), t.deviation, t.blind_db,
                 t.beyond_expected)
                for t in analysis.tracks
            ],
        ),
        "raters": (
            [
                "rater", "kept", "reasons", "num_votes", "num_checks", "num_failed", "share_hurried", "bias",
                "deviation", "slope", "num_compared", "distance_from_others", "share_within_one",
                "correlation_with_others",
            ],
            [
                (r.rater, not r.reasons, "; ".join(r.reasons), r.num_votes, r.num_checks, r.num_failed, r.hurried,
                 r.bias, r.deviation, r.slope, r.num_compared, r.distance, r.within_one, r.correlation)
                for r in analysis.raters
            ],
        ),
        "correlations": (
            [
                "scope", "system", "num_tracks", "num_mixtures", "num_votes", "pearson", *_bounds("pearson_"),
                "pearson_p", "spearman", *_bounds("spearman_"), "spearman_p", "reliability_of_opinion",
                "pearson_without_noise_of_raters",
            ],
            [
                (c.scope, c.system, c.num_tracks, c.num_mixtures, c.num_votes, *_three(c.pearson), c.pearson.p,
                 *_three(c.spearman), c.spearman.p, c.reliability, c.without_noise)
                for c in analysis.correlations
            ],
        ),
        "ranks": (
            ["system", "rank", "best", "worst", "mean"],
            [(r.system, r.rank, r.best, r.worst, r.mean) for r in analysis.ranks],
        ),
        "pairs": (
            ["first", "second", "difference", *_bounds(""), "p", "p_holm", "blind_difference_db"],
            [(p.first, p.second, *_three(p.difference), p.difference.p, p.p_holm, p.blind_db) for p in analysis.pairs],
        ),
        "epochs": (
            [
                "system", "epoch", "num_mixtures", "blind_si_snr_db", *_bounds("blind_"), "num_votes", "mean_opinion",
                *_bounds("opinion_"),
            ],
            [
                (e.system, e.epoch, e.num_mixtures, *_three(e.blind_db), e.num_votes, *_three(e.opinion))
                for e in analysis.epochs
            ],
        ),
        "synthetic_real": (
            [
                "system", "synthetic_corpora", "real_corpora", "num_synthetic", "num_real", "synthetic_db",
                *_bounds("synthetic_"), "real_db", *_bounds("real_"), "gap_db", *_bounds("gap_"), "published_system",
                "published_synthetic_db", "published_real_db",
            ],
            [
                (c.system, " ".join(c.synthetic_corpora), " ".join(c.real_corpora), c.num_synthetic, c.num_real,
                 *_three(c.synthetic_db), *_three(c.real_db), *_three(c.gap_db), c.published_system,
                 c.published_synthetic_db, c.published_real_db)
                for c in analysis.corpora
            ],
        ),
        "votes_used": (
            ["rater", "item", "mixture", "system", "part", "score", "seconds_on_page", "used"],
            [(v.rater, v.item, v.mixture, v.system, v.part, v.score, v.seconds, v.is_used) for v in analysis.votes],
        ),
        "bonuses": (
            # `auriscope study payments --decisions` reads it: a person's bonus goes with a session that is approved.
            ["rater", "bonus", "rank", "distance_from_others", "num_compared"],
            [
                (r.rater, r.bonus, r.bonus_rank, r.distance, r.num_compared)
                for r in analysis.raters
            ],
        ),
    }  # fmt: skip


def _bounds(prefix: str) -> tuple[str, str]:
    return f"{prefix}low", f"{prefix}high"


def _three(estimate: Estimate) -> tuple[float | None, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _mean(row: MeanOpinion) -> Sequence[Any]:
    independent = row.as_independent
    return (
        row.system, row.group, row.num_votes, row.num_raters, row.num_mixtures, *_three(row.mean), row.deviation,
        independent.low, independent.high, *row.counts, row.blind_db,
    )  # fmt: skip


def _rounded(value: Any) -> Any:
    """Six digits after the point: more are noise, and differ between machines."""
    return round(value, 6) + 0.0 if isinstance(value, float) else value
