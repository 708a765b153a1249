"""Items of a listening study: manifests and folders of results, what can be wrong with them, and what is kept."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sqlalchemy import select

from auriscope.errors import AuriscopeError
from auriscope.signal.levels import rms_dbfs
from auriscope.study import items, manifest
from auriscope.study.assign import assign
from auriscope.study.participants import Arrival, begin
from auriscope.study.schema import AuditEntry, Item
from auriscope.study.study import Study

RATE = 8_000


def sound(path: Path, seconds: float = 0.2, level: float = 0.1, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(len(path.name)).uniform(-level, level, round(seconds * RATE))
    soundfile.write(path, samples, RATE, **options)
    return path


def listed(study: Study) -> list[Item]:
    with study.database.read() as session:
        return list(session.scalars(select(Item).order_by(Item.name)))


def stored(study: Study, key: str) -> tuple[np.ndarray, int]:
    with study.storage.open(key) as file:
        samples, rate = soundfile.read(io.BytesIO(file.read()), dtype="float32")
    return samples, rate


def rows_of(folder: Path, text: str, scale: str = "quality", name: str = "items.csv") -> manifest.Manifest:
    (folder / name).write_text(text, encoding="utf-8")
    return manifest.read_manifest(folder / name, scale)


def test_a_manifest_becomes_items_and_their_sounds(listening: Study, write_items: Callable[..., Path]) -> None:
    write_items(listening, num_mixtures=2)
    assert items.load_if_empty(listening) == 2 * 2 + 1 + 2 + 2
    by_name = {item.name: item for item in listed(listening)}
    item = by_name["second-1"]
    assert (item.system, item.mixture, item.role) == ("second", "sounds/mix-1.wav", "trial")
    assert item.facts == {"blind_si_snr_db": [1.5, -1.0]}
    assert [part["label"] for part in item.parts] == ["second-1.a", "second-1.b"]
    assert all("expected" not in part for part in item.parts)
    assert [part["expected"] for part in by_name["gold-0"].parts] == [[5], [1, 2]]
    for kept, name in zip((*item.context, *item.parts), ("mix-1", "second-1.a", "second-1.b"), strict=True):
        samples, rate = stored(listening, kept["storage_key"])
        before, _ = soundfile.read(listening.folder / "sounds" / f"{name}.wav", dtype="float32")
        assert rate == RATE
        assert kept["seconds"] == pytest.approx(0.1)
        np.testing.assert_array_equal(samples, before)
    # No key tells a system's or a role's name.
    assert not any(word in key for key in listening.storage.keys("items/") for word in ("first", "second", "gold"))
    with listening.database.read() as session:
        entry = session.scalars(select(AuditEntry)).one()
        assert (entry.actor, entry.action, entry.details["new"]) == ("server", "items.load", 9)


def test_loading_again_adds_what_is_new_and_keeps_the_rest(listening: Study, write_items: Callable[..., Path]) -> None:
    write_items(listening, num_mixtures=2)
    items.load_if_empty(listening)
    before = {item.name: item.id for item in listed(listening)}
    write_items(listening, num_mixtures=3)
    loaded = items.load(listening, items.campaign_manifest(listening).rows)
    assert (loaded.num_new, loaded.num_present) == (2, 9)
    after = {item.name: item.id for item in listed(listening)}
    assert before.items() <= after.items()
    assert len(list(listening.storage.keys("items/"))) == 3 * 11


def test_processes_that_load_at_once_list_everything_once(listening: Study, write_items: Callable[..., Path]) -> None:
    write_items(listening, num_mixtures=4)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(items.load_if_empty(listening))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts == [13] * 6
    # Whoever came too late has taken its files away again.
    keys = {sound["storage_key"] for item in listed(listening) for sound in (*item.context, *item.parts)}
    assert set(listening.storage.keys("items/")) == keys


def test_items_are_replaced_until_raters_have_begun(listening: Study, write_items: Callable[..., Path]) -> None:
    write_items(listening, num_mixtures=2)
    items.load_if_empty(listening)
    rows = items.campaign_manifest(listening).rows
    old = {item.id for item in listed(listening)}
    assert items.load(listening, rows, replace_all=True).num_new == 9
    assert not old & {item.id for item in listed(listening)}
    assert len(list(listening.storage.keys("items/"))) == 27
    with listening.database.write() as session:
        visit, _ = begin(listening, session, Arrival(), "en")
        assign(listening, session, visit)
    with pytest.raises(AuriscopeError, match="raters have begun"):
        items.load(listening, rows, replace_all=True)
    assert len(list(listening.storage.keys("items/"))) == 27


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",s,mix.wav,a.wav,,", "has no name"),
        ("n,s,mix.wav,,,", "has no estimates"),
        ("n,s,,a.wav,,", "has no mixture"),
        ("n,s,mix.wav,a.wav;b.wav,judge,", "the role 'judge' is none of trial"),
        ("n,s,mix.wav,a.wav;b.wav,gold,", "gold item without expected scores"),
        ("n,s,mix.wav,a.wav;b.wav,gold,5", "has 2 estimates, but expected scores for 1"),
        ("n,s,mix.wav,a.wav;b.wav,gold,5;6", "the expected score '6' is neither"),
        ("n,s,mix.wav,a.wav;b.wav,gold,5;4-2", "the expected score '4-2' is neither"),
        ("n,s,mix.wav,a.wav;;b.wav,,", "divided by semicolons"),
        (f"{'n' * 201},s,mix.wav,a.wav,,", "at most 200 letters"),
    ],
)
def test_every_wrong_row_is_told_in_one_line(tmp_path: Path, line: str, message: str) -> None:
    good = "good,s,mix.wav,a.wav,,"
    found = rows_of(tmp_path, f"# a remark\nname,system,mixture,estimates,role,expected\n{line}\n{good}\n")
    assert [row.name for row in found.rows] == ["good"]
    (problem,) = found.problems
    assert problem.startswith(f"{tmp_path / 'items.csv'}:3: ")
    assert message in problem


def test_a_name_is_used_once(tmp_path: Path) -> None:
    found = rows_of(tmp_path, "name,mixture,estimate1\nn,m.wav,a.wav\nn,m.wav,b.wav\n")
    assert found.problems == (
        f"{tmp_path / 'items.csv'}:3: the name 'n' is used before, in {tmp_path / 'items.csv'}:2; give each its own",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing yet\nname,estimates\n", "lists no items yet"),
        ("name,mixtrue,estimates\nn,m.wav,a.wav\n", "there is no column 'mixtrue'"),
        ("name,estimates\nn,a.wav,b.wav\n", "quote cells with commas"),
    ],
)
def test_a_manifest_that_is_none_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AuriscopeError, match=message):
        raise AuriscopeError(rows_of(tmp_path, text).problems[0])


def test_json_lines_say_the_same_as_csv(tmp_path: Path) -> None:
    table = (
        "name,system,mixture,estimate1,estimate2,role,expected,blind_si_snr_db,epoch,corpus,fact_room\n"
        "n,s,m.wav,a.wav,b.wav,gold,4-5;,1.5;,3,real,kitchen\n"
    )
    entry = {
        "name": "n",
        "system": "s",
        "mixture": "m.wav",
        "estimates": ["a.wav", "b.wav"],
        "role": "gold",
        "expected": [[4, 5], None],
        "blind_si_snr_db": [1.5, None],
        "epoch": 3,
        "corpus": "real",
        "fact_room": "kitchen",
    }
    (one,) = rows_of(tmp_path, table).rows
    (other,) = rows_of(tmp_path, json.dumps(entry) + "\n\n", name="items.jsonl").rows
    assert one.facts == {"blind_si_snr_db": [1.5, None], "epoch": 3.0, "corpus": "real", "room": "kitchen"}
    assert one.expected == ((4, 5), None)
    assert one == manifest.replace(other, where=one.where)


def test_other_scales_need_other_columns(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "name,estimates\nn,a.wav\n", "naturalness").rows
    assert (row.context, row.group) == ((), "n")
    (problem,) = rows_of(tmp_path, "name,estimates\nn,a.wav\n", "similarity").problems
    assert "has no reference" in problem
    (row,) = rows_of(tmp_path, "name,estimates,reference\nn,a.wav,r.wav\n", "similarity").rows
    assert row.context == (("reference", tmp_path / "r.wav"),)
    (problem,) = rows_of(tmp_path, "name,estimates,mixture\nn,a.wav,m.wav\n", "interpretation").problems
    assert "has no class" in problem
    table = "name,estimates,mixture,class,class_fr\nn,a.wav,m.wav,dog,chien\n"
    (row,) = rows_of(tmp_path, table, "interpretation").rows
    assert row.facts["class"] == {"en": "dog", "fr": "chien"}


def test_every_missing_or_foreign_file_is_told_in_one_line(tmp_path: Path) -> None:
    sound(tmp_path / "m.wav")
    sound(tmp_path / "a.wav")
    sound(tmp_path / "long.wav", 0.5)
    (tmp_path / "text.wav").write_text("no sound")
    table = "name,mixture,estimates\ngood,m.wav,a.wav\nbad,m.wav,gone.wav;long.wav;text.wav\n"
    problems = items.problems_of(rows_of(tmp_path, table).rows)
    assert len(problems) == 3
    assert all(problem.startswith(f"{tmp_path / 'items.csv'}:3: ") for problem in problems)
    assert "gone.wav: no such file" in problems[0]
    assert "text.wav: is not audio" in problems[1]
    assert "lasts 0.50 s, but its mixture 0.20 s" in problems[2]


def test_nothing_is_loaded_if_a_file_is_missing(listening: Study, write_items: Callable[..., Path]) -> None:
    write_items(listening, num_mixtures=2)
    (listening.folder / "sounds" / "second-1.b.wav").unlink()
    with pytest.raises(AuriscopeError, match=r"second-1\.b\.wav: no such file"):
        items.load_if_empty(listening)
    assert listed(listening) == []
    assert list(listening.storage.keys()) == []


def results(folder: Path, systems: dict[str, str], recordings: tuple[str, ...]) -> dict[str, Path]:
    """Write what ``separate`` (``separate.json``) or ``listen`` (``report.json``) writes, by system."""
    for name in recordings:
        sound(folder / "recordings" / f"{name}.wav")
    for system, record in systems.items():
        for name in recordings:
            place = folder / system / name
            tracks = [sound(place / f"track{number}.wav", subtype="FLOAT").name for number in (1, 2)]
            source = {"path": str(folder / "recordings" / f"{name}.wav")}
            scored = [{"path": track, "blind_si_snr_db": 3.0 + number} for number, track in enumerate(tracks)]
            (place / record).write_text(json.dumps({"source": source, "tracks": scored if "rep" in record else tracks}))
    return {system: folder / system for system in systems}


def test_folders_of_results_become_rows(tmp_path: Path) -> None:
    systems = results(tmp_path, {"one": "separate.json", "two": "report.json"}, ("r1", "r2"))
    found = manifest.read_results(systems)
    assert [row.name for row in found.rows] == ["one/r1", "one/r2", "two/r1", "two/r2"]
    assert [row.group for row in found.rows] == ["r1", "r2", "r1", "r2"]
    assert found.rows[0].facts == {}
    assert found.rows[2].facts == {"blind_si_snr_db": [3.0, 4.0]}
    assert found.rows[1].estimates == (tmp_path / "one/r2/track1.wav", tmp_path / "one/r2/track2.wav")
    assert items.problems_of(found.rows) == []
    (tmp_path / "two" / "r1" / "report.json").unlink()
    assert manifest.read_results(systems).problems == (
        "two: has no result for the recording r1, which another system has",
    )
    with pytest.raises(AuriscopeError, match="holds no results"):
        manifest.read_results({"none": tmp_path})


def test_a_campaign_may_name_a_folder_of_results(open_study: Callable[..., Study], tmp_path: Path) -> None:
    results(tmp_path / "out", {"one": "separate.json", "two": "report.json"}, ("r1", "r2"))
    study = open_study(
        {
            "kind": "listening",
            "name": "how-good",
            "title": "How good",
            "instructions": "Listen.",
            "contact": "lab@example.org",
            "consent": {"version": "1", "text": "We keep your votes."},
            "manifest": str(tmp_path / "out"),
        }
    )
    assert items.load_if_empty(study) == 4
    assert {item.system for item in listed(study)} == {"one", "two"}


def test_blind_scores_come_from_what_judge_printed(tmp_path: Path) -> None:
    found = manifest.read_results(results(tmp_path, {"one": "separate.json"}, ("r1", "r2")))
    lines = [
        {"mixture": "r1.wav", "tracks": [{"path": str(path), "blind_si_snr_db": score} for path, score in given]}
        for given in (
            ((tmp_path / "one/r1/track2.wav", -2.5), (tmp_path / "one/r1/track1.wav", 7.25)),
            ((tmp_path / "one/r2/track1.wav", None),),
        )
    ]
    scores = tmp_path / "scores.jsonl"
    scores.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows, problems = manifest.with_scores(found.rows, [scores])
    assert problems == []
    assert [row.facts for row in rows] == [{"blind_si_snr_db": [7.25, -2.5]}, {}]
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"tracks": [{"path": "elsewhere.wav", "blind_si_snr_db": 1.0}]}))
    assert "scores none of the items' files" in manifest.with_scores(found.rows, [other])[1][0]
    other.write_text('{"tracks": [{"path": "elsewhere.wav"}]}')
    with pytest.raises(AuriscopeError, match="holds no blind scores"):
        manifest.with_scores(found.rows, [other])


def test_levels_stay_as_they_are_unless_asked(open_study: Callable[..., Study], write_items: Any) -> None:
    study = open_study(
        {
            "kind": "listening",
            "name": "how-good",
            "title": "How good",
            "instructions": "Listen.",
            "contact": "lab@example.org",
            "consent": {"version": "1", "text": "We keep your votes."},
        }
    )
    write_items(study, num_mixtures=1, systems=("one",), num_training=0, num_gold=0, num_traps=0)
    sound(study.folder / "sounds" / "one-0.a.wav", 0.1, 0.01)
    sound(study.folder / "sounds" / "one-0.b.wav", 0.1, 1.4, subtype="FLOAT")
    rows = items.campaign_manifest(study).rows
    assert any("goes beyond full scale" in line for line in items.load(study, rows).warnings)
    loaded = items.load(study, rows, level_dbfs=-23.0, replace_all=True)
    assert not any("full scale" in line for line in loaded.warnings)
    (item,) = listed(study)
    for part in (*item.context, *item.parts):
        assert rms_dbfs(stored(study, part["storage_key"])[0]) == pytest.approx(-23.0, abs=0.05)
    items.load(study, rows, level_dbfs=-0.5, replace_all=True)
    (item,) = listed(study)
    for part in item.parts:
        assert np.abs(stored(study, part["storage_key"])[0]).max() == pytest.approx(10 ** (-1 / 20), abs=1e-3)


def test_noise_traps_sound_as_loud_and_hold_no_speech(listening: Study, write_items: Callable[..., Path]) -> None:
    write_items(listening, num_mixtures=3, num_traps=0, seconds=1.0)
    rows = manifest.with_noise_traps(items.campaign_manifest(listening).rows, 2, seed=1)
    assert rows == manifest.with_noise_traps(items.campaign_manifest(listening).rows, 2, seed=1)
    items.load(listening, rows)
    traps = [item for item in listed(listening) if item.role == "trap"]
    assert len(traps) == 2
    for trap in traps:
        original = next(item for item in listed(listening) if trap.name == f"noise trap of {item.name}")
        assert trap.mixture == original.mixture
        assert trap.facts == {}
        for part, before in zip(trap.parts, original.parts, strict=True):
            noise, speech = (stored(listening, sound["storage_key"])[0] for sound in (part, before))
            assert part["expected"] == [1, 2]
            assert rms_dbfs(noise) == pytest.approx(rms_dbfs(speech), abs=0.1)
            assert abs(np.corrcoef(noise, speech)[0, 1]) < 0.1
            # The mixture is heard as it is.
        assert np.array_equal(
            stored(listening, trap.context[0]["storage_key"])[0],
            stored(listening, original.context[0]["storage_key"])[0],
        )


def test_nobody_practises_on_what_they_rate(listening: Study, write_items: Callable[..., Path]) -> None:
    write_items(listening, num_mixtures=5, num_training=0)
    rows = manifest.with_training(items.campaign_manifest(listening).rows, 2, seed=7)
    practice = {row.group for row in rows if row.role == "training"}
    assert len(practice) == 2
    assert not practice & {row.group for row in rows if row.role == "trial"}
    with pytest.raises(AuriscopeError, match="there are 5 recordings"):
        manifest.with_training(items.campaign_manifest(listening).rows, 5, seed=7)


def test_a_collection_has_no_items(collection: Study) -> None:
    assert items.load_if_empty(collection) == 0
    with pytest.raises(AuriscopeError, match="only a listening study has items"):
        items.campaign_manifest(collection)
