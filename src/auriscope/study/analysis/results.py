"""What an analysis gives: rows of tables, with None where the votes do not tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from auriscope.metrics.opinion import Estimate

Trust = Literal["yes", "partly", "not shown", "no", "unknown"]


@dataclass(frozen=True)
class MeanOpinion:
    """A system's mean opinion: ``mean`` with an interval for all raters and mixtures, ``as_independent`` with
    Student's, as if votes had nothing in common. ``counts`` are the numbers of votes from 1 to 5.
    """

    system: str
    group: str | None
    num_votes: int
    num_raters: int
    num_mixtures: int
    mean: Estimate
    as_independent: Estimate
    deviation: float | None
    counts: tuple[int, ...]
    blind_db: float | None


@dataclass(frozen=True)
class TrackOpinion:
    """The opinion of one part of an item, for these very sounds: Student's interval over raters."""

    item: str
    mixture: str
    system: str
    part: int
    label: str
    num_votes: int
    mean: Estimate
    deviation: float | None
    blind_db: float | None
    beyond_expected: float | None = None


@dataclass(frozen=True)
class Rater:
    """What was found of a rater; None where nothing can be said. ``reasons``: why their votes are not used.

    ``distance``, ``within_one`` and ``correlation`` compare with the other raters who are kept.
    """

    rater: str
    sessions: tuple[str, ...]
    num_votes: int
    num_checks: int
    num_failed: int
    hurried: float | None
    bias: float | None
    deviation: float | None
    slope: float | None
    num_compared: int
    distance: float | None
    within_one: float | None
    correlation: float | None
    reasons: tuple[str, ...]
    bonus_rank: int | None = None
    bonus: float = 0.0


@dataclass(frozen=True)
class Rank:
    """A system's rank by mean opinion, from ``best`` to ``worst`` where the votes leave it open."""

    system: str
    rank: int
    best: int
    worst: int
    mean: float


@dataclass(frozen=True)
class Pair:
    """How much higher the first system's mean opinion is; ``p_holm`` is adjusted for the number of pairs.

    ``blind_db`` is the same difference of the mean blind estimates.
    """

    first: str
    second: str
    difference: Estimate
    p_holm: float | None
    blind_db: float | None


@dataclass(frozen=True)
class BlindAgainstOpinion:
    """Correlations of blind estimate and opinion in a scope: ``pooled``, ``within``, or ``system``, which is named."""

    scope: Literal["pooled", "within", "system"]
    system: str | None
    num_tracks: int
    num_mixtures: int
    num_votes: int
    pearson: Estimate
    spearman: Estimate
    reliability: float | None
    without_noise: float | None


@dataclass(frozen=True)
class EpochRow:
    """The mean blind estimate, and where people voted the mean opinion, at one epoch of training."""

    system: str
    epoch: float
    num_mixtures: int
    blind_db: Estimate
    num_votes: int
    opinion: Estimate


@dataclass(frozen=True)
class CorpusRow:
    """A system's mean blind estimate on synthetic and on real mixtures, in dB; published values stand apart."""

    system: str
    synthetic_corpora: tuple[str, ...]
    real_corpora: tuple[str, ...]
    num_synthetic: int
    num_real: int
    synthetic_db: Estimate
    real_db: Estimate
    gap_db: Estimate
    published_system: str | None
    published_synthetic_db: float | None
    published_real_db: float | None


@dataclass(frozen=True)
class Reliability:
    """How far raters agree: alpha with its interval, ICC(2,1) and ICC(2,k) for ``votes_per_track`` votes."""

    alpha: Estimate
    icc_single: float | None
    icc_average: float | None
    votes_per_track: float
    is_complete: bool


@dataclass(frozen=True)
class UsedVote:
    """A vote on a trial, and whether it was used."""

    rater: str
    item: str
    mixture: str
    system: str
    part: int
    score: int
    seconds: float | None
    is_used: bool


@dataclass
class Analysis:
    """Everything that the page and the tables show. ``trust`` and ``headline`` say whether the blind score follows
    opinion here; ``findings`` are sentences for the summary, ``notes`` those of sections: what cannot be said, and why.
    """

    title: str
    scale: str
    seed: int
    num_resamples: int
    screening: str
    confidence: float
    trust: Trust
    headline: str
    findings: list[str]
    notes: dict[str, list[str]]
    num_raters: int
    num_dropped: int
    num_votes: int
    num_votes_used: int
    num_mixtures: int
    num_items: int
    systems: list[str]
    means: list[MeanOpinion]
    by_group: list[MeanOpinion]
    ranks: list[Rank]
    pairs: list[Pair]
    correlations: list[BlindAgainstOpinion]
    between_systems: float | None
    reliability: Reliability
    epochs: list[EpochRow]
    corpora: list[CorpusRow]
    raters: list[Rater] = field(repr=False)
    tracks: list[TrackOpinion] = field(repr=False)
    votes: list[UsedVote] = field(repr=False)
    currency: str = "USD"
    paths: dict[str, Path] = field(default_factory=dict)
