"""The verb ``curate``: pairs that are the teacher's, a folder that training reads, and what is left out or refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.crossmodal import CLAP
from auriscope.crossmodal.windows import embed_recording
from auriscope.data.captioned import CaptionedBatches, CaptionedConfig, open_captioned
from auriscope.data.manifest import Entry, write_manifest
from auriscope.data.prepared_captioned import PreparedCaptioned, PreparedCaptions, read_captioned, write_captioned
from auriscope.data.prepared_labelled import PreparedSound, PreparedSounds, write_labelled
from auriscope.errors import AuriscopeError, CorpusError
from auriscope.pretrained import load
from auriscope.signal.files import read
from auriscope.verbs.curate import curate

CAPTIONS = ("rain falling", "a dog barking", "thunder", "a slamming door")
RATE = 16_000


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, four captioned sounds, and a folder of six others."""
    root = tmp_path_factory.mktemp("curate")
    torch.manual_seed(5)
    CLAP(CLAP.Config(**CLAP.Tiny)).save_pretrained(root / "teacher")
    sounds = []
    for number, caption in enumerate(CAPTIONS):
        sounds.append(PreparedCaptions(write(root / "own", number), "train", (caption,), str(number), 8_000, RATE))
    sounds.append(PreparedCaptions(write(root / "own", 9), "test", ("never read",), "9", 8_000, RATE))
    write_captioned(PreparedCaptioned("own", "own", root / "own", tuple(sounds)), root / "pairs")
    for number in range(10, 16):
        write(root / "others", number)
    return root


def write(folder: Path, seed: int, num_frames: int = 8_000) -> str:
    folder.mkdir(exist_ok=True)
    tone = np.sin(2 * np.pi * 200 * (seed + 1) * np.arange(num_frames) / RATE)
    noise = np.random.default_rng(seed).standard_normal(num_frames)
    soundfile.write(folder / f"{seed}.wav", 0.2 * tone + 0.02 * seed * noise / 3, RATE)
    return f"{seed}.wav"


def given(places: Path, **changes: Any) -> dict[str, Any]:
    values = {"teacher": places / "teacher", "captions": places / "pairs", "audio": places / "others"}
    return {name: value for name, value in {**values, **changes}.items() if value is not None}


def cosines(places: Path) -> torch.Tensor:
    """(others, captions), one by one."""
    teacher: Any = load(places / "teacher")
    with torch.no_grad():
        text = teacher.embed_text(CAPTIONS)
        rows = [
            text @ embed_recording(teacher, torch.from_numpy(read(places / "others" / f"{n}.wav", sample_rate=RATE)[0]))
            for n in range(10, 16)
        ]
    return torch.stack(rows)


def found(folder: Path) -> dict[str, tuple[str, ...]]:
    return {sound.path: sound.captions for sound in read_captioned(folder).sounds}


