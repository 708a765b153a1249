from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auriscope.data.prepared_images import PreparedImages, PreparedStretch, write_images
from auriscope.data.prepared_labelled import PreparedSound, PreparedSounds, write_labelled

RATE = 8000
LABELS = ("low", "high", "noise")


@pytest.fixture
def real_corpora(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not os.environ.get("AURISCOPE_CORPORA"):
        pytest.skip("AURISCOPE_CORPORA is not set")
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return Path(os.environ["AURISCOPE_CORPORA"])


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of low tones, high tones and noise, of a third to half a second; of "low" there are fewer."""
    root, folder = tmp_path_factory.mktemp("audio"), tmp_path_factory.mktemp("manifests") / "tones"
    rng = np.random.default_rng(0)
    rows = []
    for split, number in (("train", 6), ("valid", 3), ("test", 3)):
        for label in LABELS:
            for take in range(number - number // 3 if label == "low" else number):
                time = np.arange(int(rng.integers(2700, 4000))) / RATE
                hertz = {"low": 200.0, "high": 1500.0, "noise": 0.0}[label] * rng.uniform(0.9, 1.1)
                wave = np.sin(2 * np.pi * hertz * time) if hertz else rng.standard_normal(len(time))
                name = f"{split}-{label}-{take}.wav"
                soundfile.write(root / name, rng.uniform(0.05, 0.2) * wave, RATE)
                rows.append(PreparedSound(name, split, label, name, len(time), RATE))
    write_labelled(PreparedSounds("tones", "made", root, LABELS, tuple(rows)), folder)
    return folder


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of images of 12 x 12 pixels with upright or lying bars."""
    root, folder = tmp_path_factory.mktemp("pixels"), tmp_path_factory.mktemp("manifests") / "bars"
    rng = np.random.default_rng(0)
    stretches = []
    for label in ("upright", "lying"):
        images = rng.integers(0, 40, (20, 12, 12), dtype=np.uint8)
        for image, place in zip(images, rng.integers(1, 10, 20), strict=True):
            (image if label == "lying" else image.T)[place : place + 2] = 220
        np.save(root / f"{label}.npy", images.reshape(20, -1))
        stretches += [
            PreparedStretch(f"{label}.npy", split, start, end, label)
            for split, start, end in (("train", 0, 12), ("valid", 12, 16), ("test", 16, 20))
        ]
    write_images(PreparedImages("bars", "made", root, ("upright", "lying"), tuple(stretches)), folder)
    return folder
