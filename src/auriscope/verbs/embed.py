"""The verb ``embed``: recordings in, one vector a voice out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auriscope.speaker.embedder import Embedder
from auriscope.verbs.batch import (
    FileResult,
    ProgressCallback,
    StrPath,
    collected,
    each,
    earlier_result,
    expand_inputs,
    folder_aside,
    folders_if_written,
    reporter,
    source_of,
    write_record,
)
from auriscope.verbs.voice import VoiceReader

RECORD = "embed.json"
"""Written for each recording: the embedding, and what it was made from and with."""

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class EmbedResult(FileResult):
    """The voice in one recording.

    ``embedding`` (dim,) is of unit length: the product of two is the cosine, the score of two recordings. ``files`` are
    what was written. ``resumed``: an earlier call had done it already. Where ``error`` is not None it says in one line
    why there is none.
    """

    input: str
    model: str | None = None
    embedding: tuple[float, ...] = ()
    duration_seconds: float | None = None
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    resumed: bool = False
    error: str | None = None


def embed(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath | None = None,
    *,
    model: StrPath | Embedder | None = None,
    channel: int | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
    on_result: Callable[[EmbedResult], None] | None = None,
) -> list[EmbedResult]:
    """Turn recordings into embeddings, near each other for one voice; with ``out``, into ``out/<stem>/embed.json``.

    Each recording is taken to hold one voice. Recordings of hours run in constant memory: windows of half a minute are
    averaged. A file that fails yields a result with an ``error`` and stops no other. A file done earlier with the same
    weights is not done again, if the model is given by its address and there is an ``out``.

    Args:
        inputs: recordings and folders of them; see ``signal.files`` for the formats. Any rate, channels and length.
        out: folder for the results, made if missing; None: nothing is written.
        model: address of a speaker model, or the model; by default the shipped one.
        channel: the channel to take, counted from 0; by default all are mixed down.
        device: where the model runs.
        offline: forbid the network, which only a ``hf://`` address would use.
        force: do again what is already done.
        progress: called as the work goes on.
        on_result: called with each result as soon as there is one, in the order of the inputs.

    Returns:
        One result per recording, in the order of the inputs.

    Raises:
        AuriscopeError: nothing can be done at all: the model cannot be loaded, the output folder cannot be written, or
            an input folder holds no audio.
    """
    paths = expand_inputs(inputs)
    folders = folders_if_written(paths, out)
    reader = VoiceReader(model, channel=channel, device=device, offline=offline)
    settings = (
        None if reader.nameless else {"model": reader.address, "weights": reader.weights_sha256, "channel": channel}
    )

    def work(path: Path, index: int) -> EmbedResult:
        source, folder = source_of(path), folders[index]
        made = {"format_version": _FORMAT_VERSION, "source": source, "settings": settings}
        if folder is not None and settings is not None and not force:
            done = earlier_result(EmbedResult, path, folder, RECORD, made, [RECORD])
            if done is not None:
                return done

        report = reporter(progress, path, index, len(paths), "embedding")
        voice = reader.read(path, report)
        result = EmbedResult(
            os.fspath(path),
            reader.address,
            tuple(round(float(value), 6) for value in voice.embedding),
            round(voice.duration_seconds, 6),
            warnings=voice.warnings,
        )
        if folder is None:
            return result
        with folder_aside(folder) as aside:
            write_record(aside / RECORD, {**made, **result.facts()})
        return dataclasses.replace(result, files=(os.fspath(folder / RECORD),))

    return collected(each(paths, work, lambda path, line: EmbedResult(os.fspath(path), error=line)), on_result)
