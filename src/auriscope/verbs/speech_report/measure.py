"""Sentences are spoken, written down again by a recogniser, and compared with the real voice."""

from __future__ import annotations

import csv
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auriscope.errors import AudioFileError, AuriscopeError
from auriscope.pretrained import list_shipped
from auriscope.signal.files import AudioWriter, read, write
from auriscope.signal.outputs import StrPath, make_folder, written_aside
from auriscope.synthesis.speaking import SpokenSentence
from auriscope.synthesis.watermark import mark
from auriscope.text.spoken import Spoken
from auriscope.verbs.batch import write_record
from auriscope.verbs.defaults import DEFAULT_EMBEDDER
from auriscope.verbs.say import PAUSE_SECONDS, metadata
from auriscope.verbs.sayer import Sayer
from auriscope.verbs.speech_report.page import write_page
from auriscope.verbs.speech_report.results import SpeechItem, SpeechReport
from auriscope.verbs.transcriber import Transcriber
from auriscope.verbs.voice import VoiceReader

FloatArray = NDArray[np.float32]

PAGE, RECORD, ITEMS = "report.html", "report.json", "items.csv"
"""What is written beside the sounds: the page, all that is known, and the manifest of a listening study."""

_REMARKS = """\
# Speech to be rated for how natural it is, by whoever takes part in a listening study:
#   auriscope study init rating --kind listening
# then, in rating/campaign.yaml, `scale: naturalness` and `manifest:` with the path of this file, and
#   auriscope study serve rating
"""


@dataclass(frozen=True)
class Prompt:
    """A sentence to speak: ``recording`` is the file of the real voice saying it, if there is one.

    ``voice`` is a clip whose voice this sentence is spoken in and compared with; None: the voice of the sayer.
    """

    text: str
    recording: Path | None = None
    voice: Path | None = None


def speech_report(
    prompts: Sequence[Prompt],
    out: StrPath,
    *,
    sayer: Sayer,
    transcriber: Transcriber | None = None,
    voices: VoiceReader | None = None,
    on_progress: Callable[[str, float], None] | None = None,
) -> SpeechReport:
    """Speak sentences into a folder, and find out how good the speech is.

    The folder gets the sounds, ``report.html``, a page with the sounds and pictures of the attention, ``report.json``,
    and ``items.csv``, from which ``auriscope study`` makes a listening study. Speech whose attention failed is kept and
    counted.

    Args:
        prompts: what to speak.
        out: the folder, made if missing.
        sayer: the models; :attr:`~auriscope.synthesis.speaking.SpeakConfig.keep_failed` is taken for granted.
        transcriber: a recogniser, for errors of words and characters, which hears all of the speech; None: they are
            not measured.
        voices: a speaker model, for the likeness of the voice; None: it is not measured.
        on_progress: told what is done, and the done fraction.

    Raises:
        AuriscopeError: there are no sentences, one cannot be spoken at all, or a file cannot be read or written.
    """
    folder = make_folder(out)
    report, attentions = measured_speech(
        prompts, folder, sayer=sayer, transcriber=transcriber, voices=voices, on_progress=on_progress
    )
    report = dataclasses.replace(report, files=tuple(str(folder / each) for each in (PAGE, RECORD, ITEMS)))
    write_page(report, attentions, folder / PAGE)
    _write_items(report, folder / ITEMS)
    write_record(folder / RECORD, json.loads(json.dumps(report.to_dict(), allow_nan=False)))
    return report


def measured_speech(
    prompts: Sequence[Prompt],
    folder: Path,
    *,
    sayer: Sayer,
    transcriber: Transcriber | None = None,
    voices: VoiceReader | None = None,
    on_progress: Callable[[str, float], None] | None = None,
) -> tuple[SpeechReport, list[list[FloatArray]]]:
    """Do the work of :func:`speech_report`: only the sounds are written, into a folder that exists.

    Gives the report, and the attentions (frames, tokens) of the parts of each sentence.
    """
    if not prompts:
        raise AuriscopeError("a report needs at least one sentence")
    sayer.config = dataclasses.replace(sayer.config, keep_failed=True)
    if transcriber is not None:
        # All of it is speech; a detector may take speech that sounds odd for none, and the error would be its own.
        transcriber = transcriber.hearing_everything()
    real = None if voices is None else _real_voice(prompts, sayer, voices)
    items, attentions, warnings = [], [], list(sayer.warnings)
    for number, prompt in enumerate(prompts):
        if on_progress is not None:
            on_progress(prompt.text[:40], number / len(prompts))
        if prompt.voice is not None:
            sayer.use_voice([prompt.voice])
        prepared = sayer.prepare(prompt.text)
        name = f"{number + 1:03d}"
        item, attention = _spoken(name, prompt, prepared, sayer, folder)
        if prepared.warning:
            warnings.append(f"{name}: {prepared.warning}")
        items.append(_measured(item, prompt, number, folder, transcriber, voices, real))
        attentions.append(attention)
    report = SpeechReport(
        folder=str(folder),
        model=sayer.address,
        vocoder=sayer.vocoder_address,
        voice=tuple(dict.fromkeys(str(prompt.voice) for prompt in prompts if prompt.voice)) or sayer.clips,
        seed=sayer.config.seed,
        sample_rate=sayer.sample_rate,
        recognizer=None if transcriber is None else transcriber.address,
        embedder=None if voices is None else voices.address,
        items=tuple(items),
        warnings=tuple(warnings),
    )
    return report, attentions


