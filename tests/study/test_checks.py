"""Automatic checks: each finds what it is for in sounds that are known, and lets good recordings pass."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter, resample_poly

from auriscope.study import checks, voices
from auriscope.study.decode import Decoded
from auriscope.study.fingerprint import SAME_SOUND, fingerprint, most_similar, similarity

RATE = 16_000
LIMITS = checks.Limits(1.0, 30.0)
GOOD = checks.find_duplicate("", None, ())


def speech(seed: int, seconds: float = 4.0, pitch: float = 120.0) -> np.ndarray:
    """A voice of sorts: a gliding pulse train through changing resonances, in syllables."""
    random = np.random.default_rng(seed)
    count = round(seconds * RATE)
    glide = pitch * 2 ** (np.cumsum(random.normal(0, 0.002, count)) / 3)
    pulses = np.diff(np.floor(np.cumsum(glide / RATE)), prepend=0.0)
    voice = np.zeros(count)
    for start in range(0, count, 3200):
        part = pulses[start : start + 3200]
        for formant in random.uniform((300, 900, 2200), (800, 2000, 3200)):
            pole = 0.97 * np.exp(2j * np.pi * formant / RATE)
            part = lfilter([1.0], [1.0, -2 * pole.real, abs(pole) ** 2], part)
        voice[start : start + 3200] = part * random.uniform(0.1, 1.0) * np.hanning(3200)[: len(part)]
    return (0.3 * voice / np.abs(voice).max()).astype(np.float32)


def decoded(samples: np.ndarray, rate: int = RATE) -> Decoded:
    return Decoded(samples.astype(np.float32).reshape(len(samples), -1), rate)


def found(samples: np.ndarray, **more: Any) -> dict[str, Any]:
    return checks.run_checks(decoded(samples), LIMITS, **{"duplicate": GOOD, **more})


def mixed(seed: int) -> np.ndarray:
    return speech(seed) + speech(seed + 100, pitch=205.0)


def test_a_good_recording_passes() -> None:
    findings = found(mixed(0))
    assert {name for name, finding in findings.items() if name != "ok" and finding["ok"] is False} <= {"one_voice"}
    assert findings["level_balance"]["ok"] is None
    assert set(findings) == {"silence", "clipping", "duration", "one_voice", "level_balance", "duplicate", "ok"}


@pytest.mark.parametrize(
    ("samples", "failing"),
    [
        (np.zeros(4 * RATE), "silence"),
        (1e-3 * mixed(0), "silence"),
        (np.clip(12 * mixed(0), -1, 1), "clipping"),
        (mixed(0)[: RATE // 2], "duration"),
        (np.concatenate([mixed(0)] * 8), "duration"),
        (np.concatenate([np.zeros(4 * RATE), mixed(0)[: RATE // 8], np.zeros(4 * RATE)]), "duration"),
    ],
)
def test_what_is_wrong_is_found(samples: np.ndarray, failing: str) -> None:
    findings = found(samples)
    assert findings[failing]["ok"] is False
    assert findings["ok"] is False


def test_clipping_in_one_channel_is_found() -> None:
    clean = 0.5 * mixed(1)
    both = np.stack([clean, np.clip(20 * clean, -1, 1)], axis=1)
    assert checks.clipping(decoded(clean))["ok"]
    assert not checks.clipping(decoded(both))["ok"]


def test_level_balance_waits_for_the_tracks() -> None:
    findings = checks.with_levels(found(mixed(0)), [-20.0, -24.5])
    assert findings["level_balance"] == {"ok": True, "value": 4.5, "limit": checks.LARGEST_IMBALANCE_DB}
    findings = checks.with_levels(findings, [-20.0, -60.0])
    assert (findings["level_balance"]["ok"], findings["ok"]) == (False, False)
    assert checks.level_balance([-20.0, -np.inf])["ok"] is False
    assert checks.level_balance([-20.0])["ok"] is None


def through(samples: np.ndarray, rate: int, format: str, subtype: str) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


@pytest.mark.parametrize("seed", range(4))
def test_the_same_sound_is_found_again(seed: int) -> None:
    original = mixed(seed)
    mark = fingerprint(original, RATE)
    assert similarity(mark, mark) == 1.0
    assert similarity(mark, fingerprint(0.2 * original, RATE)) > 0.9
    assert similarity(mark, fingerprint(through(original, RATE, "MP3", "MPEG_LAYER_III"), RATE)) > SAME_SOUND
    assert similarity(mark, fingerprint(through(original, RATE, "OGG", "VORBIS"), RATE)) > SAME_SOUND
    cut = resample_poly(original[5_003:-4_001], 441, 160)
    assert similarity(mark, fingerprint(cut, 44_100)) > SAME_SOUND


def test_another_take_is_no_duplicate() -> None:
    # The same voices at the same pitches, spoken again.
    marks = [(str(seed), fingerprint(mixed(seed), RATE)) for seed in range(6)]
    for name, mark in marks:
        others = [other for other in marks if other[0] != name]
        assert most_similar(mark, others)[1] < SAME_SOUND
        finding = checks.find_duplicate(mark, None, others)
        assert (finding["ok"], finding["of"]) == (True, None)
        finding = checks.find_duplicate(mark, None, marks)
        assert (finding["ok"], finding["of"], finding["kind"]) == (False, name, "sound")


def test_the_same_bytes_need_no_comparison() -> None:
    assert checks.find_duplicate("", "sub_1", ())["kind"] == "bytes"


def test_silence_has_no_fingerprint() -> None:
    assert fingerprint(np.zeros(RATE, np.float32), RATE) == ""
    assert most_similar("", [("a", fingerprint(mixed(0), RATE))]) == (None, 0.0)


def test_sentences_are_compared_with_what_was_spoken() -> None:
    sentences = ["The boat left the harbour.", "She wrote the answer!"]
    findings = found(mixed(0), sentences=sentences, transcriber=lambda _: "the boat left THE harbour")
    assert findings["prompts"]["ok"]
    assert findings["prompts"]["value"] == pytest.approx(5 / 9, abs=1e-3)
    other = found(mixed(0), sentences=sentences, transcriber=lambda _: "hello world")
    assert (other["prompts"]["ok"], other["ok"]) == (False, False)


def test_voices_cannot_be_counted_in_silence() -> None:
    assert voices.measure(np.zeros(RATE, np.float32), RATE) is None
    assert checks.one_voice(np.zeros(RATE, np.float32), RATE)["ok"] is None


@pytest.mark.corpora
def test_single_talkers_are_suspected_more_often_than_pairs() -> None:
    folder = os.environ.get("AURISCOPE_CORPORA")
    if not folder:
        pytest.skip("needs AURISCOPE_CORPORA")
    root = Path(folder) / "libri_251spk"
    with (root / "manifest.csv").open(encoding="utf-8") as file:
        paths = [root / row["path"] for row in csv.DictReader(file)][1::2][:60]
    talkers = [soundfile.read(path, dtype="float32")[0] for path in paths]
    chances: dict[int, list[float]] = {1: [], 2: []}
    for first, second in zip(talkers[::2], talkers[1::2], strict=True):
        count = min(len(first), len(second), 8 * RATE)
        for number, mixture in ((1, first[:count]), (2, first[:count] + second[:count])):
            measured = voices.measure(mixture, RATE)
            assert measured is not None
            chances[number].append(voices.probability_of_two(measured))
    right = np.mean(np.array(chances[2])[:, None] > np.array(chances[1])[None, :])
    assert right > 0.7
    # A pair is hardly ever suspected to be one: reviewers are not to learn to ignore it.
    assert np.mean(np.array(chances[2]) < voices.LIMIT) <= 0.1
