"""Sentences to speech, one after the other, none of which is handed out if its attention failed.

A synthesiser that drops units while it speaks says a sentence differently each time, so that one which failed is said
again, then in two halves; if that fails too, there is an error and no speech. Memory does not depend on how many
sentences there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.signal.vocoding import check_same_mel
from auriscope.synthesis.attention import attention_report
from auriscope.synthesis.bands import BandMatcher, BandStatistics
from auriscope.synthesis.synthesizer import Generated, Synthesizer
from auriscope.synthesis.vocoder import Vocoder
from auriscope.text.phonemes import phonemes
from auriscope.text.spoken import sentences as cut_sentences
from auriscope.text.tokenizer import WORD_START

FloatArray = NDArray[np.float32]
_SHORTEST_TO_CUT = 12
"""Characters from which it helps to say a sentence in two halves."""
_PEAK = 0.99


@dataclass(frozen=True)
class SpeakConfig:
    """How sentences are spoken.

    Args:
        seed: of what is random; the same text, seed and batch size give the same speech.
        batch_size: sentences that are synthesised together, which is faster, but the first one comes later.
        max_tries: how often a sentence is said before it is cut.
        keep_failed: hand out the best try of what failed, instead of an error.
        match_bands: give every band of the speech the mean and the spread that it has in the clip of the voice
            (:mod:`auriscope.synthesis.bands`), where there is a clip.
    """

    seed: int = 0
    batch_size: int = 1
    max_tries: int = 4
    keep_failed: bool = False
    match_bands: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.max_tries < 1 or self.seed < 0:
            raise ValueError("batch_size and max_tries must be at least 1, and seed not negative")


@dataclass(frozen=True)
class SpokenSentence:
    """A sentence, or a part of one, that was spoken.

    ``waveform`` (time,) float32 in [-1, 1]; ``attention`` (frames, tokens). ``repeated`` and ``skipped`` are tokens
    (:class:`~auriscope.synthesis.attention.AttentionReport`), ``stopped`` says that it ended by itself, ``ok`` that all
    of it was read once from its beginning to its end; ``num_tries`` is how often it was said.
    """

    text: str
    waveform: FloatArray
    attention: Tensor
    repeated: int
    skipped: int
    stopped: bool
    ok: bool
    num_tries: int = 1

    @property
    def num_wrong(self) -> int:
        """Tokens that were left out or said twice."""
        return self.repeated + self.skipped

    @property
    def failure(self) -> str:
        """What is wrong with it, in a few words."""
        found = [f"{self.repeated} letters gone back"] if self.repeated else []
        found += [f"{self.skipped} letters left out"] if self.skipped else []
        return ", ".join(found if self.stopped else [*found, "no end found"])


def alphabet(synthesizer: Synthesizer) -> frozenset[str] | None:
    """The characters that a synthesiser knows; None where it reads phonemes, which are made of any text."""
    config = synthesizer.config
    if config.spelling == "phonemes":
        return None
    tokenizer = synthesizer.tokenizer
    tokens = [token for number, token in enumerate(tokenizer.tokens) if number not in tokenizer.special_ids]
    if config.token_kind == "characters":
        return frozenset(token for token in tokens if len(token) == 1)
    return frozenset("".join(tokens).replace(WORD_START, " ")) | {" "}


def speak(
    sentences: Sequence[str],
    synthesizer: Synthesizer,
    vocoder: Vocoder,
    *,
    voice: Tensor | None = None,
    bands: BandStatistics | None = None,
    config: SpeakConfig | None = None,
) -> Iterator[SpokenSentence]:
    """Speak sentences in the letters of the synthesiser (:func:`alphabet`), each as soon as it is made.

    Args:
        sentences: as :func:`~auriscope.text.spoken.spoken` gives them.
        synthesizer: what writes the mels.
        vocoder: what reads them; of the same mels.
        voice: (voice_dim,), the embedding of a speaker, for a synthesiser with several voices.
        bands: of the voice, which the speech gets; None: as the synthesiser makes it.
        config: seed, tries, sentences at once, whether bands are matched.

    Raises:
        AuriscopeError: the vocoder reads other mels, the voice is missing or of another size, or a sentence failed.
    """
    check_same_mel(synthesizer.config.mel, vocoder.config.mel)
    check_voice(synthesizer, voice)
    config = config or SpeakConfig()
    matcher = BandMatcher(bands) if bands is not None and config.match_bands else None
    speaker = _Speaker(synthesizer, vocoder, voice, matcher, config)
    size = speaker.config.batch_size
    for first in range(0, len(sentences), size):
        batch = sentences[first : first + size]
        for row, said in enumerate(speaker.say(batch, first, 0)):
            if said.ok:
                yield said
            else:
                yield from speaker.say_again(said, first + row)


def check_voice(synthesizer: Synthesizer, voice: Tensor | None) -> None:
    """Raise ``AuriscopeError`` if a voice is missing, is not wanted, or is of another size."""
    size = synthesizer.config.voice_dim
    if voice is None and size:
        raise AuriscopeError("this model speaks in the voice of a clip; give one (--voice CLIP)")
    if voice is not None and not size:
        raise AuriscopeError("this model has one voice of its own; leave out --voice, or take a model with voices")
    if voice is not None and voice.shape != (size,):
        raise AuriscopeError(
            f"the voice has {voice.numel()} numbers and the model reads {size}; take its speaker model"
        )


@dataclass(frozen=True)
class _Speaker:
    """What :func:`speak` speaks with."""

    synthesizer: Synthesizer
    vocoder: Vocoder
    voice: Tensor | None
    matcher: BandMatcher | None
    config: SpeakConfig

    def say(self, batch: Sequence[str], index: int, attempt: int) -> Iterator[SpokenSentence]:
        """Say sentences at once; the randomness depends on the seed, the first one's place and the attempt."""
        number = int(np.random.SeedSequence([self.config.seed, index, attempt]).generate_state(1)[0])
        tokens, token_lengths = self.synthesizer.batch_texts(map(self._spelled, batch))
        voices = None if self.voice is None else self.voice.to(tokens.device).expand(len(batch), -1)
        generator = torch.Generator().manual_seed(number)
        generated = self.synthesizer.generate(tokens, token_lengths, voices, generator=generator)
        for row, sentence in enumerate(batch):
            yield self._said(sentence, row, generated, int(token_lengths[row]))

    def say_again(self, failed: SpokenSentence, index: int) -> Iterator[SpokenSentence]:
        """Say a sentence that failed once more, and once more, then in parts; raise ``AuriscopeError`` in the end."""
        best = self._best(failed.text, index, 1, failed)
        text, tries = failed.text, self.config.max_tries
        if not best.ok and len(text) >= _SHORTEST_TO_CUT and " " in text:
            parts = [self._best(part, index, tries) for part in cut_sentences(text, len(text) * 6 // 10)]
            if all(part.ok for part in parts):
                yield from parts
                return
        if not best.ok and not self.config.keep_failed:
            raise AuriscopeError(
                f"the speech failed at {text!r} ({best.failure}, in {tries} tries); try another --seed or other words"
            )
        yield best

    def _best(self, text: str, index: int, first: int, best: SpokenSentence | None = None) -> SpokenSentence:
        """Say a text until it is right, from the attempt ``first`` on; otherwise give the best try."""
        tries = self.config.max_tries - (0 if best is None else 1)
        for attempt in range(first, first + tries):
            (said,) = self.say([text], index, attempt)
            said = replace(said, num_tries=attempt + 1)
            if said.ok:
                return said
            best = said if best is None else min(best, said, key=lambda each: (not each.stopped, each.num_wrong))
        assert best is not None
        return replace(best, num_tries=first + tries)

    def _spelled(self, sentence: str) -> str:
        if self.synthesizer.config.spelling != "phonemes":
            return sentence
        known = frozenset("".join(self.synthesizer.config.tokens))
        return "".join(sign for sign in phonemes(sentence) if sign in known)

    def _said(self, sentence: str, row: int, generated: Generated, num_tokens: int) -> SpokenSentence:
        """One of the sentences of a batch, with its sound and what its attention tells."""
        frames = int(generated.frame_lengths[row])
        attention = generated.attention[row, :frames, :num_tokens].cpu()
        report = attention_report(attention[None])
        stopped = bool(generated.stopped[row])
        mel = generated.mel[row, :frames]
        if self.matcher is not None:
            mel = self.matcher(mel)
        with torch.no_grad():
            waveform = self.vocoder(mel[None])[0].cpu().float().numpy()
        peak = float(np.abs(waveform).max(initial=0.0))
        return SpokenSentence(
            sentence,
            waveform if peak <= _PEAK else waveform * np.float32(_PEAK / peak),
            attention,
            int(report.repeated[0]),
            int(report.skipped[0]),
            stopped,
            bool(report.ok[0]) and stopped,
        )