def _spoken(
    name: str, prompt: Prompt, prepared: Spoken, sayer: Sayer, folder: Path
) -> tuple[SpeechItem, list[NDArray[np.float32]]]:
    begun = time.perf_counter()
    parts: list[SpokenSentence] = list(sayer.speak(prepared.sentences))
    taken = time.perf_counter() - begun
    rate = sayer.sample_rate
    pause = np.zeros(round(PAUSE_SECONDS * rate), dtype=np.float32)
    waveform = np.concatenate([piece for part in parts for piece in (pause, part.waveform)][1:])
    with AudioWriter(folder / f"{name}.flac", rate, comment=json.dumps(metadata(sayer))) as writer:
        writer.write(mark(waveform, rate))
    recording = None
    if prompt.recording is not None:
        recording = f"{name}-real.flac"
        sound, own_rate = read(prompt.recording)
        write(folder / recording, sound, own_rate)
    item = SpeechItem(
        name=name,
        text=prompt.text,
        spoken=" ".join(prepared.sentences),
        sound=f"{name}.flac",
        duration_seconds=round(len(waveform) / rate, 3),
        seconds_to_make=taken,
        attention_ok=all(part.ok for part in parts),
        # A sentence that had to be cut was said in more parts than it has sentences.
        first_try=all(part.ok and part.num_tries == 1 for part in parts) and len(parts) == len(prepared.sentences),
        repeated=max(part.repeated for part in parts),
        skipped=max(part.skipped for part in parts),
        recording=recording,
    )
    return item, [part.attention.numpy() for part in parts]


def _measured(
    item: SpeechItem,
    prompt: Prompt,
    number: int,
    folder: Path,
    transcriber: Transcriber | None,
    voices: VoiceReader | None,
    real: _RealVoice | None,
) -> SpeechItem:
    found: dict[str, Any] = {}
    if transcriber is not None:
        found["heard"] = transcriber.read(folder / item.sound).text
        if prompt.recording is not None:
            found["recording_heard"] = transcriber.read(prompt.recording).text
    if voices is not None and prompt.voice is not None:
        target = voices.read(prompt.voice).embedding
        found["similarity"] = _likeness(target, folder / item.sound, voices)
        if prompt.recording is not None and prompt.recording != prompt.voice:
            found["recording_similarity"] = _likeness(target, prompt.recording, voices)
    elif voices is not None and real is not None:
        found["similarity"] = _likeness(real.centre, folder / item.sound, voices)
        if prompt.recording is not None and len(real.each) > 1:
            found["recording_similarity"] = real.without(number)
    return dataclasses.replace(item, **found)


def _likeness(target: FloatArray, sound: Path, voices: VoiceReader) -> float:
    """The score of a sound with a voice; 0, a stranger's, where too little is said to tell."""
    try:
        return float(target @ voices.read(sound).embedding)
    except AudioFileError:
        return 0.0


@dataclass(frozen=True)
class _RealVoice:
    """The real voice: the direction of all its recordings, and of each by the prompt's number."""

    centre: FloatArray
    each: dict[int, FloatArray]

    def without(self, number: int) -> float:
        """The score of a recording with all others."""
        others = sum(embedding for place, embedding in self.each.items() if place != number)
        return float(self.each[number] @ (others / np.linalg.norm(others)))


def _real_voice(prompts: Sequence[Prompt], sayer: Sayer, voices: VoiceReader) -> _RealVoice | None:
    each = {
        number: voices.read(prompt.recording).embedding
        for number, prompt in enumerate(prompts)
        if prompt.recording is not None and prompt.voice is None
    }
    known = [voices.read(clip).embedding for clip in sayer.clips] or list(each.values())
    if not known:
        return None
    whole = np.sum(known, axis=0)
    return _RealVoice((whole / np.linalg.norm(whole)).astype(np.float32), each)


def _write_items(report: SpeechReport, path: Path) -> None:
    """Write the manifest of a listening study: the speech, and the real recordings as a system of their own."""
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        stream.write(_REMARKS)
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["name", "system", "estimates", "group", "fact_text"])
        for item in report.items:
            rows.writerow([item.name, report.model, item.sound, item.name, item.text])
            if item.recording is not None:
                rows.writerow([f"{item.name}-real", "real voice", item.recording, item.name, item.text])


def voice_reader_of(sayer: Sayer) -> VoiceReader | None:
    """The speaker model of a synthesiser's voices, or the one that ships; None if there is none."""
    given = sayer.settings.embedder or sayer.synthesizer.config.voice_model or None
    if given is None and DEFAULT_EMBEDDER not in {model.address for model in list_shipped()}:
        return None
    return VoiceReader(given, device=sayer.settings.device, offline=sayer.settings.offline)
