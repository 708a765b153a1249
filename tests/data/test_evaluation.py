from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auriscope.data import Entry, evaluation_set, evaluation_set_names, write_manifest
from auriscope.data.evaluation import (
    BASES,
    CONDITIONS,
    ListedMixture,
    ListedSet,
    draw_list,
    format_list,
    parse_list,
)
from auriscope.data.pairs import PAIRED
from auriscope.errors import CorpusError

LISTS = [(base, split) for base in BASES for split in BASES[base].num_mixtures]


def list_text(base: str, split: str) -> str:
    return (resources.files("auriscope.data") / "lists" / f"{base}.{split}.csv").read_text(encoding="utf-8")


@pytest.fixture
def listed(corpora: Path) -> list[ListedMixture]:
    return draw_list("libri2mix-mini", "test")[:5]


@pytest.mark.parametrize(("base", "split"), LISTS)
def test_committed_lists_hold_what_the_module_says(base: str, split: str) -> None:
    mixtures = parse_list(list_text(base, split))
    kind = BASES[base]
    assert len(mixtures) == kind.num_mixtures[split]
    assert len({mixture.id for mixture in mixtures}) == len(mixtures)
    counts = Counter(talker.speaker for mixture in mixtures for talker in mixture.talkers)
    assert max(counts.values()) - min(counts.values()) <= 2
    for mixture in mixtures:
        assert len({talker.speaker for talker in mixture.talkers}) == kind.num_talkers
        assert len({talker.response for talker in mixture.talkers}) == kind.num_talkers
        assert 4.0 <= mixture.num_frames / 16_000 <= 6.0
        assert kind.snr_db[0] <= mixture.snr_db <= kind.snr_db[1]
        assert all(-33.0 <= talker.level_dbfs <= -25.0 for talker in mixture.talkers)
        assert all(mixture.room in talker.response for talker in mixture.talkers)
    assert format_list(mixtures) == list_text(base, split)


@pytest.mark.parametrize("base", BASES)
def test_test_and_valid_share_no_voice_noise_or_response(base: str) -> None:
    test, valid = (parse_list(list_text(base, split)) for split in ("test", "valid"))

    def used(mixtures: list[ListedMixture]) -> set[str]:
        talkers = [talker for mixture in mixtures for talker in mixture.talkers]
        return {name for talker in talkers for name in (talker.speaker, talker.response)} | {
            mixture.noise for mixture in mixtures
        }

    assert not used(test) & used(valid)


def test_the_lists_are_small() -> None:
    assert sum(len(list_text(base, split)) for base, split in LISTS) < 300_000


def test_a_list_follows_from_its_seed(corpora: Path) -> None:
    assert draw_list("libri3mix-mini", "test") == draw_list("libri3mix-mini", "test")
    assert draw_list("libri3mix-mini", "test", seed=1) != draw_list("libri3mix-mini", "test", seed=2)


def test_items_are_as_listed(listed: list[ListedMixture]) -> None:
    items = {condition: list(ListedSet(f"libri2mix-mini-{condition}", "test", listed)) for condition in CONDITIONS}
    for condition, made in items.items():
        for item, mixture in zip(made, listed, strict=True):
            assert item.sources.shape == (2, mixture.num_frames)
            assert torch.equal(item.mixture, item.sources.sum(0) + item.noise)
            assert item.speakers == tuple(talker.speaker for talker in mixture.talkers)
            levels_db = 20 * torch.log10(item.sources.square().mean(-1).sqrt())
            drawn_db = torch.tensor([talker.level_dbfs for talker in mixture.talkers])
            torch.testing.assert_close(levels_db - levels_db[0], drawn_db - drawn_db[0], atol=0.01, rtol=0.0)
            if "noisy" in condition:
                ratio = item.sources.sum(0).square().mean() / item.noise.square().mean()
                assert 10 * float(torch.log10(ratio)) == pytest.approx(mixture.snr_db, abs=0.01)
                assert item.snr_db == mixture.snr_db
            else:
                assert not item.noise.any()
                assert item.snr_db is None
            assert item.room == (mixture.room if "reverb" in condition else None)
    for clean, reverb in zip(items["clean"], items["reverb"], strict=True):
        similarity = torch.nn.functional.cosine_similarity(clean.sources, reverb.sources, dim=-1)
        assert (similarity.abs() < 0.99).all()


def test_one_talker_is_early_speech_in_noise_and_late_reverberation(corpora: Path) -> None:
    listed = draw_list("libri1mix-mini", "test")[:5]
    sets = {name: list(ListedSet(f"libri1mix-mini-{name}", "test", listed)) for name in ("noisy", "noisy-reverb")}
    for dry, item, mixture in zip(sets["noisy"], sets["noisy-reverb"], listed, strict=True):
        assert item.sources.shape == (1, mixture.num_frames)
        torch.testing.assert_close(item.mixture, item.sources.sum(0) + item.noise)
        assert 0.0 <= mixture.snr_db <= 10.0
        ratio = dry.sources.square().mean() / dry.noise.square().mean()
        assert 10 * float(torch.log10(ratio)) == pytest.approx(mixture.snr_db, abs=0.01)
        # The test's responses last 0.19 s: their late part is noise as well, so the ratio is worse in the room.
        assert item.sources.square().mean() / item.noise.square().mean() < ratio
    with pytest.raises(CorpusError, match="no evaluation set 'libri1mix-mini-clean'"):
        evaluation_set("libri1mix-mini-clean")


