"""What the results mean, in sentences: no number is shown that the votes do not give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from auriscope.metrics.opinion import Estimate

if TYPE_CHECKING:
    from auriscope.study.analysis.results import Analysis, BlindAgainstOpinion, MeanOpinion, Trust

# From here on a correlation is called close (Evans, Straightforward Statistics, 1996, has strong from 0.6 on).
STRONG = 0.6

SCALES = {
    "quality": ("Quality of separated tracks", ("bad", "poor", "fair", "good", "excellent")),
    "naturalness": ("Naturalness of speech", ("bad", "poor", "fair", "good", "excellent")),
    "similarity": ("Similarity of voices", ("bad", "poor", "fair", "good", "excellent")),
    "interpretation": ("How well interpretations explain a class", ("bad", "poor", "fair", "good", "excellent")),
}
"""What was asked, by scale, and what the scores from 1 to 5 are called."""


def count(number: int, noun: str) -> str:
    """Say how many there are of something.

    >>> count(1, "vote"), count(12000, "vote")
    ('1 vote', '12,000 votes')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def number(value: float | None, digits: int = 2) -> str:
    """Write a number with a real minus, a dash where there is none.

    >>> number(-1.234), number(None), number(-0.001)
    ('−1.23', '–', '0.00')
    """
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def interval(estimate: Estimate, digits: int = 2) -> str:
    """Write the interval of an estimate.

    >>> interval(Estimate(0.5, 0.25, 0.75)), interval(Estimate(0.5))
    ('0.25 to 0.75', '–')
    """
    if estimate.low is None or estimate.high is None:
        return "–"
    return f"{number(estimate.low, digits)} to {number(estimate.high, digits)}"


def p_value(p: float | None) -> str:
    """Write a p-value.

    >>> p_value(0.0000001), p_value(0.0312), p_value(None)
    ('< 0.001', '0.031', '–')
    """
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def listed(names: Sequence[str]) -> str:
    """Join names as in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def headline(correlations: Sequence[BlindAgainstOpinion], scale: str) -> tuple[Trust, str]:
    """Say in a sentence whether the blind score can be trusted here."""
    pooled = next((row for row in correlations if row.scope == "pooled"), None)
    within = next((row for row in correlations if row.scope in ("within", "system")), None)
    if pooled is None or pooled.pearson.value is None:
        if not correlations and scale != "quality":
            return "unknown", "This study asked for opinions only: it has no blind scores to compare them with."
        return "unknown", "There are not enough blind scores and votes to compare."
    r = pooled.pearson
    if r.low is None or r.high is None:
        return "unknown", f"The correlation is {number(r.value)}, but too few mixtures were rated for an interval."
    told = f"r = {number(r.value)}, 95 % interval {interval(r)}"
    if r.high < 0:
        return "no", f"Tracks with a higher blind score were rated lower ({told})."
    if r.low <= 0:
        return "not shown", f"The blind score may have nothing to do with opinion ({told})."
    if within is not None and within.pearson.low is not None and within.pearson.low <= 0:
        return "partly", (
            f"To compare systems, but not single tracks: over all tracks the blind score follows opinion ({told}); "
            f"within a system it is not shown to (r = {number(within.pearson.value)}, {interval(within.pearson)})."
        )
    if r.low >= STRONG:
        return "yes", f"The blind score follows closely what people hear ({told})."
    return "partly", f"The blind score goes with what people hear, but loosely ({told})."


def findings(analysis: Analysis) -> list[str]:
    """Give the summary's sentences after the headline."""
    lines = []
    within = next((row for row in analysis.correlations if row.scope == "within"), None)
    pooled = next((row for row in analysis.correlations if row.scope == "pooled"), None)
    if within is not None and pooled is not None and within.pearson.value is not None:
        lines.append(
            f"Within systems, where only tracks differ, the correlation is {number(within.pearson.value)} "
            f"({interval(within.pearson)}); over all tracks it is {number(pooled.pearson.value)}."
        )
        if pooled.pearson.value is not None and pooled.pearson.value * within.pearson.value < 0:
            lines.append(
                "The two have opposite signs (Simpson's paradox): systems that the blind score prefers are rated "
                "otherwise than tracks that it prefers. Trust the one within systems for tracks."
            )
    lines += _findings_on_order(analysis)
    if analysis.ranks:
        lines.append(_finding_on_ranks(analysis))
    if analysis.num_dropped:
        lines.append(
            f"{count(analysis.num_dropped, 'rater')} of {analysis.num_raters} "
            f"{'was' if analysis.num_dropped == 1 else 'were'} left out by screening; the table of raters says why."
        )
    alpha = analysis.reliability.alpha.value
    if alpha is not None:
        lines.append(
            f"Single votes agree {_agreement(alpha)} (Krippendorff's alpha {number(alpha)}); the mean of all votes on "
            f"a track is {_trusted(analysis.reliability.icc_average)}."
        )
    return lines


