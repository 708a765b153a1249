"""Captioned sounds: preparing AudioCaps and Clotho, batches that follow from their index, and fixed sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auriscope.data.captioned import CaptionedBatches, CaptionedConfig, CaptionedSet, filled, mixed, open_captioned
from auriscope.data.prepared_captioned import (
    PreparedCaptioned,
    PreparedCaptions,
    read_captioned,
    write_captioned,
)
from auriscope.errors import CorpusError, RecipeError
from auriscope.verbs.prepare import CaptionedSummary, prepare

SPLITS = ("train", "valid", "test")


def sound(path: Path, num_frames: int = 800, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(num_frames).standard_normal(num_frames), rate)


def clotho(root: Path, nested: bool = False) -> Path:
    for part, number in (("development", 3), ("validation", 1), ("evaluation", 2)):
        lines = ["file_name,caption_1,caption_2,caption_3,caption_4,caption_5"]
        for index in range(number):
            name = f"{part} {index}.wav"
            sound(root / (f"clotho_audio_{part}/{part}" if nested else part) / name, 900 + index, 44_100)
            lines.append(f'{name},"Rain, {index}.",Water falls.,It pours.,A storm. ,')
        (root / f"clotho_captions_{part}.csv").write_text("\n".join(lines) + "\n")
    return root


def audiocaps(root: Path, layout: str) -> Path:
    tables = root / "dataset"
    tables.mkdir(parents=True)
    for part, number, captions in (("train", 3, 1), ("val", 2, 5), ("test", 2, 5)):
        lines = ["audiocap_id,youtube_id,start_time,caption"]
        for index in range(number):
            video, start = f"-{part}_{index}", 10 * index
            names = {"split": f"{video}", "flat": f"{video}_{start}", "below": f"Y{video}"}
            folder = {"split": root / part, "flat": root / "audio", "below": root / "audio" / part}[layout]
            # A video that is gone.
            if index:
                sound(folder / f"{names[layout]}.wav", 700 + index, 32_000)
            lines += [f"{100 * index + each},{video},{start},A dog barks {each} times" for each in range(captions)]
        (tables / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("nested", [False, True])
def test_clotho(tmp_path: Path, nested: bool) -> None:
    result = prepare("clotho", clotho(tmp_path / "clotho", nested), out=tmp_path / "out")
    summaries = [result.splits[split] for split in SPLITS]
    assert all(isinstance(summary, CaptionedSummary) for summary in summaries)
    assert [summary.num_sounds for summary in summaries] == [3, 1, 2]  # type: ignore[union-attr]
    assert summaries[0].num_captions == 12  # type: ignore[union-attr]
    # The whole corpus has 3,839: whoever has fewer is told.
    assert len(result.warnings) == 3
    found = CaptionedSet(str(tmp_path / "out"), "train")
    assert found.captions[1] == ("Rain, 1.", "Water falls.", "It pours.", "A storm.")
    assert found.texts()[:5] == ["Rain, 0.", "Water falls.", "It pours.", "A storm.", "Rain, 1."]
    # At the rate that was asked for, in its own length.
    assert found.seconds[1] == pytest.approx(901 / 44_100, abs=1e-3)
    assert np.abs(found[1].waveform).max() > 0.05


@pytest.mark.parametrize("layout", ["split", "flat", "below"])
def test_audiocaps_without_the_videos_that_are_gone(tmp_path: Path, layout: str) -> None:
    prepare("audiocaps", audiocaps(tmp_path / "audiocaps", layout), out=tmp_path / "out")
    corpus = read_captioned(tmp_path / "out")
    assert [len(corpus.split(split)) for split in SPLITS] == [2, 1, 1]
    assert corpus.split("train")[0].captions == ("A dog barks 0 times",)
    assert len(corpus.split("test")[0].captions) == 5
    assert corpus.split("test")[0].group == "-test_1"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is not a folder; give --root the folder of clotho"):
        prepare("clotho", tmp_path / "nowhere", out=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"development: is not there; unpack clotho_audio_development\.7z"):
        prepare("clotho", tmp_path / "empty", out=tmp_path / "out")
    root = audiocaps(tmp_path / "audiocaps", "split")
    for path in (root / "val").iterdir():
        path.unlink()
    with pytest.raises(CorpusError, match=r"holds no audio of val\.csv"):
        prepare("audiocaps", root, out=tmp_path / "out")
    prepare("clotho", clotho(tmp_path / "clotho"), out=tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("Water falls.", ""))
    with pytest.raises(CorpusError, match="has no text; prepare the corpus again"):
        read_captioned(tmp_path / "out")


def test_a_set_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="did you mean 'sound-captions'"):
        CaptionedSet("sound-caption", root=tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 1}, "batch_size"),
        ({"balance": 1.5}, "data.balance must lie between 0 and 1"),
        ({"sets": ()}, "name a set"),
        ({"leave_out": ("weathr",)}, "no class 'weathr'; did you mean 'weather'"),
    ],
)
def test_values_that_make_no_sense(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        CaptionedConfig(**values)  # type: ignore[arg-type]


def test_batches_follow_from_their_index(tmp_path: Path) -> None:
    prepare("clotho", clotho(tmp_path / "clotho"), out=tmp_path / "out")
    config = CaptionedConfig((), (str(tmp_path / "out"),), batch_size=3, window_seconds=0.05, mix_probability=0.5)
    first, second = (CaptionedBatches(config, seed=1).batch(7) for _ in range(2))
    assert torch.equal(first["waveform"], second["waveform"])
    assert first["captions"] == second["captions"]
    assert first["waveform"].shape == (3, 800)
    assert first["lengths"].tolist() == [800] * 3
    # Every sound comes once before any comes again.
    assert len(set(first["id"])) == 3
    other = CaptionedBatches(config, seed=1).batch(8)
    assert other["captions"] != first["captions"]
    told = [caption for index in range(20) for caption in CaptionedBatches(config, seed=1).batch(index)["captions"]]
    assert 0.3 < np.mean([" and " in caption for caption in told]) < 0.7
    assert {caption.split(" and ")[0] for caption in told} >= {"Rain, 0.", "It pours.", "A storm."}


def test_short_sounds_are_filled_up() -> None:
    waveform = np.arange(1, 4, dtype=np.float32)
    assert filled(waveform, 7, "repeat").tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert filled(waveform, 5, "zeros").tolist() == [1, 2, 3, 0, 0]
    assert filled(waveform, 7, "repeat_whole").tolist() == [1, 2, 3, 1, 2, 3, 0]
    assert filled(waveform, 2, "repeat").tolist() == [1, 2]
    assert filled(waveform[:0], 2, "repeat").tolist() == [0, 0]


def test_a_sound_is_mixed_in_at_the_level_that_was_drawn() -> None:
    first, second = np.array([0.1, -0.1] * 50, np.float32), np.array([0.02, 0.02, -0.02, -0.02] * 25, np.float32)
    total = mixed(first, second, 6.0)
    added = total - first
    assert 20 * np.log10(np.sqrt(np.mean(added**2)) / 0.1) == pytest.approx(6.0, abs=1e-3)
    assert np.abs(mixed(8 * first, 8 * second, 6.0)).max() <= 1.0
    assert np.array_equal(mixed(first, 0 * second, 6.0), first)


@pytest.mark.corpora
def test_the_captions_of_the_small_corpora(real_corpora: Path) -> None:
    sets = {split: CaptionedSet("sound-captions", split) for split in SPLITS}
    assert {split: len(found) for split, found in sets.items()} == {"train": 891, "valid": 202, "test": 271}
    groups = {split: set(found.groups) for split, found in sets.items()}
    assert not groups["train"] & (groups["valid"] | groups["test"])
    assert ("a baby crying",) in sets["test"].captions
    left = CaptionedSet("sound-captions", "train", leave_out=("weather", "bird"))
    said = " ".join(left.texts())
    assert "rain falling" not in said
    assert "birds singing" not in said
    assert "dog" in said


@pytest.mark.corpora
def test_the_halves_share_no_recording_and_are_all(real_corpora: Path) -> None:
    whole, half, rest = (
        open_captioned(name, "train", sample_rate=16_000, root=real_corpora)[0]
        for name in ("sound-captions", "sound-captions-half", "sound-captions-rest")
    )
    assert not {clip.group for clip in half} & {clip.group for clip in rest}
    assert {clip.name for clip in half} | {clip.name for clip in rest} == {clip.name for clip in whole}
    assert 0.4 < len(half) / len(whole) < 0.6
    # What chooses the weights is the same for all.
    valid = [
        open_captioned(name, "valid", sample_rate=16_000, root=real_corpora)[0]
        for name in ("sound-captions", "sound-captions-half")
    ]
    assert valid[0] == valid[1]


def listed(folder: Path, name: str, number: int) -> str:
    """A prepared folder of so many sounds, which say their names."""
    sounds = []
    for index in range(number):
        sound(folder / "audio" / f"{name}{index}.wav", 900 + index)
        path = f"audio/{name}{index}.wav"
        sounds.append(PreparedCaptions(path, "train", (f"{name} {index}",), f"{name}{index}", 900 + index, 16_000))
    write_captioned(PreparedCaptioned(name, name, folder, tuple(sounds)), folder / "listed")
    return str(folder / "listed")


def test_curated_pairs_take_their_share_of_the_batches(tmp_path: Path) -> None:
    own, curated = listed(tmp_path / "own", "own", 6), listed(tmp_path / "curated", "curated", 4)
    values = {"sets": (), "prepared": (own,), "batch_size": 2, "window_seconds": 0.1}

    def said(config: CaptionedConfig, number: int) -> list[list[str]]:
        batches = CaptionedBatches(config, seed=3)
        return [batches.batch(index)["captions"] for index in range(number)]

    made = said(CaptionedConfig(**values, curated=(curated,), mix_probability=0.5), 12)
    kinds = [{caption.split()[0] for caption in captions} for captions in made]
    assert kinds == [{"own"}, {"curated"}] * 6
    # Each part comes whole before any of it comes again: two batches of the one, three of the other.
    plain = said(CaptionedConfig(**values, curated=(curated,)), 12)
    assert len({caption for captions in plain[1:4:2] for caption in captions}) == 4
    assert len({caption for captions in plain[0:6:2] for caption in captions}) == 6
    # What is replayed is what is learnt from without curated pairs.
    assert plain[0::2] == said(CaptionedConfig(**values), 6)
    few = said(CaptionedConfig(**values, curated=(curated,), curated_share=0.25), 8)
    assert [captions[0].split()[0] for captions in few] == ["own", "own", "own", "curated"] * 2
    all_of_it = said(CaptionedConfig(**values, curated=(curated,), curated_share=1.0), 3)
    assert all(caption.startswith("curated") for captions in all_of_it for caption in captions)


def test_captions_with_a_word_are_left_out(tmp_path: Path) -> None:
    prepare("clotho", clotho(tmp_path / "clotho"), out=tmp_path / "out")
    place = str(tmp_path / "out")
    assert len(CaptionedSet(place, "train").clips) == 3
    assert [set(own) & {"Rain, 1."} for own in CaptionedSet(place, "train", leave_out_words=["2"]).captions] == [
        set(),
        {"Rain, 1."},
    ]
    # The word, not its letters.
    assert len(CaptionedSet(place, "train", leave_out_words=["rai"]).clips) == 3
    with pytest.raises(CorpusError, match="have no classes to leave out"):
        CaptionedSet(place, "train", leave_out=["glass"])
    corpus = read_captioned(place)
    labelled = [replace(sound, label="glass" if "1" in sound.path else "wood") for sound in corpus.sounds]
    write_captioned(replace(corpus, sounds=tuple(labelled)), tmp_path / "labelled")
    assert CaptionedSet(str(tmp_path / "labelled"), "train", leave_out=["glass"]).labels == ("wood", "wood")
