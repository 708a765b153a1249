"""Figures of synthesisers: sentences that people said are spoken again, and a recogniser hears both."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from auriscope.data.sentences import SentenceSet
from auriscope.metrics.accumulate import Summary, summarize, summarize_ratio
from auriscope.signal.files import write
from auriscope.synthesis.speaking import SpeakConfig
from auriscope.synthesis.synthesizer import Synthesizer
from auriscope.verbs.sayer import Sayer, SayerSettings
from auriscope.verbs.speech_report.measure import Prompt, measured_speech
from auriscope.verbs.speech_report.results import SpeechReport
from auriscope.verbs.transcriber import Transcriber, TranscriberSettings
from auriscope.verbs.voice import VoiceReader

Interval = tuple[float | None, float | None, float | None]


def synthesis_figures(
    model: Synthesizer,
    sentences: SentenceSet,
    on_progress: Callable[[float], None],
    *,
    transcriber: Transcriber | None = None,
    offline: bool | None = None,
) -> dict[str, Interval]:
    """Speak sentences with the default vocoder; a model of voices in those of the people who said them.

    Each is said once, and one that failed once more in parts, which replace it if they are in order.

    ``attention_ok_percent`` is the share that was read once from its beginning to its end at the first try.
    ``character_error_percent`` is the error of a recogniser on the speech, failed speech too,
    ``character_error_percent_real`` that on the recordings of the same sentences, and ``character_error_gap`` what
    is between the two, in points: what is the voice's fault, and not the recogniser's.

    Of a model of voices, a sentence is spoken in the voice of another clip of the person, or of the recording itself
    where there is no other. ``voice_similarity`` is the mean score, -1 to 1, of the speech with that clip by the
    speaker model that ships, and ``voice_similarity_real`` that of the recordings, where the clip is another one.

    All have 95 % intervals, sentences resampled. ``transcriber`` takes the place of the shipped recogniser, which is
    decoded as ``transcribe`` does. Raises ``AuriscopeError`` where a model does not load or fit.
    """
    transcriber = transcriber or Transcriber(TranscriberSettings(offline=offline))
    voices = VoiceReader(offline=offline) if model.config.voice_dim else None
    with tempfile.TemporaryDirectory(prefix="auriscope-") as aside:
        prompts = list(_prompts(sentences, Path(aside), voices=voices is not None))
        config = SpeakConfig(max_tries=1, keep_failed=True)
        sayer = Sayer(SayerSettings(model, voice=prompts[0].voice, config=config, offline=offline))
        report, _ = measured_speech(
            prompts,
            Path(aside),
            sayer=sayer,
            transcriber=transcriber,
            voices=voices,
            on_progress=lambda _, done: on_progress(done),
        )
    on_progress(1.0)
    return _figures(report)


def _prompts(sentences: SentenceSet, folder: Path, *, voices: bool) -> Iterable[Prompt]:
    """Write the recordings and, for a model of ``voices``, the clips of the voices."""
    for number, sentence in enumerate(sentences):
        recording = folder / f"recording-{number}.wav"
        write(recording, sentence.recording, sentences.sample_rate)
        voice = None
        if voices:
            voice = recording if sentence.voice is None else folder / f"voice-{number}.wav"
            if sentence.voice is not None:
                write(voice, sentence.voice, sentences.sample_rate)
        # Texts in capitals alone, as some corpora have them, are no initials.
        yield Prompt(sentence.text.lower() if sentence.text.isupper() else sentence.text, recording, voice)


def _figures(report: SpeechReport) -> dict[str, Interval]:
    figures = {"attention_ok_percent": _ends(summarize([100.0 * item.first_try for item in report.items]))}
    made, real = report.character_errors, report.recording_character_errors
    assert made is not None
    assert real is not None
    figures["character_error_percent"] = _ends(made.interval(), 100.0)
    figures["character_error_percent_real"] = _ends(real.interval(), 100.0)
    # The two are of the same sentences, which are resampled together.
    apart = made.per_utterance[:, :3].sum(axis=1) - real.per_utterance[:, :3].sum(axis=1)
    figures["character_error_gap"] = _ends(summarize_ratio(apart, made.per_utterance[:, 3]), 100.0)
    for name, scores in (
        ("voice_similarity", [item.similarity for item in report.items]),
        ("voice_similarity_real", [item.recording_similarity for item in report.items]),
    ):
        if there := [score for score in scores if score is not None]:
            figures[name] = _ends(summarize(there))
    return figures


def _ends(summary: Summary, scale: float = 1.0) -> Interval:
    mean, low, high = (None if value is None else scale * value for value in (summary.mean, summary.low, summary.high))
    return mean, low, high
