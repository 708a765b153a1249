"""Sets to measure recognition on: clean, in noise and rooms, and of prepared folders."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from auriscope.data.manifest import Entry, write_manifest
from auriscope.data.spoken import CONDITIONS, Spoken, SpokenSet, clean_name, corrupted
from auriscope.data.transcribed import TranscribedBatches, TranscribedConfig, spoken_set
from auriscope.errors import CorpusError
from auriscope.verbs.prepare import prepare


def snr_db(heard: np.ndarray, said: np.ndarray) -> float:
    """Power of the speech over what was added, where all may have been turned down together and the noise is white."""
    gain = float(heard @ said / (said @ said))
    return 10 * np.log10(np.sum(said**2) / np.sum((heard / gain - said) ** 2))


def test_noise_is_5_db_below_the_speech(corpora: Path) -> None:
    clean, noisy = spoken_set("libri_eval50_flac", "test"), spoken_set("libri_eval50_flac-noisy", "test")
    assert (noisy.name, len(noisy), noisy.seconds) == ("libri_eval50_flac-noisy", len(clean), clean.seconds)
    for said, heard in zip(clean, noisy, strict=True):
        assert (heard.id, heard.text, heard.speaker) == (said.id, said.text, said.speaker)
        assert snr_db(heard.waveform, said.waveform) == pytest.approx(5.0, abs=0.2)


def test_rooms_leave_the_speech_in_its_place(corpora: Path) -> None:
    click = np.zeros(8_000, dtype=np.float32)
    click[3_000] = 0.5
    clean = SpokenSet("x", "test", lambda n: Spoken(str(n), click, "A", "s"), [0.5] * 6)
    wet = list(corrupted(clean, "reverb", sample_rate=16_000))
    for heard in wet:
        assert int(np.argmax(np.abs(heard.waveform))) == 3_000
        assert np.abs(heard.waveform[3_001:]).max() > 0.01
    assert len({heard.waveform.tobytes() for heard in wet}) > 2


def test_an_utterance_gets_the_same_whichever_others_there_are(corpora: Path, tmp_path: Path) -> None:
    for condition in CONDITIONS:
        name = f"libri_eval50_flac-{condition}"
        whole, again = spoken_set(name, "test"), spoken_set(name, "test", max_items=2, folder=tmp_path)
        for one, other in zip(whole, again, strict=False):
            np.testing.assert_array_equal(one.waveform, other.waveform)
        assert len(again) == 2
        assert not np.array_equal(whole[0].waveform[:40_000], whole[1].waveform[:40_000])
        assert max(np.abs(item.waveform).max() for item in whole) <= 0.97 + 1e-6


def test_conditions_share_room_and_noise(corpora: Path) -> None:
    """Noise in a room is that of the noisy set: what both differ by from their speech goes together."""
    clean, noisy, wet, both = (
        spoken_set(f"libri_eval50_flac{ending}", "test")[0].waveform.astype(np.float64)
        for ending in ("", "-noisy", "-reverb", "-noisy-reverb")
    )
    one = noisy - clean * (noisy @ clean) / (clean @ clean)
    other = both - wet * (both @ wet) / (wet @ wet)
    assert np.corrcoef(one, other)[0, 1] > 0.95


def test_the_noise_of_a_short_utterance_is_no_pause(tmp_path: Path) -> None:
    folder = tmp_path / "noise" / "audio"
    folder.mkdir(parents=True)
    sound = np.zeros(32_000)
    sound[30_000:] = 0.1 * np.random.default_rng(0).standard_normal(2_000)
    soundfile.write(folder / "bang.wav", sound, 16_000)
    write_manifest(tmp_path / "noise" / "manifest.csv", [Entry("audio/bang.wav", "test", 2.0, label="door")])
    rng = np.random.default_rng(1)
    said = [(0.1 * rng.standard_normal(1_600)).astype(np.float32) for _ in range(10)]
    clean = SpokenSet("x", "test", lambda n: Spoken(str(n), said[n], "A", "s"), [0.1] * 10)
    noisy = corrupted(clean, "noisy", sample_rate=16_000, root=tmp_path, folder=tmp_path / "cache")
    for index, spoken in enumerate(noisy):
        assert snr_db(spoken.waveform, said[index]) == pytest.approx(5.0, abs=1.5)


def test_names_and_numbers() -> None:
    assert clean_name("a-noisy-reverb") == ("a", "noisy-reverb")
    assert clean_name("a-noisy") == ("a", "noisy")
    assert clean_name("noisy") == ("noisy", "")
    items = SpokenSet("x", "test", lambda n: Spoken(str(n), np.zeros(3, np.float32), "A", "s"), [1.0, 2.0])
    assert [item.id for item in items] == ["0", "1"]
    for index in (2, -1):
        with pytest.raises(IndexError):
            items[index]


@pytest.mark.parametrize("corpus", ["librispeech", "commonvoice"])
def test_a_prepared_folder_trains_and_measures(
    corpus: str, corpora: Path, tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = trees.build_librispeech if corpus == "librispeech" else trees.build_commonvoice
    folder = str(prepare(corpus, build(tmp_path / "tree"), out=tmp_path / "my-noisy").out)
    config = TranscribedConfig(prepared=folder, batch_seconds=2.0, max_seconds=1.5, min_seconds=0.1)
    batches = TranscribedBatches(config, seed=0)
    said: dict[str, set[float]] = {}
    for index in range(12):
        batch = batches.batch(index)
        assert batch["waveform"].shape[0] == len(batch["text"])
        for text, length in zip(batch["text"], batch["lengths"].tolist(), strict=True):
            said.setdefault(text, set()).add(length)
    expected = {
        "librispeech": {"IT'S CHAPTER ONE", "IT'S CHAPTER TWO"},
        "commonvoice": {"WELL SHE SAID", "THE OLD WAY", "DON'T EVER"},
    }
    assert said.keys() == expected[corpus]
    items = spoken_set(folder, "test", max_items=3)
    assert {item.text for item in items} <= expected[corpus]
    assert [len(item.waveform) / 16_000 for item in items] == pytest.approx(items.seconds, abs=1e-4)
    # A condition goes behind a folder as well, and a folder may end like one.
    noisy = spoken_set(f"{folder}-noisy", "test", max_items=3)
    for item, other in zip(items, noisy, strict=True):
        assert snr_db(other.waveform, item.waveform) == pytest.approx(5.0, abs=0.5)
    with pytest.raises(CorpusError, match="no utterance of the split valid has a text and fits"):
        TranscribedBatches(
            TranscribedConfig(prepared=folder, batch_seconds=2.0, max_seconds=1.5, min_seconds=1.4),
            seed=0,
            split="valid",
        )


@pytest.mark.corpora
@pytest.mark.skipif(not os.environ.get("AURISCOPE_CORPORA"), reason="AURISCOPE_CORPORA is not set")
def test_the_real_sets_are_what_they_were() -> None:
    """Fixed once and for all: mean magnitudes, to what rounding allows."""
    for condition, levels in {
        "noisy-reverb": [0.060559, 0.056939, 0.028965, 0.037894, 0.024860],
        "noisy": [0.077188, 0.056373, 0.028415, 0.036175, 0.023436],
        "reverb": [0.047238, 0.042741, 0.022381, 0.029140, 0.019490],
    }.items():
        items = spoken_set(f"libri_eval50_flac-{condition}", "test", max_items=5)
        assert [float(np.abs(item.waveform).mean()) for item in items] == pytest.approx(levels, rel=1e-3)