def test_pairs_give_the_noisy_recording_and_the_clean_one(
    tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURISCOPE_CACHE", str(shared_cache))
    folder, rng = tmp_path / "voicebank_demand_pairs", np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    clean = 0.1 * rng.standard_normal((2, 8_000))
    noisy = clean + 0.05 * rng.standard_normal((2, 8_000))
    entries = []
    for number in range(2):
        more = {"snr_db": "6.0", "clean_path": f"audio/{number}_clean.flac"}
        for version, waveforms in (("noisy", noisy), ("clean", clean)):
            soundfile.write(folder / f"audio/{number}_{version}.flac", waveforms[number], 16_000)
        entries.append(Entry(f"audio/{number}_noisy.flac", "test", 0.5, speaker=f"p{number}", sex="M", more=more))
    write_manifest(folder / "manifest.csv", entries)
    pairs = evaluation_set("voicebank-demand-pairs", root=tmp_path)
    assert [item.id for item in pairs] == ["0_noisy", "1_noisy"]
    for item, one, other in zip(pairs, clean, noisy, strict=True):
        np.testing.assert_allclose(item.sources[0], one, atol=1e-4)
        np.testing.assert_allclose(item.mixture, other, atol=1e-4)
        torch.testing.assert_close(item.mixture, item.sources.sum(0) + item.noise)
        assert item.snr_db == 6.0
    soundfile.write(folder / "audio/1_clean.flac", clean[1, :-100], 16_000)
    with pytest.raises(CorpusError, match=r"1_noisy\.flac: is not as long as its clean version"):
        evaluation_set("voicebank-demand-pairs", root=tmp_path)[1]
    with pytest.raises(CorpusError, match="no entry in the split 'valid'"):
        evaluation_set("voicebank-demand-pairs", "valid", root=tmp_path)


def test_loud_mixtures_are_turned_down_as_a_whole(listed: list[ListedMixture]) -> None:
    loud = replace(listed[0], talkers=tuple(replace(talker, level_dbfs=0.0) for talker in listed[0].talkers))
    item = ListedSet("libri2mix-mini-noisy", "test", [loud])[0]
    assert float(item.mixture.abs().max()) == pytest.approx(0.97, abs=1e-4)
    ratio = item.sources.sum(0).square().mean() / item.noise.square().mean()
    assert 10 * float(torch.log10(ratio)) == pytest.approx(loud.snr_db, abs=0.01)


def test_batches_are_padded_and_in_order(listed: list[ListedMixture]) -> None:
    test_set = ListedSet("libri2mix-mini-noisy-reverb", "test", listed)
    batches = list(test_set.batches(3))
    assert [len(batch["mixture"]) for batch in batches] == [3, 2]
    assert [name for batch in batches for name in batch["id"]] == [mixture.id for mixture in listed]
    items = iter(test_set)
    for batch in batches:
        assert batch["sources"].shape == (len(batch["id"]), 2, batch["mixture"].shape[-1])
        for row, length in enumerate(batch["lengths"].tolist()):
            item = next(items)
            assert torch.equal(batch["mixture"][row, :length], item.mixture)
            assert torch.equal(batch["sources"][row, :, :length], item.sources)
            assert not batch["mixture"][row, length:].any()


def test_another_sample_rate_gives_the_same_mixture(listed: list[ListedMixture]) -> None:
    high, low = (
        ListedSet("libri2mix-mini-noisy-reverb", "test", listed, sample_rate=rate)[0] for rate in (16_000, 8_000)
    )
    assert low.mixture.shape[-1] == round(high.mixture.shape[-1] / 2)
    spectra = [np.abs(np.fft.rfft(item.sources[0].numpy()))[:4000] for item in (high, low)]
    assert np.corrcoef(*spectra)[0, 1] > 0.99


def test_unknown_sets_and_missing_data_are_one_line(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorpusError, match=r"no evaluation set 'wsj0-2mix'.*libri2mix-mini-noisy-reverb"):
        evaluation_set("wsj0-2mix")
    with pytest.raises(CorpusError, match="no split 'train'"):
        evaluation_set("libri2mix-mini-clean", "train")
    committed = evaluation_set("libri2mix-mini-clean")
    assert len(committed) == 180
    with pytest.raises(CorpusError, match="which an evaluation list needs"):
        committed[0]
    monkeypatch.delenv("AURISCOPE_CORPORA")
    with pytest.raises(CorpusError, match="set AURISCOPE_CORPORA"):
        evaluation_set("libri2mix-mini-clean")[0]


@pytest.mark.corpora
@pytest.mark.parametrize(("base", "split"), LISTS)
def test_the_lists_can_be_drawn_again(base: str, split: str, real_corpora: Path) -> None:
    assert format_list(draw_list(base, split)) == list_text(base, split)


@pytest.mark.corpora
@pytest.mark.parametrize("name", evaluation_set_names())
def test_the_sets_are_audible(name: str, real_corpora: Path) -> None:
    test_set = evaluation_set(name, "test" if name in PAIRED else "valid")
    for index in range(0, len(test_set), 12):
        item = test_set[index]
        assert torch.isfinite(item.mixture).all()
        assert (item.sources.square().mean(-1).sqrt() > 1e-3).all()
