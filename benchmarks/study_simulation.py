"""Does the analysis of a listening study recover the truth? Simulated studies whose truth is known.

Raters have biases, scales, tastes and noise of their own; some of them click at random, give the same vote always, or
vote the wrong way round. The whole analysis runs on many studies of other raters and mixtures, drawn from the same
populations: do its 95 % intervals hold what they promise, are the systems ranked rightly, are the spammers found?

What each interval is meant to hold:

- mean opinion and differences: the mean vote of all raters who listen, on all mixtures;
- Pearson and Spearman: the correlation, over all mixtures, of the blind estimate with the mean vote of as many raters
  as a track has in the study;
- ranks: the order of the systems' true mean opinions.

    .venv/bin/python benchmarks/study_simulation.py
    .venv/bin/python benchmarks/study_simulation.py --raters 40 --replications 400
    .venv/bin/python benchmarks/study_simulation.py --study FOLDER      # fills a study, to look at it
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from auriscope.metrics.opinion import t_interval
from auriscope.study.analysis import Data, Settings, analyse
from auriscope.study.analysis.results import Analysis
from auriscope.study.analysis.tables import ItemFacts, VoteRow

if TYPE_CHECKING:
    from auriscope.study.study import Study

KINDS = ("careful", "random", "constant", "inverted")
GOLD, TRAP = 5.0, 0.7


@dataclass(frozen=True)
class World:
    """A population of raters and mixtures, and a study's size; qualities and deviations in points of the scale."""

    num_raters: int = 500
    num_mixtures: int = 50
    qualities: tuple[tuple[str, float], ...] = (
        ("SepFormer", 3.9),
        ("DPRNN", 3.5),
        ("DPTNet", 3.4),
        ("Conv-TasNet", 2.9),
        ("TasNet", 2.3),
    )
    items_per_rater: int = 20
    spam: float = 0.12
    mixture_sd: float = 0.4
    item_sd: float = 0.35
    part_sd: float = 0.3
    bias_sd: float = 0.4
    taste_sd: float = 0.15
    log_scale_sd: float = 0.2
    noise: tuple[float, float] = (0.5, 0.9)
    blind_db_per_point: float = 3.0
    blind_error_db: float = 2.0

    @property
    def systems(self) -> list[str]:
        """The systems' names."""
        return [name for name, _ in self.qualities]


