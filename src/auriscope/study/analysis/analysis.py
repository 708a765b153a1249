"""From a study's votes to its results, in the order in which the page tells them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auriscope.errors import AuriscopeError
from auriscope.metrics.agreement import intraclass_correlation, krippendorff_interval, vote_counts
from auriscope.metrics.opinion import CrossedMeans, Estimate, crossed_means, holm, rank_bounds, t_interval
from auriscope.metrics.screening import Limits, Method, Screening, leave_one_out, screen
from auriscope.study.analysis import blind, words
from auriscope.study.analysis.results import (
    Analysis,
    MeanOpinion,
    Pair,
    Rank,
    Rater,
    Reliability,
    TrackOpinion,
    UsedVote,
)
from auriscope.study.analysis.tables import Data, ItemFacts, VoteRow

Codes = NDArray[np.int64]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """How to analyse: ``seed`` and ``num_resamples`` of what is computed again from random weights, the method of
    screening, the ``confidence`` of intervals. ``real`` names the corpora of real recordings, None: those with "real"
    in their name. The nearest ``bonus_share`` of the raters get ``bonus``, None: what the campaign says.
    """

    seed: int = 0
    num_resamples: int = 2000
    screening: Method = "standard"
    confidence: float = 0.95
    real: tuple[str, ...] | None = None
    bonus: float | None = None
    bonus_share: float = 0.5


class Ballots:
    """The votes on trials as arrays: raters, tracks (parts of items), mixtures and systems by their place."""

    def __init__(self, data: Data) -> None:
        first: dict[tuple[str, str, int], VoteRow] = {}
        trials = [vote for vote in data.votes if data.items[vote.item].role == "trial"]
        for vote in trials:
            first.setdefault((vote.rater, vote.item, vote.part), vote)
        self.num_repeated = len(trials) - len(first)
        self.rows = list(first.values())
        self.rater_names = sorted({vote.rater for vote in data.votes})
        place = {name: index for index, name in enumerate(self.rater_names)}
        self.items = data.items
        self.track_names = sorted({(vote.item, vote.part) for vote in self.rows})
        tracks = {name: index for index, name in enumerate(self.track_names)}
        self.raters: Codes = np.array([place[vote.rater] for vote in self.rows], dtype=np.int64)
        self.tracks: Codes = np.array([tracks[vote.item, vote.part] for vote in self.rows], dtype=np.int64)
        self.scores: Array = np.array([vote.score for vote in self.rows], dtype=np.float64)
        items = [data.items[item] for item, _ in self.track_names]
        self.system_names = sorted({item.system for item in items})
        self.mixture_names = sorted({item.mixture for item in items})
        self.track_systems: Codes = np.array([self.system_names.index(item.system) for item in items], dtype=np.int64)
        mixture = {name: index for index, name in enumerate(self.mixture_names)}
        self.track_mixtures: Codes = np.array([mixture[item.mixture] for item in items], dtype=np.int64)
        self.track_blind: Array = np.array(
            [_blind_of(item, part) for item, (_, part) in zip(items, self.track_names, strict=True)], dtype=np.float64
        )


def analyse(data: Data, settings: Settings | None = None) -> Analysis:
    """Analyse a study. The same data and settings give the same results, to the last digit.

    ``AuriscopeError`` if there is no vote on a trial, or nobody is left after screening.
    """
    how = settings or Settings()
    ballots = Ballots(data)
    if not ballots.rows:
        raise AuriscopeError("there are no votes to analyse yet: nobody has rated a trial")
    notes: dict[str, list[str]] = defaultdict(list)
    notes["data"] += data.notes
    if ballots.num_repeated:
        notes["data"].append(
            f"{words.count(ballots.num_repeated, 'vote')} came from raters who had rated the same track before; only "
            "their first vote on a track counts."
        )
    found = _screened(data, ballots, how)
    used = found.kept[ballots.raters]
    if not used.any():
        raise AuriscopeError("no rater is left after screening; look at the votes, or analyse with --screening none")
    means, by_group, ranks, pairs = _opinions(ballots, used, how, notes)
    tracks = _tracks(ballots, used, how)
    correlations, between = blind.correlate(ballots, used, how.seed, how.num_resamples, how.confidence, notes)
    tracks = blind.with_surprise(tracks)
    rows = {vote: bool(keep) for vote, keep in zip(ballots.rows, used, strict=True)}
    epochs = blind.over_epochs(data, rows, how.confidence, notes)
    corpora = blind.by_corpus(data, how.real, how.confidence, notes)
    reliability = _reliability(ballots, used, how, notes)
    raters = _raters(data, ballots, found, how, notes)
    trust, headline = words.headline(correlations, data.scale)
    analysis = Analysis(
        title=data.title,
        scale=data.scale,
        seed=how.seed,
        num_resamples=how.num_resamples,
        screening=how.screening,
        confidence=how.confidence,
        trust=trust,
        headline=headline,
        findings=[],
        notes={},
        num_raters=len(raters),
        num_dropped=sum(bool(rater.reasons) for rater in raters),
        num_votes=len(ballots.rows),
        num_votes_used=int(used.sum()),
        num_mixtures=len(np.unique(ballots.track_mixtures[ballots.tracks[used]])),
        num_items=len({track.item for track in tracks}),
        systems=[row.system for row in means],
        means=means,
        by_group=by_group,
        ranks=ranks,
        pairs=pairs,
        correlations=correlations,
        between_systems=between,
        reliability=reliability,
        epochs=epochs,
        corpora=corpora,
        raters=raters,
        tracks=tracks,
        votes=[_used_vote(vote, data.items[vote.item], keep) for vote, keep in rows.items()],
        currency=data.currency,
    )
    analysis.findings = words.findings(analysis)
    analysis.notes = {section: lines for section, lines in notes.items() if lines}
    return analysis


def _blind_of(item: ItemFacts, part: int) -> float:
    value = item.blind_db[part] if part < len(item.blind_db) else None
    return float("nan") if value is None else value


def _used_vote(vote: VoteRow, item: ItemFacts, is_used: bool) -> UsedVote:
    return UsedVote(vote.rater, vote.item, item.mixture, item.system, vote.part, vote.score, vote.seconds, is_used)


def _screened(data: Data, ballots: Ballots, how: Settings) -> Screening:
    place = {name: index for index, name in enumerate(ballots.rater_names)}
    checks: dict[tuple[int, str], bool] = {}
    pages: dict[tuple[int, str], float] = {}
    for vote in data.votes:
        item = data.items[vote.item]
        page = (place[vote.rater], vote.item)
        if item.role in ("gold", "trap"):
            expected = item.expected[vote.part] if vote.part < len(item.expected) else None
            checks[page] = checks.get(page, True) and (expected is None or vote.score in expected)
        if item.role != "training":
            pages.setdefault(page, float("nan") if vote.seconds is None else vote.seconds)
    return screen(
        ballots.scores,
        ballots.raters,
        ballots.tracks,
        len(ballots.rater_names),
        checks=([rater for rater, _ in checks], np.array(list(checks.values()), dtype=bool)) if checks else None,
        pages=([rater for rater, _ in pages], [item for _, item in pages], list(pages.values())),
        method=how.screening,
    )


def _opinions(
    ballots: Ballots, used: NDArray[np.bool_], how: Settings, notes: dict[str, list[str]]
) -> tuple[list[MeanOpinion], list[MeanOpinion], list[Rank], list[Pair]]:
    groups = np.array([ballots.items[item].group or "" for item, _ in ballots.track_names])
    means, ranks, pairs = _compared(ballots, used, how, None, notes)
    by_group = []
    for group in sorted(set(groups) - {""}):
        chosen = used & (groups == group)[ballots.tracks]
        if chosen.any():
            by_group += _compared(ballots, chosen, how, str(group), {"means": [], "ranks": []})[0]
    return means, by_group, ranks, pairs


def _compared(
    ballots: Ballots, used: NDArray[np.bool_], how: Settings, group: str | None, notes: dict[str, list[str]]
) -> tuple[list[MeanOpinion], list[Rank], list[Pair]]:
    """Give means, ranks and differences of the systems from the votes that are used, the best system first."""
    scores, raters = ballots.scores[used], ballots.raters[used]
    tracks = ballots.tracks[used]
    mixtures = ballots.track_mixtures[tracks]
    present, systems = np.unique(ballots.track_systems[tracks], return_inverse=True)
    names = [ballots.system_names[index] for index in present]
    crossed = crossed_means(scores, raters, mixtures, systems, num_resamples=how.num_resamples, seed=how.seed)
    heard = np.unique(tracks)
    blind_means = _blind_means(ballots, heard, [int(index) for index in present])
    rows = []
    for index, name in enumerate(names):
        mine = systems == index
        counts = np.bincount(scores[mine].astype(np.int64), minlength=6)[1:6]
        rows.append(
            MeanOpinion(
                system=name,
                group=group,
                num_votes=int(mine.sum()),
                num_raters=len(np.unique(raters[mine])),
                num_mixtures=len(np.unique(mixtures[mine])),
                mean=crossed.mean(index, how.confidence).clipped(1.0, 5.0),
                as_independent=t_interval(scores[mine], how.confidence).clipped(1.0, 5.0),
                deviation=float(scores[mine].std(ddof=1)) if mine.sum() > 1 else None,
                counts=tuple(int(value) for value in counts),
                blind_db=blind_means[index],
            )
        )
    notes["means"] += words.notes_on_means(rows)
    order = sorted(range(len(names)), key=lambda index: (-crossed.means[index], names[index]))
    pairs = _pairs(crossed, order, names, blind_means, how)
    if len(names) == 1:
        notes["ranks"].append("There is only one system, so there is nothing to rank.")
    elif any(pair.p_holm is None for pair in pairs):
        notes["ranks"].append(
            "A single rater of a single mixture cannot tell which differences are chance: ranks are left open."
        )
    adjusted = np.ones((len(names), len(names)))
    for pair in pairs:
        first, second = names.index(pair.first), names.index(pair.second)
        adjusted[first, second] = adjusted[second, first] = 1.0 if pair.p_holm is None else pair.p_holm
    bounds = rank_bounds(crossed.means, adjusted, 1.0 - how.confidence)
    places = stats.rankdata(-crossed.means, method="min")
    ranks = [Rank(names[index], int(places[index]), *bounds[index], float(crossed.means[index])) for index in order]
    return [rows[index] for index in order], ranks, pairs


def _pairs(
    crossed: CrossedMeans, order: list[int], names: list[str], blind_means: list[float | None], how: Settings
) -> list[Pair]:
    made = []
    for first, second in combinations(order, 2):
        apart = crossed.difference(first, second, how.confidence)
        one, other = blind_means[first], blind_means[second]
        blind_db = one - other if one is not None and other is not None else None
        made.append(Pair(names[first], names[second], apart.clipped(-4.0, 4.0), None, blind_db))
    tested = [index for index, pair in enumerate(made) if pair.difference.p is not None]
    adjusted = holm([made[index].difference.p or 0.0 for index in tested])
    for index, p_holm in zip(tested, adjusted, strict=True):
        made[index] = replace(made[index], p_holm=p_holm)
    return made


def _blind_means(ballots: Ballots, heard: Codes, systems: list[int]) -> list[float | None]:
    """Give the mean blind estimate of each system over the tracks that were rated, None if one has no estimate."""
    made: list[float | None] = []
    for system in systems:
        values = ballots.track_blind[heard[ballots.track_systems[heard] == system]]
        made.append(float(values.mean()) if np.isfinite(values).all() else None)
    return made


def _tracks(ballots: Ballots, used: NDArray[np.bool_], how: Settings) -> list[TrackOpinion]:
    by_track: dict[int, list[float]] = defaultdict(list)
    for track, score in zip(ballots.tracks[used].tolist(), ballots.scores[used].tolist(), strict=True):
        by_track[track].append(score)
    made = []
    for track, scores in sorted(by_track.items()):
        name, part = ballots.track_names[track]
        item = ballots.items[name]
        value = float(ballots.track_blind[track])
        made.append(
            TrackOpinion(
                item=name,
                mixture=item.mixture,
                system=item.system,
                part=part,
                label=item.labels[part] if part < len(item.labels) else "",
                num_votes=len(scores),
                mean=t_interval(scores, how.confidence).clipped(1.0, 5.0),
                deviation=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
                blind_db=value if np.isfinite(value) else None,
            )
        )
    return made


def _reliability(ballots: Ballots, used: NDArray[np.bool_], how: Settings, notes: dict[str, list[str]]) -> Reliability:
    scores, raters = ballots.scores[used], ballots.raters[used]
    heard, tracks = np.unique(ballots.tracks[used], return_inverse=True)
    counts = vote_counts(scores, tracks)
    alpha = krippendorff_interval(
        counts,
        ballots.track_mixtures[heard],
        num_resamples=how.num_resamples,
        seed=how.seed,
        confidence=how.confidence,
    )
    icc = intraclass_correlation(scores, raters, tracks)
    if len(np.unique(raters)) < 2:
        notes["agreement"].append("There is one rater, so there is nobody to agree with.")
    elif not (counts.sum(axis=1) > 1).any():
        notes["agreement"].append("No two raters have rated the same track, so agreement cannot be computed.")
    elif len(heard) < 2:
        notes["agreement"].append("Only one track was rated, so agreement cannot be told from chance.")
        alpha = Estimate(None)
    elif np.ptp(scores) == 0:
        notes["agreement"].append(
            "All votes are the same. That is full agreement, but coefficients compare with chance, and there is none."
        )
    elif icc.single is None:
        notes["agreement"].append("The raters' lists overlap too little for an intraclass correlation.")
    return Reliability(alpha, icc.single, icc.average, icc.votes_per_target, icc.is_complete)


def _raters(data: Data, ballots: Ballots, found: Screening, how: Settings, notes: dict[str, list[str]]) -> list[Rater]:
    # What a rater is compared with: the votes of others who are kept. Their own are left out by leave_one_out.
    near = leave_one_out(
        ballots.scores, ballots.raters, ballots.tracks, len(ballots.rater_names), found.kept[ballots.raters]
    )
    sessions: dict[str, dict[str, None]] = defaultdict(dict)
    for vote in data.votes:
        if vote.session is not None:
            sessions[vote.rater][vote.session] = None
    made = [
        Rater(
            rater=name,
            sessions=tuple(sessions[name]),
            num_votes=int(found.num_votes[index]),
            num_checks=int(found.num_checks[index]),
            num_failed=int(found.num_failed[index]),
            hurried=_known(found.hurried[index]),
            bias=_known(found.bias[index]),
            deviation=_known(found.deviation[index]),
            slope=_known(found.slope[index]),
            num_compared=int(near.num_compared[index]),
            distance=_known(near.distance[index]),
            within_one=_known(near.within_one[index]),
            correlation=_known(near.correlation[index]),
            reasons=tuple(found.reasons[index]),
        )
        for index, name in enumerate(ballots.rater_names)
    ]
    if not found.num_checks.any():
        notes["raters"].append(
            "No gold or trapping items were rated, so raters are screened by time and by their votes alone."
        )
    if not np.isfinite(found.hurried).any():
        notes["raters"].append("The time that raters spent on pages is not known.")
    if len(made) == 1:
        notes["raters"].append("There is one rater; votes cannot be compared with those of others.")
    return _with_bonuses(made, data.bonus if how.bonus is None else how.bonus, how.bonus_share)


def _with_bonuses(raters: list[Rater], amount: float, share: float) -> list[Rater]:
    """Rank the raters who are kept by their distance from the others; the nearest share gets the amount.

    A few votes can be near the others' by chance: who was compared on fewer than the rest usually were is not ranked.
    """
    compared = [rater.num_compared for rater in raters if not rater.reasons and rater.num_compared]
    fewest = min(Limits().min_votes, int(np.median(compared))) if compared else 0
    due = sorted(
        (rater.distance, index)
        for index, rater in enumerate(raters)
        if not rater.reasons and rater.distance is not None and rater.num_compared >= fewest
    )
    ahead: Counter[float] = Counter(distance for distance, _ in due)
    rank = 1
    for distance in sorted(ahead):
        for _, index in [entry for entry in due if entry[0] == distance]:
            # Equal raters are treated alike.
            is_near = rank <= share * len(due)
            raters[index] = replace(raters[index], bonus_rank=rank, bonus=amount if is_near else 0.0)
        rank += ahead[distance]
    return raters


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
