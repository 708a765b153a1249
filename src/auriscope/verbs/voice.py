"""A speaker model, loaded once for many files: recordings of any length to embeddings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.errors import AudioFileError, AuriscopeError
from auriscope.pretrained import load
from auriscope.pretrained.addresses import resolve, weights_sha256
from auriscope.separation.fingerprint import JoinedFingerprint, SpectralFingerprint
from auriscope.separation.joining import Fingerprint
from auriscope.signal.files import AudioReader
from auriscope.signal.outputs import printable
from auriscope.signal.rates import resample_array
from auriscope.speaker.calibration import Calibration
from auriscope.speaker.diarization import embed_with
from auriscope.speaker.embedder import Embedder
from auriscope.verbs.batch import StrPath
from auriscope.verbs.defaults import default_embedder

FloatArray = NDArray[np.float32]

WINDOW_SECONDS = 30.0
"""Longer recordings are embedded in windows of this length, whose embeddings are averaged."""

SHORT_SECONDS = 2.0
"""With less sound, a voice is told less surely than a model's card says."""


@dataclass(frozen=True)
class Voice:
    """What a recording tells of a voice: ``embedding`` (dim,) of unit length, from ``duration_seconds`` of sound."""

    embedding: FloatArray
    duration_seconds: float
    warnings: tuple[str, ...] = ()


class VoiceReader:
    """A speaker model, loaded, that embeds files.

    ``model`` is an address, or the model itself; None is what ships. Raises ``AuriscopeError`` when it cannot be
    loaded, is no speaker model, or none is shipped and none was named.
    """

    def __init__(
        self,
        model: StrPath | Embedder | None = None,
        *,
        channel: int | None = None,
        device: Any = "cpu",
        offline: bool | None = None,
    ) -> None:
        self.channel, self.offline = channel, offline
        self.nameless = isinstance(model, Embedder)
        """Whether a model was given that no record can name."""
        if isinstance(model, Embedder):
            loaded: Any = model
            self.address = model.name
        else:
            self.address = default_embedder() if model is None else os.fspath(model)
            loaded = load(self.address, device=device, offline=offline)
        if not isinstance(loaded, Embedder):
            raise AuriscopeError(f"{self.address} does not embed voices; see `auriscope models`")
        self.embedder = loaded.eval()

    @cached_property
    def weights_sha256(self) -> str:
        """The checksum of the weights; "" of a model that was handed in itself."""
        return "" if self.nameless else weights_sha256(self.address, offline=self.offline)

    @cached_property
    def calibration(self) -> Calibration | None:
        """What the model ships with to turn scores into decisions, or None."""
        if self.nameless:
            return None
        return Calibration.of(resolve(self.address, offline=self.offline), self.weights_sha256)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What keeps talkers on their tracks (``separation.joining``): the model, beside statistics of spectra."""
        embed, rate = embed_with(self.embedder), int(self.embedder.config.sample_rate)
        return JoinedFingerprint(
            SpectralFingerprint(), lambda speech, sample_rate: embed([resample_array(speech, sample_rate, rate)])[0]
        )

    @torch.no_grad()
    def read(self, path: StrPath, on_progress: Callable[[float], None] | None = None) -> Voice:
        """Embed a file, of any length in constant memory; ``on_progress`` is told the done fraction.

        Windows of digital silence say nothing and do not count. Raises ``AudioFileError`` for a file that cannot be
        read, is too short, or is silent all along.
        """
        rate = int(self.embedder.config.sample_rate)
        least = round(self.embedder.min_seconds * rate)
        whole = torch.zeros(self.embedder.dim, dtype=torch.float64)
        num_frames, num_heard = 0, 0
        with AudioReader(path, sample_rate=rate, channel=self.channel) as reader:
            total = max(1.0, reader.info.duration_seconds * rate)
            for window in _windows(reader.blocks(round(WINDOW_SECONDS * rate)), least):
                num_frames += len(window)
                if len(window) >= least and np.any(window):
                    waveform = torch.from_numpy(window)[None].to(self.embedder.device)
                    whole += len(window) * self.embedder.embed(waveform)[0].double().cpu()
                    num_heard += len(window)
                if on_progress is not None:
                    on_progress(min(1.0, num_frames / total))
        seconds = num_frames / rate
        if num_frames < least:
            raise AudioFileError(
                f"{printable(path)}: {seconds:.2f} s of sound are too short to tell a voice; "
                f"give at least {self.embedder.min_seconds:g} s"
            )
        if not num_heard:
            raise AudioFileError(f"{printable(path)}: is digital silence: there is no voice in it")
        embedding: FloatArray = torch.nn.functional.normalize(whole, dim=0).float().numpy()
        if not np.isfinite(embedding).all():
            raise AudioFileError(f"{printable(path)}: the model {self.address} gives no finite embedding of it")
        heard = num_heard / rate
        short = (f"only {heard:.1f} s of sound: a voice is told less surely from so little",)
        return Voice(embedding, seconds, short if heard < SHORT_SECONDS else ())


def _windows(blocks: Iterator[FloatArray], least: int) -> Iterator[FloatArray]:
    """Join what is left at the end to the window before, if it is too short to be embedded alone."""
    waiting: FloatArray | None = None
    for block in blocks:
        if waiting is not None and len(block) < least:
            waiting = np.concatenate([waiting, block])
            continue
        if waiting is not None:
            yield waiting
        waiting = block
    if waiting is not None:
        yield waiting