def _findings_on_order(analysis: Analysis) -> list[str]:
    clear = [pair for pair in analysis.pairs if pair.p_holm is not None and pair.p_holm < 1 - analysis.confidence]
    known = [pair for pair in clear if pair.blind_db is not None and pair.difference.value is not None]
    if not known:
        return []
    wrong = [pair for pair in known if (pair.blind_db or 0.0) * (pair.difference.value or 0.0) < 0]
    if not wrong:
        if len(known) == 1:
            return [f"The blind score puts {known[0].first} and {known[0].second} in the order in which raters do."]
        return [f"The blind score orders systems as raters do, in all {len(known)} pairs where these clearly choose."]
    named = listed([f"{pair.first} and {pair.second}" for pair in wrong[:3]])
    return [
        f"The blind score orders systems against the raters in {len(wrong)} of the {len(known)} pairs where these "
        f"clearly choose: {named}."
    ]


def _finding_on_ranks(analysis: Analysis) -> str:
    first = analysis.ranks[0]
    if len(analysis.ranks) == 1:
        return f"The one system, {first.system}, has a mean opinion of {number(first.mean)}."
    equal = [rank.system for rank in analysis.ranks if rank.mean == first.mean]
    if len(equal) > 1:
        return f"{listed(equal)} have the same mean opinion ({number(first.mean)})."
    rivals = [rank.system for rank in analysis.ranks[1:] if rank.best == 1]
    if not rivals:
        return f"{first.system} is rated best, and clearly so ({number(first.mean)})."
    if len(rivals) == len(analysis.ranks) - 1 and first.worst == len(analysis.ranks):
        return f"{first.system} has the highest mean opinion ({number(first.mean)}), but the order is not shown."
    return f"{first.system} has the highest mean opinion ({number(first.mean)}); {listed(rivals[:3])} may be as good."


def notes_on_means(rows: Sequence[MeanOpinion]) -> list[str]:
    """Say what the votes on systems do not tell."""
    lines = []
    for row in rows:
        if row.num_votes == 1:
            lines.append(f"{row.system} has a single vote: its mean has no interval.")
        elif row.num_raters == 1 and row.num_mixtures == 1:
            lines.append(f"{row.system} was rated by one rater on one mixture: its mean has no interval.")
        elif row.num_raters == 1:
            lines.append(f"{row.system} was rated by one rater: its interval holds for this rater, on any mixture.")
        elif row.num_mixtures == 1:
            lines.append(f"{row.system} was rated on one mixture: its interval holds for this mixture, by any rater.")
        elif max(row.counts) == row.num_votes:
            lines.append(f"All votes on {row.system} are the same, so there is no interval.")
        elif min(row.num_raters, row.num_mixtures) < 5:
            lines.append(
                f"{row.system} has votes of {count(row.num_raters, 'rater')} on {count(row.num_mixtures, 'mixture')}: "
                "its interval is rough."
            )
    return lines


def _agreement(alpha: float) -> str:
    # Krippendorff, Content Analysis (2004), chapter 11: rely on 0.8, conclude tentatively from 0.667.
    if alpha >= 0.8:
        return "well"
    if alpha >= 0.667:
        return "fairly"
    return "moderately" if alpha >= 0.4 else "little"


def _trusted(icc: float | None) -> str:
    if icc is None:
        return "of unknown reliability"
    # Koo and Li, "A guideline of selecting and reporting intraclass correlation coefficients" (2016).
    word = "excellent" if icc >= 0.9 else "good" if icc >= 0.75 else "moderate" if icc >= 0.5 else "poor"
    return f"of {word} reliability (ICC(2,k) {number(icc)})"
