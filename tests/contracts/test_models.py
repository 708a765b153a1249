"""What holds for every registered model: a new one is enrolled by being registered."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from auriscope.metrics import pit_si_snr
from auriscope.pretrained import Model, list_architectures, load_pretrained, model_class
from auriscope.pretrained.model import config_from_values
from auriscope.separation.task import OwnLosses

BATCH, TIME = 3, 3200


@dataclass(frozen=True)
class Adapter:
    """How the models of a room are called.

    An adapter is of a room, or of one model that gives something else than the others of its room.
    ``inputs(num_sources, batch, time)`` gives the tensors of ``forward`` that come before ``lengths``, batch first and
    time last; ``shape(num_sources, batch, time)`` is that of the output; ``has_time`` tells whether it ends in time;
    ``objective(model, stage)`` is what a tiny batch is overfitted to, for ``steps`` steps in every stage of training,
    whereupon ``loss(model)`` must have fallen by ``fall``.
    """

    inputs: Callable[[int, int, int], tuple[Tensor, ...]]
    shape: Callable[[int, int, int], tuple[int, ...]]
    has_time: bool
    objective: Callable[[Model, int], Tensor]
    loss: Callable[[Model], Tensor]
    fall: float
    steps: int
    learning_rate: float


def _voices(num_sources: int, batch: int, time: int) -> Tensor:
    """Harmonic sources (batch, sources, time) of different pitch and envelope, which a tiny network can tell apart."""
    pitch = 0.05 * (1 + torch.arange(batch * num_sources).reshape(batch, num_sources, 1)) ** 1.3
    moment = torch.arange(time, dtype=torch.float32)
    envelope = 0.6 + 0.4 * torch.sin(moment * 0.01 * (1 + torch.arange(num_sources).reshape(1, -1, 1)))
    return 0.2 * envelope * (torch.sin(pitch * moment) + 0.5 * torch.sin(2 * pitch * moment))


def _noise(seed: int, *shape: int) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _separation_inputs(num_sources: int, batch: int, time: int) -> tuple[Tensor, ...]:
    return (_voices(num_sources, batch, time).sum(1) + _noise(1, batch, time),)


def _separation_batch(model: Model, batch: int, time: int) -> dict[str, Tensor]:
    num_sources = model.config.num_sources
    sources = _voices(num_sources, batch, time)
    return {
        "mixture": sources.sum(1),
        "sources": sources,
        "lengths": torch.full((batch,), time),
        "num_sources": torch.full((batch,), num_sources),
        "speakers": torch.arange(batch * num_sources).reshape(batch, num_sources),
    }


def _separation_objective(model: Model, stage: int) -> Tensor:
    batch = _separation_batch(model, 2, 1200)
    if isinstance(model, OwnLosses):
        return model.losses(batch, stage)["loss"]
    return -pit_si_snr(model(batch["mixture"]), batch["sources"]).values.mean()


def _separation_loss(model: Model) -> Tensor:
    batch = _separation_batch(model, 2, 1200)
    with torch.no_grad():
        estimates = model.eval()(batch["mixture"])
    model.train()
    return -pit_si_snr(estimates, batch["sources"]).values.mean()


def _quality_inputs(num_sources: int, batch: int, time: int) -> tuple[Tensor, ...]:
    sources = _voices(num_sources, batch, time)
    leak = torch.linspace(0.05, 0.5, batch).reshape(-1, 1, 1)
    return sources.sum(1), sources + leak * sources.flip(1) + leak * _noise(2, batch, num_sources, time)


def _quality_loss(model: Model) -> Tensor:
    scores = model(*_quality_inputs(2, BATCH, 1600))
    return (scores - torch.tensor([[18.0, 2.0], [6.0, 10.0], [0.0, 4.0]])).abs().mean()


def _counting_loss(model: Model) -> Tensor:
    """Cross-entropy over one, two and so many voices as the network tells, of which the others are silent."""
    number = model.config.num_sources
    sources = _voices(number, 2 * number, 1200)
    counts = torch.arange(2 * number) % number + 1
    sources = sources * (torch.arange(number) < counts[:, None])[..., None]
    return torch.nn.functional.cross_entropy(model(sources.sum(1)), counts - 1)


ADAPTERS = {
    "separation": Adapter(
        inputs=_separation_inputs,
        shape=lambda num_sources, batch, time: (batch, num_sources, time),
        has_time=True,
        objective=_separation_objective,
        loss=_separation_loss,
        fall=6.0,  # dB of SI-SNR
        steps=40,
        learning_rate=1e-2,
    ),
    "separation/counter": Adapter(
        inputs=_separation_inputs,
        shape=lambda num_sources, batch, time: (batch, num_sources),
        has_time=False,
        objective=lambda model, stage: (
            model.losses(_separation_batch(model, 2, 1200), stage)["loss"] + _counting_loss(model)
        ),
        loss=_counting_loss,
        fall=0.5,  # nats
        steps=40,
        learning_rate=1e-2,
    ),
    "quality": Adapter(
        inputs=_quality_inputs,
        shape=lambda num_sources, batch, time: (batch, num_sources),
        has_time=False,
        objective=lambda model, stage: _quality_loss(model),
        loss=_quality_loss,
        fall=2.0,  # dB of mean absolute error
        steps=40,
        learning_rate=1e-2,
    ),
}

# Those that are fitted have contracts of their own, in test_fitted_models.py.
NAMES = [name for name in list_architectures() if not model_class(name).fitted]


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest) -> Model:
    """Every registered model in its tiny configuration, in evaluation mode, always with the same weights."""
    torch.manual_seed(0)
    cls = model_class(request.param)
    return cls.from_config(cls.Tiny).eval()


@pytest.fixture
def adapter(model: Model) -> Adapter:
    return ADAPTERS.get(model.name, ADAPTERS[model.name.split("/")[0]])


@pytest.fixture
def num_sources(model: Model) -> int:
    return int(getattr(model.config, "num_sources", 2))


def test_rooms_register_models() -> None:
    assert {name.split("/")[0] for name in NAMES} == {name.split("/")[0] for name in ADAPTERS}


def test_configuration_is_plain_frozen_and_complete(model: Model) -> None:
    cls = type(model)
    assert cls.__doc__
    assert dataclasses.is_dataclass(cls.Config)
    assert cls.Config() == cls.Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(model.config, dataclasses.fields(cls.Config)[0].name, None)
    values = json.loads(json.dumps(dataclasses.asdict(model.config), allow_nan=False))
    assert config_from_values(cls.Config, values, cls.name) == model.config
    assert isinstance(model.config.sample_rate, int)
    assert 0 < model.num_parameters < 50_000


@pytest.mark.parametrize("time", [TIME, 1601])
def test_shapes(model: Model, adapter: Adapter, num_sources: int, time: int) -> None:
    for batch in (1, BATCH):
        output = model(*adapter.inputs(num_sources, batch, time))
        assert output.shape == adapter.shape(num_sources, batch, time)
        assert output.dtype == torch.float32
        assert output.isfinite().all()


def test_silence_gives_finite_output(model: Model, adapter: Adapter, num_sources: int) -> None:
    silence = [torch.zeros_like(signal) for signal in adapter.inputs(num_sources, 1, TIME)]
    assert model(*silence).isfinite().all()


def test_gradients_reach_every_parameter(model: Model, adapter: Adapter, num_sources: int) -> None:
    model.train()
    if isinstance(model, OwnLosses):
        # What only its own training reaches, such as an auxiliary head.
        for stage in range(model.num_stages):
            adapter.objective(model, stage).backward()
    else:
        output = model(*adapter.inputs(num_sources, BATCH, TIME))
        (output * _noise(3, *output.shape)).sum().backward()
    unreached = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert unreached == []


@pytest.mark.parametrize("padding", ["zeros", "noise"])
def test_a_padded_batch_equals_each_example_alone(
    model: Model, adapter: Adapter, num_sources: int, padding: str
) -> None:
    inputs = adapter.inputs(num_sources, BATCH, TIME)
    lengths = torch.tensor([TIME, 1999, 1208])
    beyond = torch.arange(TIME) >= lengths.unsqueeze(1)
    padded = []
    for signal in inputs:
        fill = torch.zeros_like(signal) if padding == "zeros" else _noise(4, *signal.shape)
        mask = beyond.reshape(BATCH, *(1,) * (signal.dim() - 2), TIME)
        padded.append(torch.where(mask, fill, signal))
    with torch.no_grad():
        together = model(*padded, lengths=lengths)
        for item, length in enumerate(lengths.tolist()):
            alone = model(*(signal[item : item + 1, ..., :length] for signal in inputs))[0]
            cut = together[item, ..., :length] if adapter.has_time else together[item]
            torch.testing.assert_close(cut, alone, rtol=1e-5, atol=1e-5)


def test_full_lengths_equal_none(model: Model, adapter: Adapter, num_sources: int) -> None:
    inputs = adapter.inputs(num_sources, BATCH, TIME)
    with torch.no_grad():
        lengths = torch.full((BATCH,), TIME)
        torch.testing.assert_close(model(*inputs, lengths=lengths), model(*inputs), rtol=1e-5, atol=1e-5)


def test_evaluation_is_deterministic(model: Model, adapter: Adapter, num_sources: int) -> None:
    inputs = adapter.inputs(num_sources, BATCH, TIME)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        torch.manual_seed(1)
        first = model(*inputs)
        torch.manual_seed(2)
        second = model(*inputs)
    assert torch.equal(first, second)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_save_and_load_are_exact(model: Model, adapter: Adapter, num_sources: int, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    loaded = load_pretrained(tmp_path / "model")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert not loaded.training
    inputs = adapter.inputs(num_sources, BATCH, TIME)
    with torch.no_grad():
        assert torch.equal(loaded(*inputs), model(*inputs))


def test_half_stored_weights_load_as_float32(model: Model, adapter: Adapter, num_sources: int, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model", half=True)
    loaded = load_pretrained(tmp_path / "model")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    inputs = adapter.inputs(num_sources, BATCH, TIME)
    with torch.no_grad():
        expected, output = model(*inputs), loaded(*inputs)
    assert (output - expected).norm() < 0.05 * expected.norm()


def test_a_tiny_batch_is_overfitted(model: Model, adapter: Adapter) -> None:
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=adapter.learning_rate)
    before = adapter.loss(model).item()
    for stage in range(getattr(model, "num_stages", 1)):
        for _ in range(adapter.steps):
            optimizer.zero_grad()
            adapter.objective(model, stage).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
    assert adapter.loss(model).item() < before - adapter.fall


def test_torch_export_gives_the_same(model: Model, adapter: Adapter, num_sources: int) -> None:
    if model.unexportable:
        pytest.skip(f"{model.name}: {model.unexportable}")
    example = adapter.inputs(num_sources, 2, TIME)
    other = tuple(signal.roll(100, -1) * 0.7 for signal in example)
    with torch.no_grad():
        exported = torch.export.export(model, example, strict=False).module()
        torch.testing.assert_close(exported(*other), model(*other), rtol=1e-5, atol=1e-5)
