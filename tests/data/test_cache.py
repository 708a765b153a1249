from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auriscope.data import utterances
from auriscope.data.cache import AudioStore, cache_folder, open_clips
from auriscope.errors import AudioFileError, CorpusError
from auriscope.signal import files


def test_a_store_gives_what_the_files_hold(corpora: Path, tmp_path: Path) -> None:
    clips = utterances("libri_251spk", "train")
    store = open_clips(clips, sample_rate=16_000, name="speech", folder=tmp_path)
    assert len(store) == len(clips)
    for number, clip in enumerate(clips):
        waveform, _ = soundfile.read(clip.path, dtype="float32")
        assert store.num_frames(number) == len(waveform)
        np.testing.assert_allclose(store.read(number), waveform, atol=2.0**-15)
    np.testing.assert_array_equal(store.read(2, 1000, 50), store.read(2)[1000:1050])
    assert len(store.read(5, 47_990, 100)) == 10


def test_clips_are_resampled(corpora: Path, tmp_path: Path) -> None:
    clips = utterances("libri_251spk", "train")[:1]
    store = open_clips(clips, sample_rate=8_000, name="speech", folder=tmp_path)
    expected, _ = files.read(clips[0].path, sample_rate=8_000)
    np.testing.assert_allclose(store.read(0), expected, atol=2.0**-15)


def test_offsets_cut_stretches_of_one_file(corpora: Path, tmp_path: Path) -> None:
    whole = utterances("libri_251spk", "train")[0]
    clips = [replace(whole, start_seconds=start, duration_seconds=0.5) for start in (0.0, 1.0, 2.25)]
    store = open_clips(clips, sample_rate=16_000, name="digits", folder=tmp_path)
    waveform, _ = soundfile.read(whole.path, dtype="float32")
    for number, start in enumerate((0, 16_000, 36_000)):
        np.testing.assert_allclose(store.read(number), waveform[start : start + 8_000], atol=2.0**-15)


def test_a_second_opening_decodes_nothing(corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = utterances("libri_251spk", "train")
    calls: list[tuple[int, int]] = []
    first = open_clips(
        clips, sample_rate=16_000, name="speech", folder=tmp_path, progress=lambda *done: calls.append(done)
    )
    assert calls[-1] == (6, 6)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(files, "read", refuse)
    again = open_clips(clips, sample_rate=16_000, name="speech", folder=tmp_path)
    np.testing.assert_array_equal(first.samples, again.samples)


def test_a_moved_corpus_keeps_its_cache_and_a_changed_one_does_not(corpora: Path, tmp_path: Path) -> None:
    root = tmp_path / "moved"
    shutil.copytree(corpora / "libri_251spk", root / "libri_251spk")
    cache = tmp_path / "cache"
    for place in (corpora, root):
        open_clips(utterances("libri_251spk", "train", root=place), sample_rate=16_000, name="speech", folder=cache)
    assert len(list((cache / "audio").iterdir())) == 1
    clips = utterances("libri_251spk", "train", root=root)
    soundfile.write(clips[0].path, np.full(100, 0.25), 16_000, subtype="PCM_16")
    store = open_clips(clips, sample_rate=16_000, name="speech", folder=cache)
    np.testing.assert_allclose(store.read(0), np.full(100, 0.25), atol=1e-4)
    assert len(list((cache / "audio").iterdir())) == 2


def test_several_makers_at_once_leave_one_whole_store(corpora: Path, tmp_path: Path) -> None:
    clips = utterances("libri_251spk", "train")
    with ThreadPoolExecutor(4) as pool:
        stores = list(
            pool.map(lambda _: open_clips(clips, sample_rate=16_000, name="speech", folder=tmp_path), range(4))
        )
    assert all(np.array_equal(store.samples, stores[0].samples) for store in stores)
    assert len(list((tmp_path / "audio").iterdir())) == 1


def test_a_failed_decoding_leaves_nothing(corpora: Path, tmp_path: Path) -> None:
    root = tmp_path / "corpora"
    shutil.copytree(corpora / "libri_251spk", root / "libri_251spk")
    clips = utterances("libri_251spk", "train", root=root)
    clips[3].path.write_bytes(b"this is not sound")
    with pytest.raises(AudioFileError, match=clips[3].path.name):
        open_clips(clips, sample_rate=16_000, name="speech", folder=tmp_path / "cache")
    assert list((tmp_path / "cache" / "audio").iterdir()) == []
    clips[3].path.unlink()
    with pytest.raises(CorpusError, match="not there"):
        open_clips(clips, sample_rate=16_000, name="speech", folder=tmp_path / "cache")


def test_a_damaged_store_and_an_unwritable_cache_are_one_line(corpora: Path, tmp_path: Path) -> None:
    clips = utterances("libri_251spk", "train")
    open_clips(clips, sample_rate=16_000, name="speech", folder=tmp_path)
    (samples,) = (tmp_path / "audio").glob("*/samples.i16")
    samples.write_bytes(samples.read_bytes()[:-2])
    with pytest.raises(CorpusError, match="delete this folder"):
        open_clips(clips, sample_rate=16_000, name="speech", folder=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="set AURISCOPE_CACHE"):
        open_clips(clips, sample_rate=16_000, name="speech", folder=tmp_path / "file")


def test_the_cache_folder_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("AURISCOPE_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "auriscope"


def test_full_scale_is_kept_and_more_is_clipped() -> None:
    store = AudioStore.of([np.array([1.0, -1.0, 1.5, 0.0])], 16_000)
    np.testing.assert_array_equal(store.read(0), np.array([1.0, -1.0, 1.0, 0.0], dtype=np.float32))
