"""The blind estimate beside opinion, over training, and on synthetic and real mixtures."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from auriscope.metrics.opinion import (
    MIN_TRACKS,
    Estimate,
    RatedTracks,
    correlations,
    crossed_means,
    mean_by_cluster,
    t_interval,
    welch_difference,
)
from auriscope.study.analysis.results import BlindAgainstOpinion, CorpusRow, EpochRow, TrackOpinion
from auriscope.study.analysis.tables import Data, ItemFacts, VoteRow

if TYPE_CHECKING:
    from auriscope.study.analysis.analysis import Ballots

Notes = dict[str, list[str]]


def correlate(
    ballots: Ballots, used: NDArray[np.bool_], seed: int, num_resamples: int, confidence: float, notes: Notes
) -> tuple[list[BlindAgainstOpinion], float | None]:
    """Correlate the blind estimates of rated tracks with opinions; and the systems' means, if there are three."""
    known = used & np.isfinite(ballots.track_blind[ballots.tracks])
    heard, tracks = np.unique(ballots.tracks[known], return_inverse=True)
    without = len(np.unique(ballots.tracks[used])) - len(heard)
    if not len(heard):
        notes["blind"].append("No rated item has a blind estimate, so it cannot be compared with opinion.")
        return [], None
    if without:
        notes["blind"].append(f"{without} rated tracks have no blind estimate and are left out here.")
    rated = RatedTracks(
        scores=ballots.scores[known],
        raters=ballots.raters[known],
        tracks=tracks.astype(np.int64),
        mixtures=ballots.track_mixtures[heard],
        systems=ballots.track_systems[heard],
        blind=ballots.track_blind[heard],
    )
    if len(heard) < MIN_TRACKS:
        notes["blind"].append(f"Only {len(heard)} tracks have a blind estimate and votes: too few to correlate.")
        return [], None
    if np.ptp(rated.blind) == 0:
        notes["blind"].append("All blind estimates are the same, so they cannot go with opinion or against it.")
    elif np.ptp(rated.opinions) == 0:
        notes["blind"].append("All tracks have the same opinion, so nothing can go with it or against it.")
    elif len(np.unique(rated.mixtures)) < 3:
        notes["blind"].append("With fewer than three mixtures, correlations have no interval.")
    made = []
    for row in correlations(rated, num_resamples=num_resamples, seed=seed, confidence=confidence):
        system = ballots.system_names[row.scope] if isinstance(row.scope, int) else None
        made.append(
            BlindAgainstOpinion(
                scope="pooled" if row.scope == "pooled" else "within" if row.scope == "within" else "system",
                system=system,
                num_tracks=row.num_tracks,
                num_mixtures=row.num_mixtures,
                num_votes=row.num_votes,
                pearson=row.pearson,
                spearman=row.spearman,
                reliability=row.reliability,
                without_noise=row.without_noise,
            )
        )
    return made, _between_systems(rated)


def _between_systems(rated: RatedTracks) -> float | None:
    blind = mean_by_cluster(rated.blind, rated.systems)
    opinion = mean_by_cluster(rated.opinions, rated.systems)
    if len(blind) < 3 or np.ptp(blind) == 0 or np.ptp(opinion) == 0:
        return None
    return float(np.corrcoef(blind, opinion)[0, 1])


def with_surprise(tracks: Sequence[TrackOpinion]) -> list[TrackOpinion]:
    """Say of each track how much better people found it than its blind estimate would make one expect, in points.

    What is expected is the least-squares line over all tracks.
    """
    known = [track for track in tracks if track.blind_db is not None and track.mean.value is not None]
    x = np.array([track.blind_db for track in known], dtype=np.float64)
    y = np.array([track.mean.value for track in known], dtype=np.float64)
    if len(known) < MIN_TRACKS or np.ptp(x) == 0:
        return list(tracks)
    slope, offset = line(x, y)
    beyond = dict(zip(((t.item, t.part) for t in known), (y - slope * x - offset).tolist(), strict=True))
    return [replace(track, beyond_expected=beyond.get((track.item, track.part))) for track in tracks]