def tracks(world: World, num_mixtures: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Draw mixtures: qualities and blind estimates (mixtures, systems, parts)."""
    num_systems = len(world.qualities)
    quality = (
        np.array([value for _, value in world.qualities])[None, :, None]
        + world.mixture_sd * rng.standard_normal((num_mixtures, 1, 1))
        + world.item_sd * rng.standard_normal((num_mixtures, num_systems, 1))
        + world.part_sd * rng.standard_normal((num_mixtures, num_systems, 2))
    )
    error = world.blind_error_db * rng.standard_normal(quality.shape)
    return quality, world.blind_db_per_point * (quality - 1.0) + error


class Raters:
    """Careful raters, drawn from their population; taste is the liking of each system."""

    def __init__(self, world: World, number: int, rng: np.random.Generator) -> None:
        self.bias = world.bias_sd * rng.standard_normal(number)
        self.scale = np.exp(world.log_scale_sd * rng.standard_normal(number))
        self.taste = world.taste_sd * rng.standard_normal((number, len(world.qualities)))
        self.noise = rng.uniform(*world.noise, number)

    def votes(self, who: Any, quality: Any, system: Any, rng: np.random.Generator) -> Any:
        """Vote from 1 to 5; ``system`` -1 is none that anybody has a taste for."""
        taste = np.where(system >= 0, self.taste[who, system], 0.0)
        heard = 3.0 + self.bias[who] + self.scale[who] * (quality - 3.0) + taste
        return np.clip(np.round(heard + self.noise[who] * rng.standard_normal(np.shape(who))), 1, 5).astype(int)


@cache
def truth(world: World) -> dict[Any, float]:
    """Compute what the intervals are to hold, from populations large enough for two digits and more."""
    rng = np.random.default_rng(20)
    grid = np.linspace(-1.5, 7.5, 181)
    mean, square = np.zeros((2, len(grid)))
    raters = Raters(world, 100_000, rng)
    who = np.arange(100_000)
    for place, quality in enumerate(grid):
        votes = raters.votes(who, quality, who % len(world.qualities), rng)
        mean[place], square[place] = votes.mean(), votes.var()
    quality, blind = tracks(world, 40_000, rng)
    opinion = np.interp(quality, grid, mean)
    spread = np.sqrt(np.interp(quality, grid, square) / votes_per_track(world))
    rated = opinion + spread * rng.standard_normal(quality.shape)
    found: dict[Any, float] = {
        ("mean", name): float(opinion[:, place].mean()) for place, name in enumerate(world.systems)
    }
    pearsons, spearmans = [], []
    for place, name in enumerate(world.systems):
        pearsons.append(_correlate(blind[:, place], rated[:, place]))
        spearmans.append(float(stats.spearmanr(blind[:, place].ravel(), rated[:, place].ravel())[0]))
        found["pearson", name], found["spearman", name] = pearsons[-1], spearmans[-1]
    found["pearson", "pooled"] = _correlate(blind, rated)
    found["spearman", "pooled"] = float(stats.spearmanr(blind.ravel(), rated.ravel())[0])
    found["pearson", "within"] = float(np.tanh(np.arctanh(pearsons).mean()))
    found["spearman", "within"] = float(np.tanh(np.arctanh(spearmans).mean()))
    return found


def votes_per_track(world: World, num_studies: int = 5) -> float:
    """Give how many careful raters rate a track: the harmonic mean, because the error of a mean goes with 1 / n."""
    inverse: list[float] = []
    for seed in range(num_studies):
        data, kinds = simulate(world, 1_000_000 + seed)
        votes = Counter(
            (vote.item, vote.part)
            for vote in data.votes
            if kinds[vote.rater] == "careful" and data.items[vote.item].role == "trial"
        )
        inverse += [1.0 / number for number in votes.values()]
    return 1.0 / float(np.mean(inverse))


def _correlate(blind: Any, rated: Any) -> float:
    return float(np.corrcoef(blind.ravel(), rated.ravel())[0, 1])


def simulate(world: World, seed: int) -> tuple[Data, dict[str, str]]:
    """Run a study: its data, and what kind each rater is of (one of ``KINDS``)."""
    rng = np.random.default_rng([seed, 1])
    quality, blind = tracks(world, world.num_mixtures, rng)
    raters = Raters(world, world.num_raters, rng)
    kinds = np.zeros(world.num_raters, dtype=int)
    spammers = rng.choice(world.num_raters, round(world.spam * world.num_raters), replace=False)
    kinds[spammers] = 1 + np.arange(len(spammers)) % 3
    favourite = rng.integers(1, 6, world.num_raters)
    items = _items(world, blind)
    votes: list[VoteRow] = []
    for rater, listed in enumerate(_lists(world, rng)):
        name = f"rater{rater:04d}"
        pace = np.exp(0.2 * rng.standard_normal()) * (0.3 if kinds[rater] == 1 and rng.random() < 0.5 else 1.0)
        mixture, system = np.divmod(listed, len(world.qualities))
        heard = np.concatenate([quality[mixture, system], [[GOLD, GOLD], [TRAP, TRAP], [GOLD, TRAP]]])
        of_system = np.concatenate([system, [-1, -1, -1]])[:, None].repeat(2, axis=1)
        scores = raters.votes(np.full(heard.shape, rater), heard, of_system, rng)
        if kinds[rater] == 1:
            scores = rng.integers(1, 6, scores.shape)
        elif kinds[rater] == 2:
            scores = np.full(scores.shape, favourite[rater])
        elif kinds[rater] == 3:
            scores = 6 - scores
        names = [
            *(item_name(world, m, s) for m, s in zip(mixture, system, strict=True)),
            "gold",
            "trap",
            "gold and trap",
        ]
        for item, pair in zip(names, scores.tolist(), strict=True):
            seconds = round(float(20.0 * pace * np.exp(0.2 * rng.standard_normal())), 1)
            votes += [
                VoteRow(name, item, part, score, seconds, f"session of {name}") for part, score in enumerate(pair)
            ]
    data = Data("Simulated study", "quality", items, votes, bonus=1.0)
    return data, {f"rater{rater:04d}": KINDS[kind] for rater, kind in enumerate(kinds)}


def item_name(world: World, mixture: int, system: int) -> str:
    """Name the item of a mixture and a system."""
    return f"{world.systems[system]}/mixture{mixture:03d}"


def _items(world: World, blind: Any) -> dict[str, ItemFacts]:
    items = [
        ItemFacts(
            item_name(world, mixture, system),
            f"mixture{mixture:03d}",
            name,
            labels=("track1", "track2"),
            blind_db=tuple(round(float(value), 3) for value in blind[mixture, system]),
            corpus="REAL-M",
        )
        for system, name in enumerate(world.systems)
        for mixture in range(world.num_mixtures)
    ]
    high, low = (4, 5), (1, 2)
    items += [
        ItemFacts("gold", "gold", "reference", "gold", expected=(high, high)),
        ItemFacts("trap", "trap", "noise", "trap", expected=(low, low)),
        ItemFacts("gold and trap", "gold and trap", "both", "trap", expected=(high, low)),
    ]
    return {item.name: item for item in items}


def _lists(world: World, rng: np.random.Generator) -> Iterable[Any]:
    """Give each rater other items, so that all are rated equally often: as the server does."""
    num_items = world.num_mixtures * len(world.qualities)
    waiting: list[int] = []
    for _ in range(world.num_raters):
        mine: list[int] = []
        while len(mine) < min(world.items_per_rater, num_items):
            place = next((place for place, item in enumerate(waiting) if item not in mine), None)
            if place is None:
                waiting += rng.permutation(num_items).tolist()
            else:
                mine.append(waiting.pop(place))
        yield np.array(mine)


def fill_study(study: Study, data: Data) -> None:
    """Write a simulated study into a real study's database, as the pages would have done it."""
    from auriscope.study.ids import new_token, now, sha256_of
    from auriscope.study.schema import Assignment, Contributor, Session, Vote

    by_page: dict[str, dict[str, list[VoteRow]]] = defaultdict(lambda: defaultdict(list))
    for vote in data.votes:
        by_page[vote.rater][vote.item].append(vote)
    with study.database.write() as session:
        digest = study.definition_sha256(session)
        items = {name: _database_item(facts) for name, facts in data.items.items()}
        session.add_all(items.values())
        contributors = {rater: Contributor(platform="link", external_id=None) for rater in by_page}
        session.add_all(contributors.values())
        session.flush()
        visits = {
            rater: Session(
                token_sha256=sha256_of(new_token()),
                contributor_id=person.id,
                language="en",
                definition_sha256=digest,
                seed=0,
                state="finished",
                finished_at=now(),
            )
            for rater, person in contributors.items()
        }
        session.add_all(visits.values())
        session.flush()
        made = [
            (
                Assignment(
                    session_id=visits[rater].id,
                    item_id=items[item].id,
                    position=position,
                    part_order=[0, 1],
                    answered_at=now(),
                    seconds_on_page=votes[0].seconds,
                ),
                votes,
            )
            for rater, pages in by_page.items()
            for position, (item, votes) in enumerate(pages.items())
        ]
        session.add_all(assignment for assignment, _ in made)
        session.flush()
        session.add_all(
            Vote(assignment_id=assignment.id, part=vote.part, score=vote.score)
            for assignment, votes in made
            for vote in votes
        )


def _database_item(facts: ItemFacts) -> Any:
    from auriscope.study.schema import Item

    expected = facts.expected or (None, None)
    parts = [
        {"label": f"track{part + 1}", "storage_key": "", **({"expected": list(scores)} if scores else {})}
        for part, scores in enumerate(expected)
    ]
    known: dict[str, Any] = {"corpus": facts.corpus} if facts.corpus else {}
    if facts.blind_db:
        known["blind_si_snr_db"] = list(facts.blind_db)
    return Item(name=facts.name, role=facts.role, mixture=facts.mixture, system=facts.system, parts=parts, facts=known)


@dataclass
class Tally:
    """What the analyses of many simulated studies gave."""

    held: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    swaps: int = 0
    wide: list[int] = field(default_factory=list)
    num_studies: int = 0
    dropped: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    wrong_order: int = 0

    def add(self, world: World, analysis: Analysis, kinds: dict[str, str]) -> None:
        """Compare one study's results with the truth."""
        known = truth(world)
        self.num_studies += 1
        for row in analysis.means:
            self.held["mean opinion"].append(_holds(row.mean, known["mean", row.system]))
            self.held["mean opinion, as if votes were independent"].append(
                _holds(row.as_independent, known["mean", row.system])
            )
        for pair in analysis.pairs:
            apart = known["mean", pair.first] - known["mean", pair.second]
            self.held["difference of two systems"].append(_holds(pair.difference, apart))
        for line in analysis.correlations:
            scope = line.system or line.scope
            named = f"{'one system' if line.system else line.scope}"
            self.held[f"Pearson, {named}"].append(_holds(line.pearson, known["pearson", scope]))
            self.held[f"Spearman, {named}"].append(_holds(line.spearman, known["spearman", scope]))
        right = sorted(world.systems, key=lambda name: -known["mean", name])
        self.wrong_order += [rank.system for rank in analysis.ranks] != right
        for rank in analysis.ranks:
            self.swaps += not rank.best <= 1 + right.index(rank.system) <= rank.worst
            self.wide.append(rank.worst - rank.best + 1)
        for rater in analysis.raters:
            self.dropped[kinds[rater.rater]].append(bool(rater.reasons))

    def merge(self, other: Tally) -> None:
        """Add what another has counted."""
        for mine, theirs in ((self.held, other.held), (self.dropped, other.dropped)):
            for name, values in theirs.items():
                mine[name] += values
        self.swaps += other.swaps
        self.wide += other.wide
        self.num_studies += other.num_studies
        self.wrong_order += other.wrong_order

    def coverage(self, name: str) -> float:
        """Give the share of intervals that held the truth, in percent."""
        return 100 * float(np.mean(self.held[name]))

    def precision_and_recall(self) -> tuple[float, float]:
        """Give the share of spammers among those dropped, and of those dropped among spammers, in percent."""
        found = sum(sum(self.dropped[kind]) for kind in KINDS[1:])
        dropped = found + sum(self.dropped["careful"])
        spammers = sum(len(self.dropped[kind]) for kind in KINDS[1:])
        return 100 * found / max(dropped, 1), 100 * found / max(spammers, 1)


def _holds(estimate: Any, value: float) -> bool:
    return bool(estimate.low <= value <= estimate.high)


def replicate(world: World, seeds: Iterable[int], num_resamples: int) -> Tally:
    """Simulate and analyse a study for each seed."""
    tally = Tally()
    for seed in seeds:
        data, kinds = simulate(world, seed)
        tally.add(world, analyse(data, Settings(seed=seed, num_resamples=num_resamples)), kinds)
    return tally


def _replicate(arguments: tuple[World, list[int], int]) -> Tally:
    return replicate(*arguments)


def mean_of_five(num_studies: int = 20_000) -> tuple[float, float]:
    """Give the coverage in percent of Student's and of the normal interval for the mean of five values."""
    rng = np.random.default_rng(5)
    student = normal = 0
    for values in rng.standard_normal((num_studies, 5)):
        student += _holds(t_interval(values), 0.0)
        normal += abs(values.mean()) <= 1.96 * values.std(ddof=1) / np.sqrt(5)
    return 100 * student / num_studies, 100 * normal / num_studies


def report(world: World, tally: Tally) -> None:
    """Print the figures, with floor and aim."""
    precision, recall = tally.precision_and_recall()
    print(
        f"\n{tally.num_studies} studies of {world.num_raters} raters ({100 * world.spam:.0f} % spammers), "
        f"{world.num_mixtures} mixtures, {len(world.qualities)} systems, {world.items_per_rater} items a rater\n"
    )
    print("| what | floor and aim | measured |\n|---|---|---|")
    print(f"| systems outside their interval of ranks (of {len(tally.wide)}) | 0 | {tally.swaps} |")
    for name in sorted(tally.held, key=lambda name: ("independent" in name, name)):
        aim = "(for comparison)" if "independent" in name else "92-97 %"
        print(f"| coverage of the 95 % interval: {name} | {aim} | {tally.coverage(name):.1f} % |")
    print(f"| spammers among those dropped | | {precision:.1f} % |")
    print(f"| spammers that are found | | {recall:.1f} % |")
    for kind in KINDS:
        print(f"| dropped of the {kind} raters | | {100 * float(np.mean(tally.dropped[kind] or [0.0])):.2f} % |")
    print(f"| mean width of an interval of ranks | | {np.mean(tally.wide):.2f} |")
    print(f"| studies whose order of means is not the true one | | {tally.wrong_order} of {tally.num_studies} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=500)
    parser.add_argument("--mixtures", type=int, default=50)
    parser.add_argument("--spam", type=float, default=World.spam, help="share of raters who do not listen")
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--study", type=Path, help="fill this listening study's database instead, and stop")
    options = parser.parse_args()
    world = World(num_raters=options.raters, num_mixtures=options.mixtures, spam=options.spam)
    if options.study is not None:
        from auriscope.study.study import Study

        study = Study.open(options.study)
        fill_study(study, simulate(world, 0)[0])
        study.close()
        print(f"filled; now: auriscope study analyse {options.study} --out analysis")
        return
    begun = time.perf_counter()
    truth(world)
    parts = [
        (world, list(range(place, options.replications, 4 * options.workers)), options.resamples)
        for place in range(min(4 * options.workers, options.replications))
    ]
    tally = Tally()
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for done in pool.imap_unordered(_replicate, parts):
            tally.merge(done)
    report(world, tally)
    student, normal = mean_of_five()
    print(f"| mean of five votes: Student's / the normal interval | 95 / 88 % | {student:.1f} / {normal:.1f} % |")
    print(f"\n{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
