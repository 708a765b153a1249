"""The verb ``say``: text in, speech out, sentence by sentence, marked as synthetic."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auriscope import __version__
from auriscope.errors import AuriscopeError
from auriscope.signal.files import AudioReader, AudioWriter
from auriscope.signal.wave import WaveStream
from auriscope.speaker.embedder import Embedder
from auriscope.synthesis.speaking import SpeakConfig
from auriscope.synthesis.synthesizer import Synthesizer
from auriscope.synthesis.vocoder import Vocoder
from auriscope.synthesis.watermark import Detection, Marker, detect
from auriscope.verbs.batch import FileResult, StrPath
from auriscope.verbs.sayer import Sayer, SayerSettings

FloatArray = NDArray[np.float32]

STDOUT = "-"
"""In the place of an output file: WAV to the standard output, as it is made."""

SYNTHETIC_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""What the metadata call the speech: IPTC's term for media that were made by a trained model."""

PAUSE_SECONDS = 0.2
"""Silence between two sentences."""

_DETECT_SECONDS = 60.0


@dataclass(frozen=True)
class SaidSentence:
    """A sentence, or a part of one, where it is in the speech, and what its attention tells.

    ``attention_ok`` says that the text was read once from its beginning to its end; ``num_tries`` how often it was said
    until it was.
    """

    text: str
    start_seconds: float
    end_seconds: float
    attention_ok: bool
    num_tries: int


@dataclass(frozen=True)
class SayResult:
    """What was said: ``text`` as it was given, ``output`` the file.

    ``attention_ok`` says it of all sentences. ``voice`` are the clips whose voice it is, none if the model has one of
    its own. ``warnings`` are one line each.
    """

    text: str
    output: str
    sample_rate: int
    attention_ok: bool
    duration_seconds: float
    sentences: tuple[SaidSentence, ...]
    model: str
    vocoder: str
    voice: tuple[str, ...]
    seed: int
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give what ``--json`` prints."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class MarkResult(FileResult):
    """Whether a recording says of itself that it is synthetic.

    ``watermark_score`` is in standard deviations of chance (:mod:`auriscope.synthesis.watermark`), ``watermark``
    whether that is no chance; ``metadata`` what :func:`say` wrote into the file, None where it is gone. ``synthetic``:
    either.
    """

    input: str
    synthetic: bool = False
    watermark: bool = False
    watermark_score: float = 0.0
    metadata: dict[str, Any] | None = None
    error: str | None = None


def say(
    text: str,
    out: StrPath,
    *,
    voice: StrPath | Sequence[StrPath] | None = None,
    model: StrPath | Synthesizer | None = None,
    vocoder: StrPath | Vocoder | None = None,
    embedder: StrPath | Embedder | None = None,
    config: SpeakConfig | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
    sayer: Sayer | None = None,
    on_sentence: Callable[[SaidSentence, float], None] | None = None,
) -> SayResult:
    """Speak a text into a file, sentence by sentence, in memory that does not depend on its length.

    The speech is marked as synthetic, in the file's metadata and in the sound itself. Take somebody's voice only with
    their consent.

    Args:
        text: written English; numbers, dates and abbreviations are spoken as a reader would.
        out: the file, whose suffix chooses the format (.wav, .flac, .ogg, .opus, .mp3), or "-" for the standard output.
        voice: a clip, or several, of one person: the voice to speak in, for models that take one.
        model: address of a synthesiser, or the synthesiser; by default the shipped one.
        vocoder: address of a vocoder, the vocoder, or "griffin-lim"; by default the shipped one of the same mels.
        embedder: address of a speaker model, or the model; by default the one whose voices the synthesiser was taught.
        config: seed, sentences at once, tries.
        device: where the models run.
        offline: forbid the network, which only a ``hf://`` address would use.
        sayer: models that are loaded already, in the place of all those options.
        on_sentence: told each sentence as it is written, and the done fraction of the text.

    Raises:
        AuriscopeError: nothing of the text can be spoken, a model cannot be loaded or does not fit, the clip holds no
            voice, a sentence failed again and again, or the file cannot be written. Nothing half-written stays.
    """
    sayer = sayer or Sayer(SayerSettings(model, vocoder, voice, embedder, config, device, offline))
    prepared = sayer.prepare(text)
    rate = sayer.sample_rate
    try:
        marker = Marker(rate)
    except ValueError as error:
        raise AuriscopeError(f"{sayer.address}: speech of {rate} Hz cannot be marked as synthetic: {error}") from None
    warnings = [*sayer.warnings, *([prepared.warning] if prepared.warning else [])]
    said: list[SaidSentence] = []
    num_samples = 0
    num_letters = sum(map(len, prepared.sentences))
    done = 0
    with _sink(out, rate, metadata(sayer)) as write:
        for spoken in sayer.speak(prepared.sentences):
            if said:
                pause = np.zeros(round(PAUSE_SECONDS * rate), dtype=np.float32)
                num_samples += len(pause)
                write(marker.push(pause))
            start = num_samples
            num_samples += len(spoken.waveform)
            write(marker.push(spoken.waveform))
            sentence = SaidSentence(
                spoken.text, round(start / rate, 3), round(num_samples / rate, 3), spoken.ok, spoken.num_tries
            )
            said.append(sentence)
            if not spoken.ok:
                warnings.append(f"the speech failed at {spoken.text!r}: {spoken.failure}")
            done += len(spoken.text)
            if on_sentence is not None:
                on_sentence(sentence, min(1.0, done / num_letters))
        write(marker.finish())
    return SayResult(
        text=text,
        output=os.fspath(out),
        sample_rate=rate,
        attention_ok=all(sentence.attention_ok for sentence in said),
        duration_seconds=round(num_samples / rate, 3),
        sentences=tuple(said),
        model=sayer.address,
        vocoder=sayer.vocoder_address,
        voice=sayer.clips,
        seed=sayer.config.seed,
        warnings=tuple(warnings),
    )


def metadata(sayer: Sayer) -> dict[str, Any]:
    """What the metadata of the speech say, as JSON: that it is synthetic, by IPTC's term, and what made it."""
    return {
        "synthetic": True,
        "digital_source_type": SYNTHETIC_SOURCE,
        "software": f"auriscope {__version__}",
        "model": sayer.address,
        "vocoder": sayer.vocoder_address,
        "voice_of_a_clip": bool(sayer.clips),
    }


def find_mark(path: StrPath) -> MarkResult:
    """Look whether a recording was made by :func:`say`, in its metadata and in its sound, in constant memory.

    Raises ``AudioFileError`` for a file that cannot be read.
    """
    with AudioReader(path) as reader:
        found = _comment(reader.info.comment)
        blocks = reader.blocks(round(_DETECT_SECONDS * reader.sample_rate))
        best = max((detect(block, reader.sample_rate).score for block in blocks), default=0.0)
    marked = Detection(best).marked
    return MarkResult(os.fspath(path), marked or found is not None, marked, round(best, 2), found)


def _comment(text: str) -> dict[str, Any] | None:
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return values if isinstance(values, dict) and values.get("synthetic") is True else None


@contextmanager
def _sink(out: StrPath, sample_rate: int, facts: dict[str, Any]) -> Iterator[Callable[[FloatArray], None]]:
    """Open what the speech is written to."""
    comment = json.dumps(facts)
    if os.fspath(out) == STDOUT:
        yield WaveStream(sys.stdout.buffer, sample_rate, comment).write
        return
    with AudioWriter(Path(out), sample_rate, comment=comment) as writer:
        yield writer.write
