"""What holds for every registered separator that is fitted instead of trained by gradients."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.pretrained import list_architectures, load_pretrained, model_class
from auriscope.pretrained.model import config_from_values
from auriscope.separation.fitted import FittedSeparator

TIME = 3200


def _sources(num_sources: int, batch: int) -> Tensor:
    """Noise of one band per source, switched on and off, (batch, sources, time)."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(batch, num_sources, TIME, generator=generator)
    envelope = (torch.rand(batch, num_sources, TIME // 200, generator=generator) > 0.4).repeat_interleave(200, -1)
    carrier = torch.cos(torch.arange(TIME) * (0.2 + 0.8 * torch.arange(num_sources).unsqueeze(-1)))
    return 0.3 * noise.cumsum(-1).diff(n=1, prepend=torch.zeros(batch, num_sources, 1)) * envelope * carrier


def _array(batch: int) -> Tensor:
    return torch.tensor([[1.0, 0.6], [-0.4, 1.0]]) @ _sources(2, batch)


# What each system is fitted to, and what it then separates, for a batch.
SIGNALS = {
    "separation/ica": (_array, _array),
    "separation/nmf": (lambda batch: _sources(2, batch), lambda batch: _sources(2, batch).sum(1)),
}
# Fitted models of other rooms take and give other things: they have their own tests.
NAMES = [name for name in list_architectures() if issubclass(model_class(name), FittedSeparator)]


@pytest.fixture(params=NAMES)
def blank(request: pytest.FixtureRequest) -> FittedSeparator:
    cls = model_class(request.param)
    assert issubclass(cls, FittedSeparator)
    return cls.from_config(cls.Tiny).eval()


@pytest.fixture
def model(blank: FittedSeparator) -> FittedSeparator:
    return blank.fit(SIGNALS[blank.name][0](2))


def test_every_fitted_separator_is_here() -> None:
    assert set(NAMES) == set(SIGNALS)


def test_configuration_is_plain_and_nothing_is_trainable(blank: FittedSeparator) -> None:
    cls = type(blank)
    assert cls.__doc__
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(blank.config, dataclasses.fields(cls.Config)[0].name, None)
    values = json.loads(json.dumps(dataclasses.asdict(blank.config), allow_nan=False))
    assert config_from_values(cls.Config, values, cls.name) == blank.config
    assert list(blank.parameters()) == []
    assert 0 < blank.num_parameters < 50_000
    assert blank.device == torch.device("cpu")


def test_a_model_that_is_not_fitted_says_so(blank: FittedSeparator) -> None:
    with pytest.raises(AuriscopeError, match="has not been fitted"):
        blank.separate(SIGNALS[blank.name][1](1))


def test_shapes(model: FittedSeparator) -> None:
    for batch in (1, 3):
        estimates = model.separate(SIGNALS[model.name][1](batch))
        assert estimates.shape == (batch, 2, TIME)
        assert estimates.dtype == torch.float32
        assert estimates.isfinite().all()


def test_silence_gives_finite_output(model: FittedSeparator) -> None:
    assert model.separate(torch.zeros_like(SIGNALS[model.name][1](1))).isfinite().all()


@pytest.mark.parametrize("padding", ["zeros", "noise"])
def test_a_padded_batch_equals_each_example_alone(model: FittedSeparator, padding: str) -> None:
    signal = SIGNALS[model.name][1](3)
    lengths = torch.tensor([TIME, 1999, 1208])
    beyond = (torch.arange(TIME) >= lengths.unsqueeze(1)).reshape(3, *(1,) * (signal.dim() - 2), TIME)
    padded = torch.where(beyond, torch.randn(signal.shape) if padding == "noise" else 0.0, signal)
    together = model.separate(padded, lengths=lengths)
    for item, length in enumerate(lengths.tolist()):
        alone = model.separate(signal[item : item + 1, ..., :length])[0]
        torch.testing.assert_close(together[item, :, :length], alone, rtol=1e-4, atol=1e-5)
        assert not together[item, :, length:].any()


def test_padding_does_not_change_the_fit(blank: FittedSeparator) -> None:
    signals = SIGNALS[blank.name][0](2)
    # One recording padded by another's noise is that recording alone.
    alone = blank.fit(signals[:1, ..., :2400]).state_dict()
    alone = {name: tensor.clone() for name, tensor in alone.items()}
    together = blank.fit(signals[:1], lengths=torch.tensor([2400])).state_dict()
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-4, atol=1e-5)


def test_fitting_again_gives_the_same(blank: FittedSeparator) -> None:
    signals = SIGNALS[blank.name][0](2)
    torch.manual_seed(1)
    first = {name: tensor.clone() for name, tensor in blank.fit(signals).state_dict().items()}
    torch.manual_seed(2)
    second = blank.fit(signals).state_dict()
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())


def test_save_and_load_are_exact(model: FittedSeparator, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    loaded = load_pretrained(tmp_path / "model")
    assert isinstance(loaded, type(model))
    assert loaded.config == model.config
    signal = SIGNALS[model.name][1](2)
    assert torch.equal(loaded.separate(signal), model.separate(signal))


def test_signals_that_are_not_finite_are_refused(blank: FittedSeparator) -> None:
    signals = SIGNALS[blank.name][0](1)
    signals[0, 0, 7] = torch.nan
    with pytest.raises(AuriscopeError, match="NaN"):
        blank.fit(signals)
