"""The figures of evaluate: exact for known models, on the real sets and on stand-ins for them."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
import torch

from auriscope.data.items import EvaluationItem, EvaluationSet
from auriscope.data.synthetic import voice
from auriscope.errors import AuriscopeError
from auriscope.metrics import pesq, stoi
from auriscope.quality import REASONS
from auriscope.quality.calibration import Prediction
from auriscope.verbs import evaluate as module
from auriscope.verbs.evaluate import evaluate

RATE = 8000


class Leaky:
    """Separates low from high, and lets a tenth of the other through."""

    name = "separation/leaky"
    instead = ""
    config = types.SimpleNamespace(sample_rate=RATE, num_sources=2)

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        spectrum, size = torch.fft.rfft(mixture), mixture.shape[-1]
        low = torch.fft.rfftfreq(size, 1 / RATE) < 1000
        bands = torch.stack([torch.fft.irfft(spectrum * ~low, size), torch.fft.irfft(spectrum * low, size)], dim=1)
        return bands + 0.1 * bands.flip(1)


class Judge:
    """Knows the true SI-SNR but for a constant error of 2 dB."""

    name = "quality/judge"
    config = types.SimpleNamespace(sample_rate=RATE, window_seconds=4.0, minimum_db=-10.0, maximum_db=40.0)

    def parameters(self) -> Any:
        return iter([torch.zeros(1)])

    def predict(self, mixture: torch.Tensor, estimates: torch.Tensor) -> Prediction:
        power = torch.fft.rfft(estimates).abs().square()
        low = torch.fft.rfftfreq(estimates.shape[-1], 1 / RATE) < 1000
        parts = torch.stack([(power * low).sum(-1), (power * ~low).sum(-1)])
        score = 10 * torch.log10(parts.amax(0) / parts.amin(0)) + 2.0
        return Prediction(score, torch.ones_like(score), torch.zeros(*score.shape, len(REASONS), dtype=torch.bool))


class Alternating:
    """Counts talkers: right at first and wrong at every fourth mixture, as metrics of its own say."""

    name, instead = "separation/alternating", "counts talkers"
    selection_metric, higher_is_better = "count_accuracy", True
    config = types.SimpleNamespace(sample_rate=RATE)

    def __init__(self) -> None:
        self.calls = 0

    def evaluate(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        assert batch["sources"].shape[:2] == (1, 2)
        self.calls += 1
        return {"count_accuracy": torch.tensor([float(self.calls % 4 > 0)])}


class Items(EvaluationSet):
    """Mixtures of a low and a high voice at levels that differ from mixture to mixture."""

    name, split = "stand-in", "test"

    def __init__(self, num_talkers: int = 2) -> None:
        rng = np.random.default_rng(0)
        self.items = []
        for index in range(8):
            spectrum = np.fft.rfft(rng.standard_normal(2 * RATE))
            low = np.fft.rfftfreq(2 * RATE, 1 / RATE) < 1000
            voices = np.stack([np.fft.irfft(spectrum * low), (0.3 + 0.2 * index) * np.fft.irfft(spectrum * ~low)])
            sources = torch.from_numpy(0.1 * voices[np.arange(num_talkers) % 2]).float()
            self.items.append(
                EvaluationItem(
                    str(index), sources.sum(0), sources, sources[0] * 0, RATE, ("a", "b"), ("", ""), None, None
                )
            )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> EvaluationItem:
        return self.items[index]


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    other = types.SimpleNamespace(name="elsewhere/other")
    models = {"leaky": Leaky(), "judge": Judge(), "other": other, "alternating": Alternating()}
    monkeypatch.setattr(module, "load", lambda address, offline=None: models[address])
    sets = {"two": Items(), "three": Items(3)}
    monkeypatch.setattr(module, "evaluation_set", lambda name, split, sample_rate: sets[name])


@pytest.mark.usefixtures("stand_ins")
def test_a_known_separator_gets_its_known_figures() -> None:
    seen: list[float] = []
    result = evaluate("leaky", "two", on_progress=seen.append)
    assert result.num_mixtures == 8
    # A tenth of the other voice's amplitude is 20 dB; the two level differences of a mixture cancel in the mean.
    figure = result.figures["si_snr_db"]
    assert figure.value == pytest.approx(20.0, abs=0.3)
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low <= figure.value <= figure.high
    assert result.figures["si_snri_db"].value == pytest.approx(20.0, abs=0.3)
    assert result.figures["sdri_db"].value is not None
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050])
def test_an_enhancer_gets_what_listeners_would_say(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes half of the amplitude of the noise away, which it knows by heart."""
    clean = torch.from_numpy(voice(3, 1, seconds=2.0, sample_rate=rate)).float()[None]
    noise = 0.02 * torch.randn(2 * rate, generator=torch.Generator().manual_seed(0))
    item = EvaluationItem("one", clean[0] + noise, clean, noise, rate, ("a",), ("",), None, 0.0)

    class Half:
        name = "separation/half"
        config = types.SimpleNamespace(sample_rate=rate, num_sources=1)

        def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
            scale = (mixture[0] @ item.mixture) / (item.mixture @ item.mixture)
            return (mixture - 0.5 * scale * noise)[:, None]

    class One(Items):
        def __init__(self) -> None:
            self.items = [item, item]

    monkeypatch.setattr(module, "load", lambda address, offline=None: Half())
    monkeypatch.setattr(module, "evaluation_set", lambda name, split, sample_rate: One())
    figures = evaluate("half", "one").figures
    assert figures["si_snri_db"].value == pytest.approx(20 * np.log10(2), abs=0.1)
    names = {"pesq_nb" if rate == 8_000 else "pesq_wb", "stoi", "estoi"}
    assert set(figures) == {"si_snr_db", "si_snri_db", "sdri_db"} | names | {f"{name}_gain" for name in names}
    for name in names:
        gain = figures[f"{name}_gain"].value
        assert gain is not None
        assert gain > 0
    enhanced = clean + 0.5 * noise
    if rate == 16_000:
        assert figures["pesq_wb"].value == pytest.approx(
            float(pesq(enhanced, clean, sample_rate=rate).values), abs=0.02
        )
    assert figures["stoi"].value == pytest.approx(float(stoi(enhanced, clean, sample_rate=rate).values), abs=0.02)


