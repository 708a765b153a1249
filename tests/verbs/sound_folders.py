"""Folders of sounds, and a tiny model that hears them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from auriscope.crossmodal.clap import CLAP
from auriscope.signal.files import write

RATE = 16_000


def tiny_clap(folder: Path, seed: int = 0) -> Path:
    """Save a CLAP with random weights that hears two seconds at once."""
    torch.manual_seed(seed)
    CLAP.from_config({**CLAP.Tiny, "window_seconds": 2.0}).eval().save_pretrained(folder)
    return folder


def sound(path: Path, seed: int, seconds: float = 1.0, *, silent: float = 0.0) -> Path:
    """Write noise of a colour and a rhythm of its own, after so many seconds of silence."""
    rng = np.random.default_rng(seed)
    waveform = rng.standard_normal(round(seconds * RATE)).astype(np.float32)
    smooth = np.hanning(3 + 3 * (seed % 23))
    waveform = np.convolve(waveform, smooth / smooth.sum(), "same")
    waveform *= 0.1 + 0.9 * (np.sin(2 * np.pi * (1 + seed % 7) * np.arange(len(waveform)) / RATE) > 0)
    waveform *= 0.5 / np.abs(waveform).max()
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, np.concatenate([np.zeros(round(silent * RATE)), waveform]).astype(np.float32), RATE)
    return path
