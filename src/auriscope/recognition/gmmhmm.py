"""Isolated words by hidden Markov models: the recogniser of the 1990s.

One left-to-right model per word, whose states speak in mixtures of Gaussians with diagonal covariances; a word is the
one whose model makes the recording likeliest. Nothing is trained by gradients: the models are fitted by expectation and
maximisation (Baum and Welch), from words cut into as many equal parts as there are states.

L. Rabiner, "A tutorial on hidden Markov models and selected applications in speech recognition", Proc. IEEE 77(2),
1989, section VI; S. Young et al., The HTK Book, 2006: cepstra with deltas (section 5), splitting of mixtures (10.6);
L. Lee and R. Rose, "A frequency warping approach to speaker normalization", IEEE TSAP 6(1), 1998: the warps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from auriscope.errors import AuriscopeError
from auriscope.recognition.decoding.hypothesis import Hypothesis
from auriscope.recognition.hmm import (
    GaussianHMMs,
    Statistics,
    expectations,
    forward_variables,
    reestimated,
    split,
    viterbi,
)
from auriscope.recognition.pauses import PauseConfig, PauseFinder
from auriscope.recognition.recognizer import Encoded, Recognizer
from auriscope.recognition.words import Word
from auriscope.signal.features import FeatureConfig, Features
from auriscope.signal.levels import is_silent
from auriscope.text.tokenizer import Tokenizer

DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
_PAUSES = PauseConfig(min_seconds=0.2)
_MARGIN_SECONDS = 0.05
_MIN_WORD_SECONDS = 0.08
_CHUNK = 256
"""Utterances that are worked on at once."""


@dataclass(frozen=True)
class GMMHMMConfig:
    """The configuration of the recogniser of isolated words; the defaults are for the ten digits.

    Each word has ``num_states`` states with ``num_mixtures`` Gaussians each. Features are ``num_cepstra`` cepstra of
    ``num_mels`` HTK mels from ``min_hz`` to ``max_hz``, a frame for every ``hop_length`` samples, and two derivatives
    over ``delta_width`` frames, each at zero mean and unit variance over the recording.

    ``fit_warps`` stretch the frequencies of what is fitted, as longer and shorter vocal tracts would; each makes
    another copy of the utterances. ``warps`` stretch those of what is recognised, and the likeliest counts.

    ``iterations`` re-estimate the models before each splitting of the mixtures, ``final_iterations`` after the last.
    No variance falls below ``variance_floor`` times that of all frames. ``score_scale`` multiplies log-likelihoods
    before they become probabilities: neighbouring frames say the same again, which the model does not know.
    """

    sample_rate: int = 16_000
    words: tuple[str, ...] = DIGITS
    num_states: int = 8
    num_mixtures: int = 8
    num_mels: int = 24
    num_cepstra: int = 13
    min_hz: float = 60.0
    max_hz: float = 3800.0
    window_length: int = 400
    hop_length: int = 160
    delta_width: int = 5
    fit_warps: tuple[float, ...] = (0.88, 1.0, 1.12)
    warps: tuple[float, ...] = (1.0,)
    iterations: int = 2
    final_iterations: int = 4
    variance_floor: float = 0.4
    score_scale: float = 0.1

    def __post_init__(self) -> None:
        if len(set(self.words)) != len(self.words) or not self.words:
            raise ValueError("words must be at least one, and no word twice")
        if min(self.num_states, self.num_mixtures, self.iterations, self.final_iterations) < 1:
            raise ValueError("num_states, num_mixtures, iterations and final_iterations must be at least 1")
        if not self.fit_warps or not self.warps or min(*self.fit_warps, *self.warps) <= 0:
            raise ValueError("fit_warps and warps must be factors above 0, at least one each")


class FeatureBatch(NamedTuple):
    """Features (batch, frames, dim) of utterances, their frame lengths (batch,) and the numbers of their words."""

    features: Tensor
    frame_lengths: Tensor
    labels: Tensor


class GMMHMM(Recognizer, name="recognition/gmm-hmm"):
    """Waveforms (batch, time) to the log-likelihoods (batch, words) of each word.

    It is a recogniser without tokens: decoding it is :meth:`transcribe`.
    """

    Config = GMMHMMConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "words": ("HIGH", "LOW"),
        "num_states": 3,
        "num_mixtures": 2,
        "max_hz": 8000.0,
        "fit_warps": (1.0,),
        "iterations": 1,
        "final_iterations": 1,
    }
    fitted: ClassVar[bool] = True
    decodes_itself: ClassVar[bool] = True

    log_weights: Tensor
    means: Tensor
    variances: Tensor
    log_start: Tensor
    log_transitions: Tensor
    log_end: Tensor

    def __init__(self, config: GMMHMMConfig) -> None:
        super().__init__(config)
        features = FeatureConfig(
            sample_rate=config.sample_rate,
            window="hamming",
            window_length=config.window_length,
            hop_length=config.hop_length,
            fft_length=1 << (config.window_length - 1).bit_length(),
            preemphasis=0.97,
            filters="htk",
            num_mels=config.num_mels,
            min_hz=config.min_hz,
            max_hz=config.max_hz,
            floor=1e-8,
            num_cepstra=config.num_cepstra,
            num_deltas=2,
            delta_width=config.delta_width,
            delta_edges="replicate",
            normalization="mean_variance",
        )
        # To hear all frequencies a factor higher is to believe in a lower sample rate.
        self._warps = sorted({*config.warps, *config.fit_warps})
        self.fronts = nn.ModuleList(
            Features(replace(features, sample_rate=round(config.sample_rate / warp))) for warp in self._warps
        )
        dim = 3 * config.num_cepstra
        shape = len(config.words), config.num_states
        self.register_buffer("log_weights", torch.zeros(*shape, config.num_mixtures))
        self.register_buffer("means", torch.zeros(*shape, config.num_mixtures, dim))
        self.register_buffer("variances", torch.zeros(*shape, config.num_mixtures, dim))
        self.register_buffer("log_start", torch.zeros(shape))
        self.register_buffer("log_transitions", torch.zeros(*shape, config.num_states))
        self.register_buffer("log_end", torch.zeros(shape))

    @property
    def tokenizer(self) -> Tokenizer:
        """There is none, as it knows whole words alone: ``AuriscopeError``."""
        raise AuriscopeError(f"{self.name} has no tokens: it hears one word at a time, of {len(self.config.words)}")

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cepstra and derivatives (batch, frames, dim), under the first of the warps, and frame lengths (batch,)."""
        lengths = _checked(waveform, lengths)
        rows = torch.arange(len(waveform), device=waveform.device)
        return self._features(waveform, lengths, rows, self.config.warps[0])

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Nothing encodes them: the states are the features."""
        return Encoded(features, frame_lengths, self.config.hop_length / self.config.sample_rate)

    @property
    def models(self) -> GaussianHMMs:
        """The words' models; ``AuriscopeError`` before :meth:`fit`."""
        if not self.variances.any():
            raise AuriscopeError(f"{self.name} has not been fitted: call fit, or load a fitted model")
        return GaussianHMMs(
            self.log_weights, self.means, self.variances, self.log_start, self.log_transitions, self.log_end
        )

    @torch.no_grad()
    def batches(self, waveform: Tensor, lengths: Tensor | None, labels: Tensor) -> list[FeatureBatch]:
        """Make the features that :meth:`fit_features` takes, warped in all ways: utterances of like length together.

        Shapes: ``waveform`` (batch, time), ``lengths`` (batch,), ``labels`` (batch,), the numbers of the words.
        """
        lengths = _checked(waveform, lengths)
        return [
            FeatureBatch(*self._features(waveform, lengths, rows, warp), labels[rows])
            for rows in _by_length(lengths)
            for warp in self.config.fit_warps
        ]

    def fit(self, waveform: Tensor, lengths: Tensor | None, labels: Tensor) -> Self:
        """Fit the models to utterances of a word each, and return the recogniser.

        Args:
            waveform: (batch, time) in [-1, 1].
            lengths: (batch,) int64, valid samples.
            labels: (batch,) int64, number of the word in ``config.words``.

        Raises:
            AuriscopeError: for NaN or infinity, and if a word has no utterance that is as many frames long as it has
                states.
        """
        return self.fit_features(self.batches(waveform, lengths, labels))

    @torch.no_grad()
    def fit_features(self, batches: Sequence[FeatureBatch]) -> Self:
        """Fit the models to features, as :meth:`fit` does: for those who fit several times to the same utterances."""
        config = self.config
        number = len(config.words)
        long_enough = [self._long_enough(batch) for batch in batches]
        batches = [batch for batch in long_enough if len(batch.labels)]
        labels = torch.cat([batch.labels for batch in batches]) if batches else torch.empty(0, dtype=torch.int64)
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < number:
            raise AuriscopeError(f"labels must be numbers of the {number} words, from 0 to {number - 1}")
        missing = [word for label, word in enumerate(config.words) if label not in labels]
        if missing:
            raise AuriscopeError(
                f"there is nothing to fit {missing[0]!r} to: each word needs an utterance of at least "
                f"{config.num_states} frames"
            )
        models, floor = self._beginning(batches)
        while True:
            finished = models.means.shape[-2] == config.num_mixtures
            for _ in range(config.final_iterations if finished else config.iterations):
                found = _total(
                    expectations(batch.features, batch.frame_lengths, models.select(batch.labels)).per_model(
                        batch.labels, number
                    )
                    for batch in batches
                )
                models = reestimated(models, found, floor=floor)
            if finished:
                break
            models = split(models, config.num_mixtures)
        for name in ("log_weights", "means", "variances"):
            getattr(self, name).copy_(getattr(models, name))
        for name in ("start", "transitions", "end"):
            getattr(self, f"log_{name}").copy_(getattr(models, name))
        return self

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Log-likelihoods (batch, words) of waveforms (batch, time), under the likeliest of the warps."""
        models = self.models
        lengths = _checked(waveform, lengths)
        scores = waveform.new_empty(len(waveform), len(self.config.words))
        for rows in _by_length(lengths):
            each = [self._scores(models, *self._features(waveform, lengths, rows, warp)) for warp in self.config.warps]
            scores[rows] = torch.stack(each).amax(0).to(scores)
        return scores

    @torch.no_grad()
    def classify(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Say which word each waveform (batch, time) is, (batch,), and how probable all words are, (batch, words)."""
        scores = self(waveform, lengths)
        return scores.argmax(-1), (self.config.score_scale * scores).softmax(-1)

    @torch.no_grad()
    def align(self, waveform: Tensor, lengths: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Find by Viterbi which state of its word each frame is in: (batch, frames) int64, and frame lengths (batch,).

        Behind an utterance's end its last state is repeated; a frame lasts ``hop_length`` samples.
        """
        own = self.models.select(labels)
        features, frame_lengths = self.features(waveform, lengths)
        emissions = own.component_log_densities(features).logsumexp(-1).double()
        end = self._ends(own.end, frame_lengths[:, None])
        states, _ = viterbi(emissions, own.start.double(), own.transitions.double(), end, frame_lengths)
        return states, frame_lengths

    def transcribe(self, waveform: Tensor, lengths: Tensor | None = None) -> list[Hypothesis]:
        """Transcribe recordings (batch, time) of words with pauses between them.

        What lies between pauses of at least 0.2 s is a word each, with a margin of 50 ms; where it begins and ends is
        its time, and its probability its confidence. A recording without pauses is one word, silence none.
        """
        lengths = _checked(waveform, lengths)
        found = [self._stretches(each[:length]) for each, length in zip(waveform, lengths.tolist(), strict=True)]
        pieces = [each[begin:end] for each, spans in zip(waveform, found, strict=True) for begin, end in spans]
        heard: Iterator[tuple[int, float, float]] = iter(())
        if pieces:
            padded = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
            scores = self(padded, torch.tensor([len(piece) for piece in pieces]))
            sure = (self.config.score_scale * scores).softmax(-1).amax(-1)
            heard = zip(scores.argmax(-1).tolist(), sure.tolist(), scores.amax(-1).tolist(), strict=True)
        return [self._hypothesis(spans, [next(heard) for _ in spans]) for spans in found]

    def _features(self, waveform: Tensor, lengths: Tensor, rows: Tensor, warp: float) -> tuple[Tensor, Tensor]:
        """Features (n, frames, dim) and frame lengths (n,) of the utterances that ``rows`` (n,) names."""
        front = self.fronts[self._warps.index(warp)]
        longest = int(lengths[rows].max()) if len(rows) else 0
        features, frame_lengths = front(waveform[rows, :longest], lengths[rows])
        return features, frame_lengths

    def _hypothesis(self, spans: list[tuple[int, int]], heard: list[tuple[int, float, float]]) -> Hypothesis:
        rate = self.config.sample_rate
        words = tuple(
            Word(self.config.words[label], begin / rate, end / rate, sure)
            for (begin, end), (label, sure, _) in zip(spans, heard, strict=True)
        )
        score = sum(score for _, _, score in heard)
        return Hypothesis(
            " ".join(word.word for word in words), tuple(label for label, _, _ in heard), score, words=words
        )

    def _stretches(self, waveform: Tensor) -> list[tuple[int, int]]:
        """Where words are, in samples."""
        rate = self.config.sample_rate
        samples = waveform.detach().float().cpu().numpy()
        if is_silent(samples):
            return []
        finder = PauseFinder(rate, _PAUSES)
        finder.update(samples)
        margin, shortest = round(_MARGIN_SECONDS * rate), round(_MIN_WORD_SECONDS * rate)
        edges = [0, *(round(edge * rate) for pause in finder.pauses() for edge in pause), len(waveform)]
        spans = [(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if end > begin]
        spans = [(begin, end) for begin, end in spans if end - begin >= shortest] or spans[:1]
        return [(max(0, begin - margin), min(len(waveform), end + margin)) for begin, end in spans]

    def _long_enough(self, batch: FeatureBatch) -> FeatureBatch:
        kept = batch.frame_lengths >= self.config.num_states
        return batch if bool(kept.all()) else FeatureBatch(*(part[kept] for part in batch))

    def _beginning(self, batches: Sequence[FeatureBatch]) -> tuple[GaussianHMMs, Tensor]:
        """Cut every utterance into equal parts, a Gaussian for each; and the least variance (dim,)."""
        config = self.config
        words, states = len(config.words), config.num_states
        parts = []
        for features, frame_lengths, labels in batches:
            moments = torch.arange(features.shape[1], device=features.device)
            state = (moments * states).div(frame_lengths[:, None], rounding_mode="floor")
            # Padding lies behind the last state.
            inside = torch.nn.functional.one_hot(state.clamp_max(states), states + 1)[..., :states].to(features)
            once = features.new_zeros(len(labels), states)
            parts.append(
                Statistics(
                    occupancies=inside.sum(1)[..., None],
                    sums=(inside.mT @ features)[:, :, None],
                    squares=(inside.mT @ features.square())[:, :, None],
                    starts=once,
                    ends=once,
                    transitions=features.new_zeros(len(labels), states, states),
                    likelihood=features.new_zeros(len(labels)),
                ).per_model(labels, words)
            )
        found = _total(parts)
        frames = found.occupancies.sum()
        mean = found.sums.sum((0, 1, 2)) / frames
        spread = found.squares.sum((0, 1, 2)) / frames - mean.square()
        floor = (config.variance_floor * spread).clamp_min(1e-6)
        start, transitions, end = self._left_to_right(found)
        dim = found.sums.shape[-1]
        blank = GaussianHMMs(
            log_weights=found.occupancies.new_zeros(words, states, 1),
            means=mean.expand(words, states, 1, dim),
            variances=spread.clamp_min(1e-6).expand(words, states, 1, dim),
            start=start,
            transitions=transitions,
            end=end,
        )
        estimated = reestimated(blank, found, floor=floor, stops=False)
        return replace(estimated, start=start, transitions=transitions), floor

    def _left_to_right(self, found: Statistics) -> tuple[Tensor, Tensor, Tensor]:
        """Every state is followed by itself or the next, at even odds to begin with, and the last by the end."""
        words, states = found.starts.shape
        even = math.log(0.5)
        start = found.sums.new_full((words, states), -torch.inf)
        start[:, 0] = 0.0
        transitions = found.sums.new_full((words, states, states), -torch.inf)
        transitions.diagonal(dim1=1, dim2=2).fill_(even)
        transitions.diagonal(1, dim1=1, dim2=2).fill_(even)
        end = found.sums.new_full((words, states), -torch.inf)
        end[:, -1] = even
        return start, transitions, end

    def _scores(self, models: GaussianHMMs, features: Tensor, frame_lengths: Tensor) -> Tensor:
        emissions = models.emissions_of_all(features).double()
        end = self._ends(models.end, frame_lengths[:, None, None])
        return forward_variables(
            emissions, models.start.double(), models.transitions.double(), end, frame_lengths[:, None]
        )[1]

    def _ends(self, end: Tensor, frame_lengths: Tensor) -> Tensor:
        """What has fewer frames than states may stop anywhere, or no word could make it."""
        return torch.where(frame_lengths < self.config.num_states, 0.0, end.double())


def _by_length(lengths: Tensor) -> Iterator[Tensor]:
    """Utterances to be worked on at once, by number, those of like length together."""
    order = lengths.argsort(stable=True)
    return (order[begin : begin + _CHUNK] for begin in range(0, len(order), _CHUNK))


def _total(parts: Iterable[Statistics]) -> Statistics:
    remaining = iter(parts)
    total = next(remaining)
    for part in remaining:
        total = total + part
    return total


def _checked(waveform: Tensor, lengths: Tensor | None) -> Tensor:
    """Give the lengths (batch,) of waveforms (batch, time), all of whose valid samples must be finite."""
    if lengths is None:
        lengths = torch.full((len(waveform),), waveform.shape[1], device=waveform.device)
    valid = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
    if not bool((waveform.isfinite() | ~valid).all()):
        raise AuriscopeError("the waveform holds NaN or infinity")
    return lengths