@pytest.mark.usefixtures("stand_ins")
def test_a_known_judge_gets_its_known_figures() -> None:
    figures = evaluate("judge", "two", separators=["leaky", "leaky"]).figures
    assert figures["pearson"].value == pytest.approx(1.0, abs=0.01)
    assert figures["spearman"].value == pytest.approx(1.0, abs=0.01)
    assert figures["mean_error_db"].value == pytest.approx(2.0, abs=0.1)
    assert figures["mean_absolute_error_db"].value == pytest.approx(2.0, abs=0.1)
    for figure in figures.values():
        assert figure.low is not None
        assert figure.low <= figure.value <= figure.high


@pytest.mark.usefixtures("stand_ins")
def test_a_count_head_gets_its_share_of_right_answers() -> None:
    result = evaluate("alternating", "two")
    assert set(result.figures) == {"count_accuracy"}
    assert result.figures["count_accuracy"].value == pytest.approx(0.75)


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("leaky", "three"), {}, "3 talkers"),
        (("other", "two"), {}, "separation, quality"),
        (("judge", "two"), {}, "--separator"),
        (("leaky", "two"), {"separators": ["leaky"]}, "quality models only"),
        (("judge", "two"), {"separators": ["alternating"]}, "alternating counts talkers and does not separate"),
    ],
)
def test_what_does_not_fit_is_said(arguments: tuple[str, str], options: dict[str, Any], words: str) -> None:
    with pytest.raises(AuriscopeError, match=words):
        evaluate(*arguments, **options)
