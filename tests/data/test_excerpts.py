"""Training batches and evaluation items of prepared corpora, against the files read whole."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr
import torch

from auriscope.data import evaluation_set
from auriscope.data.excerpts import PreparedConfig, PreparedMixer
from auriscope.data.prepared import PreparedCorpus, read_prepared, write_prepared
from auriscope.data.prepared_set import PreparedSet
from auriscope.data.stretches import FileStore
from auriscope.errors import CorpusError, RecipeError
from auriscope.verbs.prepare import prepare

RATE = 8000


@pytest.fixture(scope="module")
def wsj0(tmp_path_factory: pytest.TempPathFactory, trees: ModuleType) -> Path:
    folder = tmp_path_factory.mktemp("wsj0")
    return prepare("wsj0-2mix", trees.build_wsj0mix(folder / "corpus"), out=folder / "manifest").out


@pytest.fixture(scope="module")
def wham(tmp_path_factory: pytest.TempPathFactory, trees: ModuleType) -> Path:
    folder = tmp_path_factory.mktemp("wham")
    return prepare("wham", trees.build_wham(folder / "corpus"), out=folder / "manifest").out


@pytest.fixture(scope="module")
def musdb(tmp_path_factory: pytest.TempPathFactory, trees: ModuleType) -> Path:
    folder = tmp_path_factory.mktemp("musdb")
    return prepare("musdb18", trees.build_musdb(folder / "corpus", 0.5), out=folder / "manifest").out


def mixer(folder: Path, **values: object) -> PreparedMixer:
    return PreparedMixer(PreparedConfig(str(folder), **{"segment_seconds": 0.25, "batch_size": 2, **values}), seed=3)  # type: ignore[arg-type]


def read(path: Path) -> np.ndarray:
    waveform, _ = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(waveform.T)


def contains(whole: np.ndarray, stretch: np.ndarray) -> bool:
    """Tell whether a stretch (time,) lies somewhere in a waveform (time,), by its first samples first."""
    starts = np.lib.stride_tricks.sliding_window_view(whole[: len(whole) - len(stretch) + 4], 4)
    candidates = np.flatnonzero(np.isclose(starts, stretch[:4], atol=1e-6).all(axis=1))
    return any(np.allclose(whole[start : start + len(stretch)], stretch, atol=1e-6) for start in candidates)


def origin(songs: list[np.ndarray], stem: np.ndarray) -> int:
    """Find the song (time,) that a stem is a stretch of, whatever its gain."""
    shape = stem / np.linalg.norm(stem)
    peaks = [np.abs(scipy.signal.correlate(song, shape, "valid", "fft")).max() for song in songs]
    return int(np.argmax(peaks))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("target_rate", "file_rate"), [(8000, 8000), (8000, 16000), (16000, 44100), (48000, 8000)])
def test_a_stretch_is_that_of_the_whole_file(target_rate: int, file_rate: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal((file_rate, 2)), file_rate, subtype="FLOAT")
    store = FileStore([tmp_path / "a.wav"], [file_rate], file_rate, target_rate)
    whole = soxr.resample(read(tmp_path / "a.wav").T, file_rate, target_rate, quality="HQ").T
    assert store.num_frames(0) == target_rate
    for start, count in ((0, 300), (target_rate // 3, 501), (target_rate - 100, 400)):
        stretch = store.read_channels(0, start, count)
        assert stretch.shape == (2, min(count, target_rate - start))
        assert np.abs(stretch - whole[:, start : start + count]).max() < 1e-3
    assert np.allclose(store.read(0, 10, 20), store.read_channels(0, 10, 20).mean(0))
    assert store.read_channels(0, target_rate + 5, 10).shape == (2, 0)


def test_excerpts_are_stretches_of_the_files(wsj0: Path) -> None:
    batches, corpus = mixer(wsj0), read_prepared(wsj0)
    seen = []
    for index in range(3):
        batch = batches.batch(index)
        assert batch["mixture"].shape == (2, 2000)
        assert batch["sources"].shape == (2, 2, 2000)
        assert torch.allclose(batch["mixture"], batch["sources"].sum(1) + batch["noise"], atol=1e-6)
        assert batch["noise"].abs().max() < 1e-5
        assert batch["lengths"].tolist() == [2000, 2000]
        for row in range(2):
            speakers = tuple(batches.speakers[number] for number in batch["speakers"][row])
            mixture = next(entry for entry in corpus.split("train") if entry.speakers == speakers)
            seen.append(mixture.id)
            for path, source in zip(mixture.sources, batch["sources"][row].numpy(), strict=True):
                assert contains(read(corpus.root / path)[0], source)
    # Six mixtures in three batches of two: every mixture once.
    assert sorted(seen) == sorted(mixture.id for mixture in corpus.split("train"))


def test_batches_depend_on_seed_and_index_alone(wsj0: Path, wham: Path) -> None:
    for folder, values in ((wsj0, {}), (wham, {"dynamic_mixing": True})):
        one, other = mixer(folder, **values), mixer(folder, **values)
        ahead = list(islice(other.iterate(1, 2), 3))
        assert all(same(batch, one.batch(index)) for batch, index in zip(ahead, (1, 3, 5), strict=True))
        assert not same(one.batch(0), one.batch(3))
        assert not same(PreparedMixer(one.config, seed=4).batch(0), one.batch(0))


def test_short_mixtures_end_early_and_noise_is_what_is_left(wham: Path) -> None:
    batch = mixer(wham, segment_seconds=1.0).batch(0)
    assert batch["mixture"].shape[-1] == batch["lengths"].max() < 8000
    assert batch["lengths"].unique().numel() == 2
    for row, length in enumerate(batch["lengths"].tolist()):
        assert 4000 <= length < 5000
        assert not batch["mixture"][row, length:].any()
        assert batch["noise"][row, :length].std() > 0.01
        assert torch.allclose(batch["mixture"][row], batch["sources"][row].sum(0) + batch["noise"][row], atol=1e-6)


def test_batches_come_at_the_rate_that_is_asked_for(wsj0: Path) -> None:
    high, low = mixer(wsj0, sample_rate=16000).batch(0), mixer(wsj0).batch(0)
    assert high["mixture"].shape == (2, 4000)
    assert torch.equal(high["speakers"], low["speakers"])


def test_dynamic_mixing_pairs_different_talkers_in_noise(wham: Path) -> None:
    batches = mixer(wham, dynamic_mixing=True, snr_db=(3.0, 3.0), batch_size=4)
    corpus = read_prepared(wham)
    listed = {mixture.speakers for mixture in corpus.split("train")}
    made = set()
    for index in range(6):
        batch = batches.batch(index)
        for row, numbers in enumerate(batch["speakers"].tolist()):
            made.add(tuple(batches.speakers[number] for number in numbers))
            assert numbers[0] != numbers[1]
            speech, noise = batch["sources"][row].sum(0), batch["noise"][row]
            assert 10 * torch.log10(speech.square().mean() / noise.square().mean()) == pytest.approx(3.0, abs=0.1)
    assert made - listed, "some pairs that the corpus does not hold"


def test_stems_of_different_songs_are_mixed_with_their_channels_together(musdb: Path) -> None:
    fixed, dynamic = (mixer(musdb, sample_rate=44100, dynamic_mixing=mixed) for mixed in (False, True))
    for batches in (fixed, dynamic):
        batch = batches.batch(0)
        assert batch["sources"].shape == (4, 4, 11025)
        assert batch["speakers"].unique().tolist() == [-1]
    corpus = read_prepared(musdb)
    batch = fixed.batch(0)
    songs = [read(corpus.root / mixture.sources[3]) for mixture in corpus.split("train")]
    assert any(contains(song[0], batch["sources"][0, 3].numpy()) for song in songs)
    assert any(contains(song[1], batch["sources"][1, 3].numpy()) for song in songs)
    origins = []
    for index in range(3):
        left = dynamic.batch(index)["sources"][0].numpy()
        for place, stem in enumerate(left):
            songs = [read(corpus.root / mixture.sources[place])[0] for mixture in corpus.split("train")]
            origins.append((index, origin(songs, stem)))
    assert any((index, 0) in origins and (index, 1) in origins for index in range(3)), "stems of two songs in a mixture"
    dropping = mixer(musdb, sample_rate=44100, dynamic_mixing=True, drop_probability=0.5)
    silent = torch.stack([~dropping.batch(index)["sources"].any(-1) for index in range(4)])
    assert 0 < silent.float().mean() < 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"remixable": False}, "are not what its mixtures hold; leave it out"),
        ({"mixtures": "nameless"}, "does not name its speakers"),
        ({"mixtures": "single"}, "neither several talkers nor noise alone"),
    ],
)
def test_what_cannot_be_mixed_anew_is_told(change: dict[str, object], line: str, wsj0: Path, tmp_path: Path) -> None:
    corpus: PreparedCorpus = read_prepared(wsj0)
    if change.get("mixtures") == "nameless":
        nameless = tuple(dataclasses.replace(entry, speakers=(None, None)) for entry in corpus.mixtures)
        change = {"mixtures": nameless}
    elif change.get("mixtures") == "single":
        single = (dataclasses.replace(e, sources=e.sources[:1], speakers=e.speakers[:1]) for e in corpus.mixtures)
        change = {"mixtures": tuple(single), "sources": ("clean",)}
    write_prepared(dataclasses.replace(corpus, **change), tmp_path / "changed")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=line):
        mixer(tmp_path / "changed", dynamic_mixing=True)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"speed": (1.1, 0.9)}, "speed must be two numbers, the lower first"),
        ({"segment_seconds": 0.0}, "segment_seconds must be above zero"),
        ({"speed": (0.0, 1.0)}, "speed must be above zero"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, object], line: str) -> None:
    with pytest.raises(RecipeError, match=line):
        PreparedConfig("folder", **values)  # type: ignore[arg-type]


def test_a_prepared_folder_is_an_evaluation_set(wham: Path, musdb: Path) -> None:
    items = evaluation_set(str(wham), "valid", sample_rate=16000)
    corpus = read_prepared(wham)
    assert len(items) == 3
    for item, mixture in zip(items, corpus.split("valid"), strict=True):
        whole = soxr.resample(read(corpus.root / mixture.path)[0], 8000, 16000, quality="HQ")
        assert np.abs(item.mixture.numpy() - whole).max() < 1e-3
        assert torch.allclose(item.mixture, item.sources.sum(0) + item.noise, atol=1e-6)
        assert item.speakers == mixture.speakers
    batch = next(iter(items.batches(2)))
    assert batch["sources"].shape[:2] == (2, 2)  # type: ignore[union-attr]
    stereo = PreparedSet(musdb)
    assert (len(stereo), stereo.sample_rate) == (2, 44100)
    song = read(stereo.corpus.root / stereo.mixtures[0].path)
    assert np.array_equal(np.stack([item.mixture.numpy() for item in stereo]), song)
    assert [item.id for item in stereo] == [
        "test/Third Band - Third Song/mixture#0",
        "test/Third Band - Third Song/mixture#1",
    ]


def test_a_file_that_changed_since_is_named(wham: Path, tmp_path: Path, trees: ModuleType) -> None:
    folder = prepare("wsj0-2mix", trees.build_wsj0mix(tmp_path / "corpus"), out=tmp_path / "manifest").out
    corpus = read_prepared(folder)
    victim = corpus.root / corpus.split("test")[0].sources[1]
    soundfile.write(victim, read(victim)[0][:100], RATE)
    with pytest.raises(CorpusError, match=f"{victim.name}: is not what it was when the corpus was prepared"):
        evaluation_set(str(folder))[0]
    victim.unlink()
    with pytest.raises(CorpusError, match=f"{victim.name}: cannot be read"):
        evaluation_set(str(folder))[0]
    with pytest.raises(CorpusError, match="split 'dev' must be one of train, valid, test"):
        evaluation_set(str(folder), "dev")
