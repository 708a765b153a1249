"""The verb ``enhance``: a recording in, its speech without noise and late reverberation out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auriscope.separation.long import LongConfig, Separator
from auriscope.separation.precision import Precision
from auriscope.verbs.batch import ProgressCallback, StrPath
from auriscope.verbs.tracks import ENHANCED, Choice, TrackJob, TrackResult, run_batch

RECORD = "enhance.json"
"""Written beside the track: what it was made from and with, so that a second call need not do it again."""


@dataclass(frozen=True)
class EnhanceResult(TrackResult):
    """What enhancing one recording gave, in one track; see :class:`~auriscope.verbs.tracks.TrackResult`."""


def enhance(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    model: StrPath | Separator | None = None,
    channel: int | None = None,
    config: LongConfig | None = None,
    device: Any = "cpu",
    precision: Precision = "fp32",
    offline: bool | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
    on_result: Callable[[EnhanceResult], None] | None = None,
) -> list[EnhanceResult]:
    """Take noise and late reverberation off recordings of speech: ``out/<stem>/enhanced.wav``.

    The track is float WAV at the recording's sample rate and length, and at the level that the speech has in it. A file
    that fails yields a result with an ``error``, leaves nothing behind and stops no other. A file done earlier with the
    same settings is not done again. Memory does not depend on a recording's length.

    Args:
        inputs: recordings and folders of them; see ``signal.files`` for the formats. Any rate, channels and length.
        out: folder for the results; made if missing.
        model: address of a separation model of one source, or the model; by default the shipped one.
        channel: the channel to take, counted from 0; by default all are mixed down.
        config: how long recordings are cut and put together.
        device: where the model runs.
        precision: what models given by address compute in: "fp32", "bf16" or "int8"; see ``separation.precision``.
        offline: forbid the network, which only a ``hf://`` address would use.
        force: do again what is already done.
        progress: called as the work goes on.
        on_result: called with each result as soon as there is one.

    Returns:
        One result per recording, in the order of the inputs.

    Raises:
        AuriscopeError: nothing can be done at all: the model cannot be loaded or has more than one source, the output
            folder cannot be written, or an input folder holds no audio.
    """
    options = {"channel": channel, "config": config, "device": device, "offline": offline, "force": force}
    options["precision"] = precision
    return run_batch(_Job(model, fingerprint=None, **options), inputs, out, progress, on_result)


class _Job(TrackJob[EnhanceResult]):
    record, stage, purpose, result = RECORD, "enhancing", "enhance", EnhanceResult

    def __init__(self, model: StrPath | Separator | None, **options: Any) -> None:
        super().__init__(**options)
        self._model = self.enhancer(model)

    def settings(self) -> dict[str, Any]:
        """The model."""
        return {"model": self._model[0]}

    def choose(self, path: Path, report: Callable[[str, float], None]) -> Choice:  # noqa: ARG002
        """The same for every recording."""
        return Choice(self._model, (ENHANCED,))