def test_du_pairs_all_that_are_near(places: Path, tmp_path: Path) -> None:
    every = cosines(places)
    # Between two cosines, so that rounding decides nothing.
    threshold = float(every.flatten().sort().values[11:13].mean())
    result = curate("du", tmp_path / "du", **given(places), audio_threshold=threshold)
    expected = {
        f"{number + 10}.wav": {CAPTIONS[text] for text in range(4) if row[text] >= threshold}
        for number, row in enumerate(every)
    }
    made = found(tmp_path / "du")
    assert {path: set(captions) for path, captions in made.items()} == {k: v for k, v in expected.items() if v}
    assert result.num_pairs == sum(map(len, expected.values()))
    assert (result.num_recordings, result.num_captions, result.num_recordings_used) == (6, 4, len(made))
    with (tmp_path / "du" / "pairs.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == result.num_pairs
    for row in rows:
        cosine = every[int(row["path"].removesuffix(".wav")) - 10, CAPTIONS.index(row["text"])]
        assert float(row["cosine"]) == pytest.approx(float(cosine), abs=1e-4)
    record = json.loads((tmp_path / "du" / "curate.json").read_text(encoding="utf-8"))
    assert record["num_pairs"] == result.num_pairs
    assert record["audio_threshold"] == threshold
    # Only the nearest of each.
    curate("du", tmp_path / "one", **given(places), audio_threshold=-1.0, most=1)
    assert found(tmp_path / "one") == {f"{n + 10}.wav": (CAPTIONS[int(row.argmax())],) for n, row in enumerate(every)}


def test_the_same_inputs_give_the_same_folder_that_training_reads(places: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        curate("du", tmp_path / name, **given(places), audio_threshold=-1.0)
    for name in ("corpus.json", "manifest.csv", "pairs.csv", "curate.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    config = CaptionedConfig(sets=(), prepared=(str(places / "pairs"),), curated=(str(tmp_path / "a"),), batch_size=2)
    assert all(caption in CAPTIONS for caption in CaptionedBatches(config, seed=0).batch(1)["captions"])
    # Curating again replaces it; what was not written by it is not touched.
    curate("du", tmp_path / "a", **given(places), audio_threshold=-1.0, most=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(CorpusError, match="was not written by prepare"):
        curate("du", tmp_path / "mine", **given(places), audio_threshold=-1.0)


def test_ds_keeps_annotated_pairs_near_a_label_and_ads_pairs_recordings_with_their_captions(
    places: Path, tmp_path: Path
) -> None:
    teacher: Any = load(places / "teacher")
    labels = ("a wet sound", "a loud animal")
    with torch.no_grad():
        near = teacher.embed_text(CAPTIONS) @ teacher.embed_text([f"this is a sound of {each}" for each in labels]).T
    threshold = float(near.amax(1).sort().values[2])
    kept = {text: int(near[number].argmax()) for number, text in enumerate(CAPTIONS) if near[number].max() >= threshold}
    assert len(kept) == 2
    domain = {"labels": labels, "caption_threshold": threshold - 1e-6}
    result = curate("ds", tmp_path / "ds", **given(places, audio=None), **domain)
    clips, _ = open_captioned(str(tmp_path / "ds"), "train", sample_rate=RATE)
    assert {clip.captions[0] for clip in clips} == set(kept)
    assert all(clip.name == f"{CAPTIONS.index(clip.captions[0])}.wav" for clip in clips)
    assert (result.num_pairs, result.num_captions_near, result.audio_threshold) == (2, 2, None)

    every = cosines(places)[:, [CAPTIONS.index(text) for text in kept]]
    least = float(every.flatten().sort().values[5:7].mean())
    result = curate("ads", tmp_path / "ads", **given(places), **domain, audio_threshold=least)
    assert result.num_pairs == int((every >= least).sum())
    curate("ads", tmp_path / "ads", **given(places), **domain, audio_threshold=-1.0)
    with (tmp_path / "ads" / "pairs.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["text"], row["label"]) for row in rows} == {(text, labels[label]) for text, label in kept.items()}
    nearest = near.amax(1)
    for row in rows:
        assert float(row["label_cosine"]) == pytest.approx(float(nearest[CAPTIONS.index(row["text"])]), abs=1e-4)
    # What thresholds can be chosen by: where the cosines lie.
    record = json.loads((tmp_path / "ads" / "curate.json").read_text(encoding="utf-8"))
    ends = [record["nearest_label_cosines"][place] for place in (0, -1)]
    assert ends == pytest.approx([float(nearest.min()), float(nearest.max())], abs=1e-4)
    assert record["nearest_caption_cosines"][-1] == pytest.approx(float(every.max()), abs=1e-4)


def test_the_papers_thresholds_and_the_domains_of_prepared_corpora(places: Path, tmp_path: Path) -> None:
    sounds = (
        PreparedSound("0.wav", "train", "thunder", "0", 8_000, RATE),
        PreparedSound("1.wav", "test", "rain falling", "1", 8_000, RATE),
    )
    corpus = PreparedSounds("tut17", "scenes", places / "own", ("thunder", "rain falling"), sounds)
    write_labelled(corpus, tmp_path / "tut17")
    domain = {"domain": str(tmp_path / "tut17"), "templates": ("{}",)}
    result = curate("ads", tmp_path / "ads", **given(places), **domain, audio_threshold=-1.0)
    assert result.labels == ("thunder", "rain falling")
    assert result.caption_threshold == 0.675
    # Labelled sounds as unpaired audio: the train split alone.
    result = curate("du", tmp_path / "du", **given(places, audio=tmp_path / "tut17"), audio_threshold=-1.0)
    assert set(found(tmp_path / "du")) == {"0.wav"}
    with pytest.raises(AuriscopeError, match=r"as near as 1 to a caption, the nearest is -?0\.\d+; lower --threshold"):
        curate("du", tmp_path / "none", **given(places), audio_threshold=1.0)
    record = json.loads((tmp_path / "du" / "curate.json").read_text(encoding="utf-8"))
    assert (record["method"], record["labels"], record["most"]) == ("du", [], None)


def test_captions_of_a_text_and_recordings_of_a_corpus(places: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("rain\n\n  a dog \nrain\n—\n", encoding="utf-8")
    root = tmp_path / "corpus"
    root.mkdir()
    entries = [Entry(write(root, number), split, 0.5, label="any") for number, split in enumerate(("train", "test"))]
    write_manifest(root / "manifest.csv", entries)
    result = curate(
        "du", tmp_path / "du", **given(places, captions=tmp_path / "captions.txt", audio=root), audio_threshold=-1.0
    )
    assert found(tmp_path / "du").keys() == {"0.wav"}
    assert set(found(tmp_path / "du")["0.wav"]) == {"rain", "a dog"}
    assert result.num_captions == 2
    assert result.left_out == ("the text '—' has no word; say in letters what is to be heard",)
    with pytest.raises(AuriscopeError, match="ds needs captions with their sounds"):
        curate("ds", tmp_path / "ds", teacher=places / "teacher", captions=tmp_path / "captions.txt", labels=("a", "b"))


def test_recordings_that_cannot_be_used_are_named_and_stop_no_other(places: Path, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    write(audio, 1)
    write(audio, 2, 61 * RATE)
    soundfile.write(audio / "silent.wav", np.zeros(8_000), RATE)
    (audio / "broken.wav").write_bytes(b"RIFF")
    result = curate("du", tmp_path / "du", **given(places, audio=audio), audio_threshold=-1.0)
    assert set(found(tmp_path / "du")) == {"1.wav"}
    reasons = " ".join(result.left_out)
    assert len(result.left_out) == 3
    assert all(part in reasons for part in ("2.wav: lasts 61 s", "silent.wav: is silent", "broken.wav"))
    (audio / "1.wav").unlink()
    with pytest.raises(AuriscopeError, match="none of 3 recordings can be used"):
        curate("du", tmp_path / "none", **given(places, audio=audio), audio_threshold=-1.0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("method", "changes", "reason"),
    [
        ("dus", {}, "did you mean"),
        ("du", {"audio": None}, "give some with --audio"),
        ("ds", {"labels": ("a", "b")}, "leave --audio out"),
        ("du", {"labels": ("a", "b")}, "knows no domain"),
        ("ads", {}, "either --labels or --domain"),
        ("ads", {"labels": ("a", "b"), "domain": "noise"}, "either --labels or --domain"),
        ("ads", {"labels": ("a",)}, "there is only 'a'"),
        ("ads", {"domain": "noises"}, "did you mean 'noise'"),
        ("ads", {"labels": ("qqq", "vvv"), "caption_threshold": 1.0}, "lower --caption-threshold"),
        ("du", {"captions": "sound-caption"}, "did you mean 'sound-captions"),
    ],
)
def test_one_line_says_what_does_not_fit(
    places: Path, tmp_path: Path, method: Any, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(AuriscopeError, match=reason):
        curate(method, tmp_path / "out", **given(places, **changes))
    assert not (tmp_path / "out").exists()


def test_the_command(places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run: Callable[..., Any] = CliRunner().invoke
    line = ["curate", "du", "--teacher", str(places / "teacher"), "--captions", str(places / "pairs")]
    line += ["--audio", str(places / "others"), "--threshold", "-1"]
    outcome = run(app, [*line, "--json"])
    assert outcome.exit_code == 0
    told = json.loads(outcome.stdout)
    assert (told["input"], told["num_pairs"], told["folder"]) == ("du", 24, "manifests/du")
    outcome = run(app, [*line, "--out", "elsewhere", "--most", "2"])
    assert outcome.exit_code == 0
    assert outcome.stdout.splitlines()[0] == "elsewhere: 12 pairs, 6 recordings"
    outcome = run(app, [*line[:4], "--captions", "nothing", "--json"])
    assert outcome.exit_code == 1
    assert "error" in json.loads(outcome.stdout)
