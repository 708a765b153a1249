"""People speaking, and machines saying the same: what a classifier of real against synthetic speech learns from.

Of every split of some corpora come utterances as they are, copies of them, and the same texts read by espeak-ng. The
copies are vocoders' work, which heard the mels of the utterance and not the utterance: Griffin-Lim from finer and
coarser mels, with fewer and more rounds, and every vocoder that ships. Whatever is stored has the same level and went
through the same codec, so that neither tells people from machines.

It is made on first use, which takes minutes, and kept in the cache.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.data.augmentation import coded
from auriscope.data.cache import AudioStore, open_store
from auriscope.data.corpora import LabelledClip, Utterance, utterances
from auriscope.data.prepare.espeak import PROGRAM, VOICES, WORDS_PER_MINUTE, speak
from auriscope.data.render import rms
from auriscope.errors import CorpusError
from auriscope.pretrained.addresses import list_shipped, load, weights_sha256
from auriscope.pretrained.model import model_class
from auriscope.signal import files
from auriscope.signal.resampling import resample
from auriscope.signal.vocoding import MelConfig, speech_mel

FloatArray = NDArray[np.float32]

KINDS = ("real", "synthetic")
"""The classes."""
CORPORA = ("libri_251spk", "commonvoice_en")
"""Whose utterances they are."""
_MOST = 160
"""Of a larger corpus so many utterances are taken, evenly spread."""
_LONGEST_SECONDS = 4.0
_RATE = 16_000
_KBPS = 32.0
_LEVEL = 0.05
_VERSION = 2


@dataclass(frozen=True)
class Machine:
    """Who copies an utterance (time,) at 16 kHz; ``name`` tells machines apart, whatever they were trained on."""

    name: str
    copy: Callable[[FloatArray], FloatArray]


def machines() -> list[Machine]:
    """The vocoders that copy: Griffin-Lim in several ways, and those that ship."""
    kind = model_class("synthesis/griffin-lim")
    found = []
    for num_mels, hop_length, num_iterations in ((80, 256, 32), (80, 200, 8), (40, 256, 16), (128, 256, 64)):
        mel = MelConfig(_RATE, 1024, hop_length, 1024, num_mels)
        vocoder = kind(kind.Config(mel=mel, num_iterations=num_iterations)).eval()
        name = f"griffin-lim {num_mels} {hop_length} {num_iterations}"
        found.append(Machine(name, partial(_vocoded, vocoder)))
    for shipped in list_shipped():
        if shipped.address.startswith("synthesis/hifigan"):
            name = f"{shipped.address} {weights_sha256(shipped.address)}"
            found.append(Machine(name, partial(_vocoded, load(shipped.address))))
    return found


def real_and_synthetic(
    split: str, *, sample_rate: int = _RATE, root: Path | None = None, folder: Path | None = None
) -> tuple[list[LabelledClip], AudioStore]:
    """List the clips of "train" or "valid", and open a store that holds them in the same order.

    Every utterance comes three times: as it is, copied by one of the machines, and read by espeak-ng; the three are a
    group. Raises ``CorpusError`` when the corpora or the program espeak-ng are missing.
    """
    spoken = [entry for corpus in CORPORA for entry in _spread(utterances(corpus, split, root=root))]
    copying = machines()
    clips = []
    for number, entry in enumerate(spoken):
        ways = ("real", copying[number % len(copying)].name.partition(" ")[0], PROGRAM)
        for way in ways:
            clips.append(
                LabelledClip(
                    *("real-synthetic", f"{entry.corpus}/{entry.name}:{way}", entry.path, split),
                    min(entry.duration_seconds, _LONGEST_SECONDS),
                    label=KINDS[way != "real"],
                    group=f"{entry.corpus}:{entry.name}",
                )
            )
    store = open_store(
        partial(_made, spoken, copying, sample_rate),
        key=_key(spoken, copying, sample_rate),
        sample_rate=sample_rate,
        name=f"real-synthetic-{split}",
        folder=folder,
    )
    return clips, store


def _spread(listed: list[Utterance]) -> list[Utterance]:
    """At most ``_MOST`` of some utterances with texts, evenly spread."""
    usable = [entry for entry in listed if entry.text]
    return usable[:: max(1, -(-len(usable) // _MOST))]


def _made(spoken: list[Utterance], copying: list[Machine], sample_rate: int) -> Iterator[FloatArray]:
    program = shutil.which(PROGRAM)
    if program is None:
        raise CorpusError(f"the program {PROGRAM}, which is to read the texts, is not installed; install {PROGRAM}")
    readers = sorted(VOICES)
    with tempfile.TemporaryDirectory() as aside:
        for number, entry in enumerate(spoken):
            real = files.read(entry.path, sample_rate=_RATE)[0][: round(_LONGEST_SECONDS * _RATE)]
            place = Path(aside) / "read.wav"
            reader = VOICES[readers[number % len(readers)]][0]
            speed = WORDS_PER_MINUTE[number % len(WORDS_PER_MINUTE)]
            speak(program, place, reader, speed, (entry.text or "").lower())
            read = files.read(place, sample_rate=_RATE)[0][: round(_LONGEST_SECONDS * _RATE)]
            for waveform in (real, copying[number % len(copying)].copy(real), read):
                yield _stored(waveform, sample_rate)


def _stored(waveform: FloatArray, sample_rate: int) -> FloatArray:
    """The same level and the same codec for all."""
    # A codec takes away more of some sounds than of others.
    heard = _levelled(coded(_levelled(waveform), _RATE, "opus", _KBPS))
    return _resampled(heard, _RATE, sample_rate)


def _levelled(waveform: FloatArray) -> FloatArray:
    level = rms(waveform)
    changed: FloatArray = (waveform * np.float32(_LEVEL / level if level > 0 else 1.0)).clip(-1.0, 1.0)
    return changed


@torch.inference_mode()
def _vocoded(vocoder: Any, waveform: FloatArray) -> FloatArray:
    mel: MelConfig = vocoder.config.mel
    heard = _resampled(waveform, _RATE, mel.sample_rate)
    copied = vocoder(speech_mel(torch.from_numpy(heard)[None], mel))[0].numpy()
    return _resampled(copied, mel.sample_rate, _RATE)[: len(waveform)]


def _resampled(waveform: FloatArray, rate: int, wanted: int) -> FloatArray:
    if rate == wanted:
        return waveform
    changed: FloatArray = resample(torch.from_numpy(waveform)[None], rate, wanted)[0].numpy()
    return changed


def _key(spoken: list[Utterance], copying: list[Machine], sample_rate: int) -> str:
    # What is told of the program is its version; without it there is nothing that could be found.
    version = ""
    if program := shutil.which(PROGRAM):
        version = subprocess.run([program, "--version"], check=False, capture_output=True, text=True).stdout
    digest = hashlib.sha256(f"{_VERSION} {sample_rate} {version.partition('Data at')[0]}".encode())
    for machine in copying:
        digest.update(f"{machine.name}\n".encode())
    for entry in spoken:
        digest.update(f"{entry.corpus} {entry.name} {entry.path.stat().st_size} {entry.text}\n".encode())
    return digest.hexdigest()
