"""The analysis of a study: from its database and from tables, with much and with little in them."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.errors import AuriscopeError
from auriscope.study.analysis import Data, Settings, analyse, read_csv, read_facts, read_study, write_analysis
from auriscope.study.analysis.blind import published_for
from auriscope.study.analysis.tables import ItemFacts, VoteRow
from auriscope.study.crowd import payouts
from auriscope.study.exports import write_csv
from auriscope.study.payments import read_overrides
from auriscope.study.schema import Contributor, Session
from auriscope.study.study import Study

QUICK = Settings(num_resamples=200)
TABLES = {
    "mos", "items", "raters", "correlations", "ranks", "pairs", "epochs", "synthetic_real", "votes_used", "bonuses",
}  # fmt: skip


@cache
def simulation() -> Any:
    """The simulated studies of the benchmarks."""
    path = Path(__file__).parents[2] / "benchmarks" / "study_simulation.py"
    spec = importlib.util.spec_from_file_location("study_simulation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["study_simulation"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data() -> Data:
    """A study of 40 raters, spammers among them."""
    made: Data = simulation().simulate(simulation().World(num_raters=40, num_mixtures=20), 0)[0]
    return made


def small(*votes: tuple[str, str, str, int], blind: Callable[[str, str], float | None] = lambda m, s: None) -> Data:
    """A study of votes (rater, mixture, system, score) on items of one part."""
    items = {
        f"{mixture}/{system}": ItemFacts(f"{mixture}/{system}", mixture, system, blind_db=(blind(mixture, system),))
        for _, mixture, system, _ in votes
    }
    return Data("Small", "quality", items, [VoteRow(r, f"{m}/{s}", 0, score) for r, m, s, score in votes])


def many(blind: Callable[[str, str], float | None] = lambda m, s: None) -> Data:
    """Four raters, six mixtures, two systems; votes differ by mixture."""
    return small(
        *(
            (f"r{rater}", f"m{mixture}", system, 1 + mixture % 3 + rater // 2 + (system == "b"))
            for rater in range(4)
            for mixture in range(6)
            for system in ("a", "b")
        ),
        blind=blind,
    )


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def without_nan(folder: Path) -> None:
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".html":
            text = text[text.index("<body>") :]
        assert "nan" not in [word.strip("(),;:%").lower() for word in text.replace(",", " ").replace(">", " ").split()]
        assert "None" not in text.split()


def test_a_study_on_each_database_gives_what_its_votes_give(listening: Study, data: Data, tmp_path: Path) -> None:
    simulation().fill_study(listening, data)
    read = read_study(listening)
    assert (len(read.votes), len(read.items)) == (len(data.votes), len(data.items))
    assert (read.title, read.scale) == ("Two voices at once", "quality")
    assert read.items["gold and trap"].expected == ((4, 5), (1, 2))
    ours, expected = analyse(read, QUICK), analyse(data, QUICK)
    assert [(row.system, row.mean.value) for row in ours.means] == [(r.system, r.mean.value) for r in expected.means]
    assert ours.correlations[0].pearson.value == pytest.approx(expected.correlations[0].pearson.value)
    assert sorted(rater.reasons for rater in ours.raters) == sorted(rater.reasons for rater in expected.raters)
    result = CliRunner().invoke(
        app, ["study", "analyse", str(listening.folder), "--out", str(tmp_path / "out"), "--resamples", "200", "--json"]
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["input"] == str(listening.folder)
    assert {row["system"]: row["mean"]["value"] for row in told["means"]} == pytest.approx(
        {row.system: row.mean.value for row in expected.means}
    )
    assert set(told["paths"]) == TABLES | {"report"}
    assert all(Path(path).is_file() for path in told["paths"].values())


def test_the_export_of_votes_and_a_table_of_facts_are_enough(listening: Study, data: Data, tmp_path: Path) -> None:
    study = listening
    simulation().fill_study(study, data)
    with (tmp_path / "votes.csv").open("w", encoding="utf-8", newline="") as stream:
        write_csv(study, "votes", stream, personal=False)
    with (tmp_path / "facts.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "blind_si_snr_db", "corpus", "expected"])
        for item in data.items.values():
            blind = ";".join(str(value) for value in item.blind_db)
            expected = ";".join(f"{s[0]}-{s[-1]}" for s in item.expected if s)
            writer.writerow([item.name, blind, item.corpus or "", expected])
    read = read_csv(tmp_path / "votes.csv")
    read_facts(tmp_path / "facts.csv", read)
    ours, theirs = analyse(read, QUICK), analyse(read_study(study), QUICK)
    assert ours.means == theirs.means
    assert ours.correlations == theirs.correlations
    assert ours.raters == theirs.raters


def test_the_same_votes_give_the_same_bytes(data: Data, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_analysis(analyse(data, QUICK), tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted([*(f"{name}.csv" for name in TABLES), "report.html"])
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    without_nan(tmp_path / "one")


def test_the_tables_say_what_the_analysis_says(data: Data, tmp_path: Path) -> None:
    found = analyse(data, QUICK)
    paths = write_analysis(found, tmp_path)
    mos = table_of(paths["mos"])
    assert [row["system"] for row in mos] == [row.system for row in found.means]
    assert float(mos[0]["mean"]) == pytest.approx(found.means[0].mean.value, abs=1e-6)
    assert sum(int(mos[0][f"votes_{score}"]) for score in range(1, 6)) == int(mos[0]["num_votes"])
    votes = table_of(paths["votes_used"])
    used = [row for row in votes if row["used"] == "true"]
    assert (len(votes), len(used)) == (found.num_votes, found.num_votes_used)
    assert len(used) == sum(int(row["num_votes"]) for row in mos)
    dropped = {row["rater"] for row in table_of(paths["raters"]) if row["kept"] == "false"}
    assert dropped == {row["rater"] for row in votes} - {row["rater"] for row in used}
    assert len(table_of(paths["pairs"])) == 10
    assert len(table_of(paths["items"])) == len(found.tracks)


def test_training_gold_and_traps_are_no_votes_on_systems() -> None:
    votes = many()
    for role in ("training", "gold", "trap"):
        name = f"m0/{role}"
        votes.items[name] = ItemFacts(name, "m0", role, role, expected=((5,),))
        votes.votes += [VoteRow(f"r{rater}", name, 0, 1) for rater in range(4)]
    found = analyse(votes, QUICK)
    assert found.systems == ["b", "a"]
    assert found.num_votes == 48
    assert [rater.num_checks for rater in found.raters] == [2] * 4
    assert [rater.num_failed for rater in found.raters] == [2] * 4


def test_a_second_vote_on_a_track_does_not_count() -> None:
    votes = many()
    votes.votes += [replace(vote, score=5) for vote in votes.votes[:3]]
    found = analyse(votes, QUICK)
    assert found.means == analyse(many(), QUICK).means
    assert "3 votes came from raters who had rated the same track before" in found.notes["data"][0]


def test_people_who_are_being_removed_are_not_read(listening: Study, data: Data) -> None:
    simulation().fill_study(listening, data)
    with listening.database.write() as session:
        visit = session.scalars(select(Session)).first()
        assert visit is not None
        visit.state = "removed"
        gone = visit.contributor_id
    raters = {vote.rater for vote in read_study(listening).votes}
    assert gone not in raters
    assert len(raters) == 39


def test_a_collection_has_nothing_to_analyse(collection: Study, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["study", "analyse", str(collection.folder), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "is a collection" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_study_without_votes_is_said_in_a_line(listening: Study, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["study", "analyse", str(listening.folder), "--out", str(tmp_path / "out"), "--json"]
    )
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"] == "there are no votes to analyse yet: nobody has rated a trial"


LITTLE: dict[str, tuple[Data, str, str]] = {
    "one vote": (small(("r", "m", "a", 4)), "means", "a has a single vote: its mean has no interval."),
    "one rater": (
        small(*(("r", f"m{n}", s, 1 + n % 5) for n in range(6) for s in "ab")),
        "means",
        "a was rated by one rater: its interval holds for this rater, on any mixture.",
    ),
    "one mixture": (
        small(*((f"r{n}", "m", s, 1 + n % 5) for n in range(6) for s in "ab")),
        "means",
        "a was rated on one mixture: its interval holds for this mixture, by any rater.",
    ),
    "one rater on one mixture": (
        small(("r", "m", "a", 4), ("r", "m", "b", 2)),
        "ranks",
        "A single rater of a single mixture cannot tell which differences are chance: ranks are left open.",
    ),
    "one system": (
        small(*((f"r{n}", f"m{m}", "a", 1 + (n + m) % 5) for n in range(5) for m in range(5))),
        "ranks",
        "There is only one system, so there is nothing to rank.",
    ),
    "all votes the same": (
        small(*((f"r{n}", f"m{m}", "a", 5) for n in range(5) for m in range(5))),
        "agreement",
        "All votes are the same. That is full agreement, but coefficients compare with chance, and there is none.",
    ),
    "no blind scores": (many(), "blind", "No rated item has a blind estimate, so it cannot be compared with opinion."),
    "few blind scores": (
        many(lambda mixture, system: 3.0 if (mixture, system) == ("m0", "a") else None),
        "blind",
        "11 rated tracks have no blind estimate and are left out here.",
    ),
    "blind scores all the same": (
        many(lambda mixture, system: 3.0),
        "blind",
        "All blind estimates are the same, so they cannot go with opinion or against it.",
    ),
    "nobody rated the same": (
        small(*((f"r{n}", f"m{n}", "a", 1 + n % 5) for n in range(6))),
        "agreement",
        "No two raters have rated the same track, so agreement cannot be computed.",
    ),
    "no gold items": (
        many(),
        "raters",
        "No gold or trapping items were rated, so raters are screened by time and by their votes alone.",
    ),
    "one track": (
        small(*((f"r{n}", "m", "a", 2 + n) for n in range(3))),
        "agreement",
        "Only one track was rated, so agreement cannot be told from chance.",
    ),
    "no epochs": (many(), "epochs", "No item says at which epoch of training it was made."),
    "no corpora": (many(), "corpora", "No item with a blind estimate says from which corpus it comes."),
}


@pytest.mark.parametrize("name", LITTLE)
def test_what_cannot_be_said_is_said_in_a_sentence(name: str, tmp_path: Path) -> None:
    votes, section, sentence = LITTLE[name]
    found = analyse(votes, QUICK)
    assert sentence in found.notes[section]
    paths = write_analysis(found, tmp_path)
    assert sentence in paths["report"].read_text(encoding="utf-8")
    without_nan(tmp_path)


@pytest.mark.parametrize("scale", ["naturalness", "similarity", "interpretation"])
def test_other_scales_need_no_blind_scores(scale: str, tmp_path: Path) -> None:
    votes = many()
    votes.scale = scale
    votes.items = {name: replace(item, group="dog" if "m1" in name else "bell") for name, item in votes.items.items()}
    found = analyse(votes, QUICK)
    assert found.trust == "unknown"
    assert found.headline == "This study asked for opinions only: it has no blind scores to compare them with."
    assert [(row.group, row.system) for row in found.by_group] == [
        ("bell", "b"),
        ("bell", "a"),
        ("dog", "b"),
        ("dog", "a"),
    ]
    page = write_analysis(found, tmp_path)["report"].read_text(encoding="utf-8")
    assert "By class" in page
    assert "trusted" not in page
    assert [row["class"] for row in table_of(tmp_path / "mos.csv")] == ["", "", "bell", "bell", "dog", "dog"]


@pytest.mark.parametrize(
    ("slope", "trust"), [(1.0, "yes"), (-1.0, "no"), (0.0, "not shown")], ids=["with", "against", "neither"]
)
def test_the_summary_says_whether_the_blind_score_follows_opinion(slope: float, trust: str) -> None:
    noise = {"m0": 0.1, "m1": -0.2, "m2": 0.2, "m3": -0.1, "m4": 0.1, "m5": -0.2}
    votes = many(lambda mixture, system: slope * (int(mixture[1]) % 3 + (system == "b")) + noise[mixture])
    assert analyse(votes, QUICK).trust == trust


def test_bonuses_go_to_those_nearest_to_the_others_and_payments_read_them(
    listening: Study, data: Data, tmp_path: Path
) -> None:
    simulation().fill_study(listening, data)
    found = analyse(read_study(listening), replace(QUICK, bonus=0.5, bonus_share=0.25))
    paths = write_analysis(found, tmp_path)
    kept = [rater for rater in found.raters if not rater.reasons]
    paid = [rater for rater in found.raters if rater.bonus]
    assert len(paid) == len(kept) // 4
    assert all(rater.bonus == 0.5 and not rater.reasons for rater in paid)
    assert max(rater.distance or 9 for rater in paid) <= min(r.distance or 9 for r in kept if not r.bonus)
    with listening.database.read() as session:
        due = payouts(listening, session, read_overrides(paths["bonuses"]))
    assert sum(payout.bonus for payout in due) == pytest.approx(0.5 * len(paid))
    assert {payout.contributor_id for payout in due if payout.bonus} == {rater.rater for rater in paid}


def test_raters_of_equal_distance_get_equal_bonuses() -> None:
    votes = small(*((f"r{n}", f"m{m}", "a", 1 + m % 5) for n in range(4) for m in range(10)))
    assert [rater.bonus for rater in analyse(votes, replace(QUICK, bonus=1.0)).raters] == [1.0] * 4


def test_epochs_and_corpora_count_items_that_nobody_rated(tmp_path: Path) -> None:
    lines = ["item,system,mixture,blind_si_snr_db,epoch,corpus"]
    for mixture in range(8):
        lines += [
            f"s{mixture}e{epoch},sepformer,syn{mixture},{epoch / 10 + mixture % 3};{epoch / 10},{epoch},"
            for epoch in (10, 20, 40)
        ]
        lines.append(f"syn{mixture},separation/sepformer.mini,syn{mixture},{7 + mixture % 2};8,,Libri2Mix")
        lines.append(f"real{mixture},separation/sepformer.mini,real{mixture},{2 + mixture % 2};3,,REAL-M")
    (tmp_path / "facts.csv").write_text("\n".join(lines))
    votes = many()
    read_facts(tmp_path / "facts.csv", votes)
    found = analyse(votes, QUICK)
    assert [(row.epoch, row.num_mixtures, row.num_votes) for row in found.epochs] == [
        (10, 8, 0),
        (20, 8, 0),
        (40, 8, 0),
    ]
    assert found.epochs[2].blind_db.value == pytest.approx(4 + 7 / 16)
    (row,) = found.corpora
    assert (row.num_synthetic, row.num_real) == (8, 8)
    assert (row.synthetic_db.value, row.real_db.value) == (pytest.approx(7.75), pytest.approx(2.75))
    assert row.gap_db.value == pytest.approx(5.0)
    assert row.gap_db.low is not None
    assert row.gap_db.low > 4
    assert (row.published_system, row.published_synthetic_db, row.published_real_db) == ("SepFormer", 8.40, 2.88)
    swapped = analyse(votes, replace(QUICK, real=("Libri2Mix",)))
    assert swapped.corpora[0].gap_db.value == pytest.approx(-5.0)


def test_epochs_with_votes_have_an_opinion() -> None:
    votes = many(lambda mixture, system: float(mixture[1]))
    votes.items = {
        name: replace(item, epoch=10.0 if item.system == "a" else 20.0) for name, item in votes.items.items()
    }
    first, second = analyse(votes, QUICK).epochs
    assert (first.system, first.num_votes, second.num_votes) == ("a", 24, 24)
    assert first.opinion.value == pytest.approx(sum(v.score for v in votes.votes if v.item.endswith("a")) / 24)


def test_published_values_are_those_of_the_paper() -> None:
    found = {name: published_for(name) for name in ("SepFormer", "DualPathRNN", "Conv-TasNet", "CTN")}
    assert {(row.synthetic_db, row.real_db) for row in found.values() if row} == {
        (8.40, 2.88),
        (7.04, 2.43),
        (5.49, 1.59),
    }
    assert published_for("convtasnet2") is None


WRONG = {
    "rater,mixture,system\nr,m,a": "has no column 'score'; its first line must name it",
    "rater,mixture,system,score\nr,m,a,6": "line 2: score '6' is no whole number from 1 to 5",
    "rater,mixture,system,score\nr,m,a,nan": "line 2: score 'nan' is no number",
    "rater,mixture,system,score\nr,,a,3": "line 2: mixture is empty; every vote needs it",
    "rater,mixture,system,score\nr,m,a,3,4": "line 2: has more cells than names",
    "rater,mixture,system,score": "holds no votes",
    "rater,mixture,system,score,role\nr,m,a,3,boss": "line 2: the role 'boss' is none of trial",
    "rater,item,mixture,system,score\nr,i,m,a,3\nr,i,m,b,3": "line 3: the item 'i' has another mixture or system",
    "rater,mixture,system,score,expected\nr,m,a,3,5-4": "line 2: the expected score '5-4' is neither",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_table_is_said_in_a_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text(text)
    with pytest.raises(AuriscopeError) as caught:
        read_csv(tmp_path / "votes.csv")
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_facts_of_unknown_items_are_passed_over_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "facts.csv").write_text("# remark\nitem,part,blind_si_snr_db\nm0/a,0,3.5\nm9/z,0,1\n")
    votes = many()
    read_facts(tmp_path / "facts.csv", votes)
    assert votes.items["m0/a"].blind_db == (3.5,)
    assert "The facts name 1 items that are not in this study (m9/z is the first)" in votes.notes[0]


def test_names_are_shown_as_they_are_and_run_nothing(tmp_path: Path) -> None:
    evil = '<script>alert("$x^2$")</script>'
    votes = small(
        *((f"=r{n}", f"m{m}", system, 1 + (n + m) % 5) for n in range(4) for m in range(6) for system in (evil, "b"))
    )
    paths = write_analysis(analyse(votes, QUICK), tmp_path)
    page = paths["report"].read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert {row["rater"][:2] for row in table_of(paths["raters"])} == {"'="}
    csv_again = read_csv_of_votes(paths["votes_used"], tmp_path)
    assert sorted({vote.rater for vote in csv_again.votes}) == ["=r0", "=r1", "=r2", "=r3"]


def read_csv_of_votes(path: Path, folder: Path) -> Data:
    """Read the table of votes that an analysis wrote as the input of another."""
    copy = folder / "again.csv"
    copy.write_bytes(path.read_bytes())
    return read_csv(copy)


def test_screening_can_be_chosen(data: Data) -> None:
    kept = {
        method: analyse(data, replace(QUICK, screening=method)).num_dropped for method in ("standard", "bt500", "none")
    }
    assert kept["standard"] > 0
    assert kept["none"] == 0


@pytest.fixture
def votes_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "votes.csv"
    lines = ["rater,mixture,system,score"]
    lines += [f"r{n},m{m},{system},{1 + (n + m) % 5}" for n in range(4) for m in range(6) for system in "ab"]
    path.write_text("\n".join(lines))
    return path


def test_the_command_prints_the_answer(votes_file: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["study", "analyse", str(votes_file), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "There are not enough blind scores and votes to compare."
    assert lines[1].startswith("a: 2.92 (")
    assert lines[-1] == str(tmp_path / "out" / "report.html")


def test_the_command_refuses_what_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["study", "analyse", str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert "there is no campaign here" in result.stderr
    assert CliRunner().invoke(app, ["study", "analyse", str(tmp_path), "--screening", "guess"]).exit_code == 2


def test_contributors_stand_for_raters(listening: Study, data: Data) -> None:
    simulation().fill_study(listening, data)
    with listening.database.read() as session:
        people = set(session.scalars(select(Contributor.id)))
    assert {vote.rater for vote in read_study(listening).votes} == people
