"""Releases: only what was included, the same bytes from the same data, every bit of the audio, nobody recognisable."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sqlalchemy import select

from auriscope.data.manifest import read_manifest
from auriscope.errors import AuriscopeError
from auriscope.study import release as releasing
from auriscope.study.corpus import (
    About,
    Built,
    Description,
    Recording,
    build,
    data_card,
    split_of,
    with_rare_descriptions_left_out,
    write_exactly,
)
from auriscope.study.release import Released, release
from auriscope.study.removal import remove_contributor
from auriscope.study.schema import AuditEntry, Release, Score, Session, Setting, Submission, Task
from auriscope.study.storage import put
from auriscope.study.study import Study


def include(study: Study, session_id: str, use: str = "included") -> list[Submission]:
    with study.database.write() as session:
        found = list(session.scalars(select(Submission).where(Submission.session_id == session_id)))
        for submission in found:
            submission.use, submission.payment = use, "rejected"
            submission.details = {
                "echoCancellation": False,
                "autoGainControl": True,
                "recorded_at": "2026-11-25T13:00:00",
            }
        return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


ROW = [
    *("month", "language", "consent_version"),
    *(f"{name}_{index}" for name in ("gender", "native", "native_language") for index in (1, 2)),
]


def rows_of(released: Released) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (released.path / "metadata.jsonl").read_text().splitlines()]


def test_only_included_recordings_are_released_whatever_was_paid(
    collection: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    included = include(collection, take_part(collection, "P1"))
    include(collection, take_part(collection, "P2"), "excluded")
    take_part(collection, "P3")
    made = release(collection, "1.0.0", tmp_path)
    assert made.path == tmp_path / "two-at-once-1.0.0"
    assert (made.num_recordings, made.num_sessions) == (2, 1)
    digests = {
        hashlib.sha256(soundfile.read(made.path / row["path"], dtype="int16")[0].tobytes()).hexdigest()
        for row in rows_of(made)
    }
    expected = set()
    for submission in included:
        with collection.storage.local(submission.storage_key) as path:
            expected.add(hashlib.sha256(soundfile.read(path, dtype="int16")[0].tobytes()).hexdigest())
    assert digests == expected


def test_the_same_data_give_the_same_bytes(collection: Study, take_part: Callable[..., str], tmp_path: Path) -> None:
    for worker in ("P1", "P2", "P3"):
        include(collection, take_part(collection, worker))
    first = release(collection, "1.0.0", tmp_path / "first", licence="CC-BY-4.0")
    second = release(collection, "1.0.0", tmp_path / "second", licence="CC-BY-4.0")
    assert contents(first.path) == contents(second.path)
    assert first.sha256 == second.sha256
    with collection.database.read() as session:
        row = session.scalars(select(Release)).one()
        assert (row.version, row.sha256, row.num_submissions) == ("1.0.0", first.sha256, 6)
        assert session.scalars(select(AuditEntry).where(AuditEntry.action == "release")).one().subject == "1.0.0"


def test_a_release_holds_all_it_says(collection: Study, take_part: Callable[..., str], tmp_path: Path) -> None:
    (first, _) = include(collection, take_part(collection, "P1"))
    with collection.database.write() as session:
        tracks = [{"storage_key": "tracks/x", "blind_si_snr_db": 7.25}, {"blind_si_snr_db": None}]
        session.add(Score(submission_id=first.id, separator="sep", estimator="est", tracks=tracks))
    made = release(collection, "1.0.0", tmp_path, licence="CC-BY-4.0")
    with (made.path / "metadata.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    rows = rows_of(made)
    plain = {True: "yes", False: "no", None: ""}
    assert [
        {name: str(plain.get(value, value) if isinstance(value, bool | None) else value) for name, value in row.items()}
        for row in rows
    ] == table
    scored = next(row for row in rows if row["scored_by"])
    assert (scored["blind_si_snr_db_1"], scored["blind_si_snr_db_2"], scored["scored_by"]) == (7.25, None, "sep, est")
    assert (scored["duration_seconds"], scored["sample_rate"], scored["num_frames"]) == (0.5, 16_000, 8_000)
    assert (scored["echo_cancellation"], scored["noise_suppression"], scored["auto_gain_control"]) == (
        False,
        None,
        True,
    )
    assert (scored["language"], scored["consent_version"]) == ("en", "1")
    assert {row["sentence_1_id"] for row in rows} == {"s0", "s1"}
    assert scored["month"] == f"{first.received_at:%Y-%m}"
    entries = read_manifest(made.path / "manifest.csv")
    assert [(entry.path, entry.split, entry.duration_seconds) for entry in entries] == [
        (row["path"], row["split"], 0.5) for row in rows
    ]
    assert {entry.speaker for entry in entries} == {row["contributor"] for row in rows}
    checked = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=made.path, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert len(checked.stdout.splitlines()) == len(contents(made.path)) - 1
    card = (made.path / "README.md").read_text()
    assert card.startswith("# Two voices at once, version 1.0.0")
    for line in ("| recordings | 2 |", "| consent, version | 1 |", "| licence | CC-BY-4.0 |"):
        assert line in card
    assert "creativecommons.org/licenses/by/4.0" in (made.path / "LICENSE").read_text()


def test_nothing_tells_who_took_part(collection: Study, take_part: Callable[..., str], tmp_path: Path) -> None:
    details = {"assignmentId": "ASSIGNMENTZQ88"}
    session_id = take_part(collection, "WORKERZQ77", platform="mturk", details=details)
    submissions = include(collection, session_id)
    made = release(collection, "1.0.0", tmp_path)
    with collection.database.read() as session:
        visit = session.get_one(Session, session_id)
        salt = session.get_one(Setting, "release_salt").value["salt"]
        secrets = ["WORKERZQ77", "ASSIGNMENTZQ88", visit.id, visit.contributor_id, salt, f"{visit.started_at:%Y-%m-%d}"]
    secrets += [submission.id for submission in submissions] + [submission.key for submission in submissions]
    for name, data in contents(made.path).items():
        for secret in secrets:
            assert secret.encode() not in data, (name, secret)
            assert secret not in name


def test_pseudonyms_stay_in_later_versions_and_differ_between_studies(
    collection: Study, take_part: Callable[..., str], open_study: Callable[..., Study], tmp_path: Path
) -> None:
    include(collection, take_part(collection, "P1"))
    first = {row["recording"]: row["contributor"] for row in rows_of(release(collection, "1.0.0", tmp_path))}
    include(collection, take_part(collection, "P2"))
    second = {row["recording"]: row["contributor"] for row in rows_of(release(collection, "1.1.0", tmp_path))}
    assert len(second) == 4
    assert first.items() <= second.items()
    with collection.database.write() as session:
        session.get_one(Setting, "release_salt").value = {"salt": "another"}
    assert not {row["contributor"] for row in rows_of(release(collection, "2.0.0", tmp_path))} & set(second.values())


def test_a_version_is_not_overwritten_nor_released_with_other_contents(
    collection: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    include(collection, take_part(collection, "P1"))
    made = release(collection, "1.0.0", tmp_path / "first")
    before = contents(made.path)
    with pytest.raises(AuriscopeError, match="this version is there already"):
        release(collection, "1.0.0", tmp_path / "first")
    include(collection, take_part(collection, "P2"))
    with pytest.raises(AuriscopeError, match=r"version 1\.0\.0 was released with other contents"):
        release(collection, "1.0.0", tmp_path / "second")
    assert contents(made.path) == before
    assert list((tmp_path / "second").iterdir()) == []


def test_a_removed_contributor_is_not_in_the_next_release(
    collection: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    gone = take_part(collection, "P1")
    for session_id in (gone, take_part(collection, "P2")):
        include(collection, session_id)
    before = {row["recording"] for row in rows_of(release(collection, "1.0.0", tmp_path))}
    with collection.database.read() as session:
        contributor = session.get_one(Session, gone).contributor_id
    remove_contributor(collection, contributor, "command")
    after = {row["recording"] for row in rows_of(release(collection, "1.0.1", tmp_path))}
    assert len(before) == 4
    assert len(after) == 2
    assert after < before


def test_nobody_who_is_removed_while_a_release_is_made_is_in_it(
    collection: Study, take_part: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = take_part(collection, "P1")
    for session_id in (gone, take_part(collection, "P2")):
        include(collection, session_id)
    with collection.database.read() as session:
        contributor = session.get_one(Session, gone).contributor_id

    def build_and_remove(*arguments: Any) -> Built:
        built = build(*arguments)
        remove_contributor(collection, contributor, "command")
        return built

    monkeypatch.setattr(releasing, "build", build_and_remove)
    with pytest.raises(AuriscopeError, match="2 recordings were removed or excluded while the release was made"):
        release(collection, "1.0.0", tmp_path)
    assert list(tmp_path.glob("*two-at-once*")) == []
    monkeypatch.undo()
    assert release(collection, "1.0.0", tmp_path).num_recordings == 2


def test_a_recording_that_cannot_be_kept_is_named_by_its_submission(
    collection: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    (first, _) = include(collection, take_part(collection, "P1"))
    file = io.BytesIO()
    soundfile.write(file, np.zeros(100), 16_000, "PCM_32", format="WAV")
    put(collection.storage, first.storage_key, file.getvalue())
    with pytest.raises(AuriscopeError, match=f"^{first.id}: a recording as PCM_32 cannot be released without loss"):
        release(collection, "1.0.0", tmp_path)


def test_two_that_make_one_version_do_not_disturb_each_other(tmp_path: Path) -> None:
    about = About("corpus", "A corpus", "1.0.0", "Made up.", "lab@example.org")
    first, second = build([], about, tmp_path), build([], about, tmp_path)
    assert first.aside != second.aside
    first.keep()
    with pytest.raises(AuriscopeError, match="cannot be written"):
        second.keep()
    second.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["corpus-1.0.0"]


def test_a_release_is_on_the_disk_with_all_its_folders(
    collection: Study, take_part: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    include(collection, take_part(collection, "P1"))
    flushed, flush = [], os.fsync

    def remember(handle: int) -> None:
        flush(handle)
        flushed.append(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", remember)
    made = release(collection, "1.0.0", tmp_path)
    assert {path.stat().st_ino for path in [made.path, *made.path.rglob("*")]} <= set(flushed)
    # The folder it was put into comes last.
    assert flushed[-1] == tmp_path.stat().st_ino


def test_languages_are_published_only_by_their_codes_and_texts_are_no_formulas(
    collection: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    for number in range(3):
        for name, language in (("P", "Plautdietsch, Ontario"), ("Q", "nl")):
            speaker = {"gender": "female", "native": True, "native_language": language}
            include(collection, take_part(collection, f"{name}{number}", answers={"speakers": [speaker] * 2}))
    with collection.database.write() as session:
        for task in session.scalars(select(Task)):
            task.sentences = [{"id": "s0", "text": "=1+1"}, {"id": "s1", "text": "- so they say"}]
    made = release(collection, "1.0.0", tmp_path)
    assert Counter(row["native_language_1"] for row in rows_of(made)) == {None: 6, "nl": 6}
    assert {(row["sentence_1"], row["sentence_2"]) for row in rows_of(made)} == {("=1+1", "- so they say")}
    with (made.path / "metadata.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert {(row["sentence_1"], row["sentence_2"]) for row in table} == {("'=1+1", "'- so they say")}
    assert "an apostrophe before it" in (made.path / "README.md").read_text()


def test_a_pair_that_comes_by_a_link_again_and_again_is_no_crowd(
    collection: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    for _ in range(5):
        include(collection, take_part(collection))
    made = release(collection, "1.0.0", tmp_path / "link")
    assert {row["gender_1"] for row in rows_of(made)} == {None}
    assert "came by a link" in (made.path / "README.md").read_text()
    # Beside five of whom it is known that they are five, they are described as well.
    for number in range(5):
        include(collection, take_part(collection, f"P{number}"))
    rows = rows_of(release(collection, "1.1.0", tmp_path / "both"))
    assert {(row["gender_1"], row["native_language_2"]) for row in rows} == {("female", "fr")}


def test_the_card_counts_a_speaker_for_all_they_said() -> None:
    said = [Description("female", True, "en"), Description("female", False, "fr")]
    recordings = [
        Recording(f"r{number}-{turn}", "s", f"c{number}", (), lambda: None, (said[turn],))  # type: ignore[arg-type, return-value]
        for number in range(5)
        for turn in (0, 1)
    ]
    rows = [
        {**dict.fromkeys(ROW), "contributor": one.contributor, "session": one.session, "split": "train"}
        | {"duration_seconds": 1.0, "sample_rate": 16_000, "gender_1": one.speakers[0].gender}
        | {"native_1": one.speakers[0].native, "native_language_1": one.speakers[0].native_language}
        for one in with_rare_descriptions_left_out(recordings)
    ]
    card = data_card(rows, About("corpus", "A corpus", "1.0.0", "Made up.", "lab@example.org"))
    for line in ("| female | 5 |", "| no | 5 |", "| yes | 5 |", "| en | 5 |", "| fr | 5 |"):
        assert line in card


def test_a_recording_that_is_gone_stops_the_release_and_leaves_nothing(
    collection: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    (first, _) = include(collection, take_part(collection, "P1"))
    collection.storage.delete(first.storage_key)
    with pytest.raises(AuriscopeError, match="there is no such file"):
        release(collection, "1.0.0", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    with collection.database.read() as session:
        assert session.scalars(select(Release)).all() == []


@pytest.mark.parametrize("version", ["1", "1.0", "v1.0.0", "1.0.0/..", "latest"])
def test_a_version_is_three_numbers(
    collection: Study, take_part: Callable[..., str], tmp_path: Path, version: str
) -> None:
    include(collection, take_part(collection, "P1"))
    with pytest.raises(AuriscopeError, match="is no version"):
        release(collection, version, tmp_path)


def test_nothing_to_release_is_said(collection: Study, listening: Study, tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match="no recording is included yet"):
        release(collection, "1.0.0", tmp_path)
    with pytest.raises(AuriscopeError, match="a listening study has no recordings"):
        release(listening, "1.0.0", tmp_path)


CODINGS = [("PCM_16", "int16"), ("PCM_24", "int32"), ("PCM_U8", "int16"), ("FLOAT", "float32")]


@pytest.mark.parametrize(("coding", "kind"), CODINGS)
@pytest.mark.parametrize("audio", ["flac", "wav"])
@pytest.mark.parametrize("channels", [1, 2])
def test_audio_is_kept_bit_for_bit(tmp_path: Path, coding: str, kind: Any, audio: Any, channels: int) -> None:
    values = np.random.default_rng(0).integers(-(2**31), 2**31, (70_001, channels)).astype(np.int32)
    values[:4] = np.array([[-(2**31)], [2**31 - 1], [0], [-1]])
    samples = values if coding != "FLOAT" else (values / 2.0**30).astype(np.float32)
    soundfile.write(tmp_path / "given.wav", samples, 44_100, coding)
    with (tmp_path / "given.wav").open("ab") as file:
        # What else a file may carry is not published.
        file.write(b"LIST\x0e\x00\x00\x00INFOIART\x02\x00\x00\x00Me")
    path = write_exactly(tmp_path / "given.wav", tmp_path / "kept", audio)
    assert path.suffix == (".wav" if coding == "FLOAT" else f".{audio}")
    given, rate = soundfile.read(tmp_path / "given.wav", dtype=kind)
    kept, kept_rate = soundfile.read(path, dtype=kind)
    assert rate == kept_rate == 44_100
    assert np.array_equal(given, kept)
    assert b"IART" not in path.read_bytes()


def test_a_coding_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "given.wav", np.zeros(100), 16_000, "DOUBLE")
    with pytest.raises(AuriscopeError, match="cannot be released without loss"):
        write_exactly(tmp_path / "given.wav", tmp_path / "kept", "wav")


def test_splits_keep_contributors_apart_and_their_shares() -> None:
    splits = Counter(split_of(f"c{number}", 20, 10) for number in range(5_000))
    assert 3_300 < splits["train"] < 3_700
    assert 900 < splits["valid"] < 1_100
    assert 400 < splits["test"] < 600
    assert {split_of("c1", 0, 0), split_of("c2", 0, 0)} == {"train"}


def described(*people: tuple[str, bool, str]) -> list[Recording]:
    return [
        Recording(f"r{number}", f"s{number}", f"c{number}", (), lambda: None, (Description(*one),))  # type: ignore[arg-type, return-value]
        for number, one in enumerate(people)
    ]


def shown(*people: tuple[str, bool, str]) -> Counter[tuple[Any, ...]]:
    kept = with_rare_descriptions_left_out(described(*people))
    return Counter((one.gender, one.native, one.native_language) for recording in kept for one in recording.speakers)


def test_descriptions_that_fewer_than_five_share_are_left_out() -> None:
    english, french, swahili = ("female", True, "en"), ("female", False, "fr"), ("female", False, "sw")
    other = ("other", True, "en")
    assert shown(*[english] * 5) == {english: 5}
    assert shown(*[english] * 4) == {(None, None, None): 4}
    # Languages too rare each: what is left in common is shown.
    assert shown(*[english] * 6, *[french] * 3, *[swahili] * 2) == {english: 6, ("female", False, None): 5}
    # One person alone would be singled out by silence: the smallest group keeps silent too.
    assert shown(*[english] * 9, *[french] * 6, other) == {english: 9, (None, None, None): 7}
    assert shown(*[english] * 6, other) == {(None, None, None): 7}


def test_a_speaker_counts_once_however_much_they_recorded() -> None:
    many = [
        Recording(f"r{number}", "s", "c", (), lambda: None, (Description("female", True, "en"),))  # type: ignore[arg-type, return-value]
        for number in range(20)
    ]
    kept = with_rare_descriptions_left_out(many)
    assert {recording.speakers for recording in kept} == {(Description(),)}


def test_every_published_description_is_shared_by_five_speakers() -> None:
    draw = np.random.default_rng(1)
    for size in (3, 10, 40, 200):
        people = [
            (
                str(draw.choice(["female", "male", "other"], p=[0.5, 0.45, 0.05])),
                bool(draw.random() < 0.6),
                str(language),
            )
            for language in draw.choice(["en", "fr", "de", "sw"], size, p=[0.6, 0.2, 0.15, 0.05])
        ]
        counts = shown(*people)
        assert sum(counts.values()) == size
        assert all(number >= 5 for number in counts.values()) or set(counts) == {(None, None, None)}