def line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Give slope and offset of the least-squares line through points that are not all above one another."""
    apart = x - x.mean()
    slope = float((apart * y).sum() / (apart**2).sum())
    return slope, float(y.mean() - slope * x.mean())


def over_epochs(data: Data, rows: Mapping[VoteRow, bool], confidence: float, notes: Notes) -> list[EpochRow]:
    """Average the blind estimates, and opinions, of items that know their epoch, by system and epoch."""
    items: dict[tuple[str, float], list[ItemFacts]] = defaultdict(list)
    for item in data.items.values():
        if item.epoch is not None and item.role == "trial":
            items[item.system, item.epoch].append(item)
    if not items:
        notes["epochs"].append("No item says at which epoch of training it was made.")
        return []
    votes: dict[tuple[str, float], list[tuple[str, str, int]]] = defaultdict(list)
    for vote, is_used in rows.items():
        item = data.items[vote.item]
        if is_used and item.epoch is not None:
            votes[item.system, item.epoch].append((vote.rater, item.mixture, vote.score))
    made = []
    for (system, epoch), found in sorted(items.items()):
        blind = _blind_by_mixture(found)
        given = votes[system, epoch]
        opinion = Estimate(None)
        if given:
            raters, mixtures, scores = zip(*given, strict=True)
            opinion = crossed_means(scores, raters, mixtures, np.zeros(len(scores), dtype=np.int64)).mean(0, confidence)
        made.append(
            EpochRow(system, epoch, len(blind), t_interval(blind, confidence), len(given), opinion.clipped(1.0, 5.0))
        )
    mixed = sorted({system for system, _ in items if sum(name == system for name, _ in items) > 1})
    if any(votes[key] for key in items) and mixed:
        notes["epochs"].append(
            f"The mean opinion of {', '.join(mixed)} above is over all its epochs; give epochs systems of their own to "
            "compare them."
        )
    return made


def by_corpus(data: Data, real: tuple[str, ...] | None, confidence: float, notes: Notes) -> list[CorpusRow]:
    """Average the blind estimates by system on synthetic and on real mixtures, with published values beside them."""
    items: dict[str, dict[bool, list[ItemFacts]]] = defaultdict(lambda: {True: [], False: []})
    corpora = set()
    for item in data.items.values():
        if item.corpus and item.role == "trial" and any(value is not None for value in item.blind_db):
            items[item.system][is_real(item.corpus, real)].append(item)
            corpora.add(item.corpus)
    if not items:
        notes["corpora"].append("No item with a blind estimate says from which corpus it comes.")
        return []
    if real is not None and (strangers := sorted(set(real) - corpora)):
        notes["corpora"].append(f"No item comes from the corpus {strangers[0]}, which was named as real.")
    kinds = {is_real(corpus, real) for corpus in corpora}
    if len(kinds) == 1:
        kind, other = ("real", "synthetic") if True in kinds else ("synthetic", "real")
        notes["corpora"].append(
            f"All corpora ({', '.join(sorted(corpora))}) are taken as {kind}; there is no {other} one to compare with."
        )
    made = []
    for system, found in sorted(items.items()):
        values = {kind: _blind_by_mixture(found[kind]) for kind in (False, True)}
        names = {kind: tuple(sorted({item.corpus or "" for item in found[kind]})) for kind in (False, True)}
        known = published_for(system)
        made.append(
            CorpusRow(
                system=system,
                synthetic_corpora=names[False],
                real_corpora=names[True],
                num_synthetic=len(values[False]),
                num_real=len(values[True]),
                synthetic_db=t_interval(values[False], confidence),
                real_db=t_interval(values[True], confidence),
                gap_db=welch_difference(values[False], values[True], confidence),
                published_system=known.system if known else None,
                published_synthetic_db=known.synthetic_db if known else None,
                published_real_db=known.real_db if known else None,
            )
        )
    return made


def is_real(corpus: str, real: tuple[str, ...] | None) -> bool:
    """Say whether a corpus holds real mixtures: it is named as such, or without names has "real" in its own.

    >>> is_real("REAL-M", None), is_real("Libri2Mix", None), is_real("kitchen", ("kitchen",))
    (True, False, True)
    """
    return corpus in real if real is not None else "real" in corpus.lower()


@dataclass(frozen=True)
class Published:
    """What a paper reports for a system: means of the blind estimate in dB."""

    system: str
    names: tuple[str, ...]
    synthetic_db: float
    real_db: float


def published_for(system: str) -> Published | None:
    """Find the published values for a system by its name, or by that of a model such as ``separation/dprnn.mini``.

    >>> published_for("separation/dprnn.mini").real_db
    2.43
    >>> published_for("wavesplit") is None
    True
    """
    name = re.sub(r"[^a-z0-9]", "", system.lower().removeprefix("separation/").split(".")[0])
    return next((row for row in _published() if name in row.names), None)


@cache
def _published() -> list[Published]:
    text = resources.files("auriscope.study.analysis").joinpath("published.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [
        Published(row["system"], tuple(row["names"].split(";")), float(row["synthetic_db"]), float(row["real_db"]))
        for row in csv.DictReader(lines)
    ]


def _blind_by_mixture(items: Sequence[ItemFacts]) -> list[float]:
    """Average the estimates of each mixture: its tracks are not independent."""
    values: dict[str, list[float]] = defaultdict(list)
    for item in items:
        values[item.mixture] += [value for value in item.blind_db if value is not None]
    return [float(np.mean(found)) for _, found in sorted(values.items()) if found]
