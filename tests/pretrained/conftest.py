from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from auriscope.pretrained import Model, ModelCard
from auriscope.pretrained import model as model_module


@dataclass(frozen=True)
class ScaleConfig:
    sample_rate: int = 8000
    num_sources: int = 2
    gain: float = 1.5
    sizes: tuple[int, ...] = (3, 4)
    kind: str = "plain"
    tied: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("plain", "other"):
            raise ValueError(f"kind is {self.kind!r}; it must be plain or other")


@pytest.fixture
def scale_class(monkeypatch: pytest.MonkeyPatch) -> type[Model]:
    """A small model with parameters, buffers of two types and, on request, a tied weight; registered for one test."""
    monkeypatch.setattr(model_module, "_REGISTRY", dict(model_module._REGISTRY))

    class Scale(Model, name="separation/scale"):
        Config = ScaleConfig

        def __init__(self, config: ScaleConfig) -> None:
            super().__init__(config)
            self.first = nn.Linear(config.sizes[0], config.sizes[1])
            self.second = nn.Linear(config.sizes[0], config.sizes[1])
            if config.tied:
                self.second.weight = self.first.weight
            self.register_buffer("count", torch.tensor(7))
            self.register_buffer("huge", torch.tensor([1e6, 1e-3]))

        def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
            return self.config.gain * mixture.unsqueeze(1).repeat(1, self.config.num_sources, 1)

    return Scale


@pytest.fixture
def model(scale_class: type[Model]) -> Model:
    torch.manual_seed(0)
    return scale_class.from_config({"gain": 2.5})


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        title="DPRNN for two talkers | small",
        summary="Separates two talkers at 8 kHz.",
        licence="CC-BY-4.0",
        data=("libri_251spk",),
        attributions=("LibriSpeech by V. Panayotov and others, CC BY 4.0",),
        command="auriscope train recipes/separation/dprnn-libri.yaml seed=3",
        seed=3,
        audio_hours=12.5,
        metrics={"si_snri_db libri_eval50 test": 8.25},
        curve="curve.png",
        limits=("Read speech only.",),
        citation="Luo et al. 2020",
    )
