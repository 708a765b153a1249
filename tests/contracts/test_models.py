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

from auriscope.classification import ImageClassifier, ImageCNN
from auriscope.crossmodal import CrossModal
from auriscope.crossmodal.losses import clap_loss
from auriscope.interpretation import Seen, TrainedInterpreter
from auriscope.metrics import pit_si_snr
from auriscope.pretrained import Model, list_architectures, load_pretrained, model_class
from auriscope.pretrained.model import config_from_values
from auriscope.recognition.language_model import LanguageModel
from auriscope.recognition.recognizer import Recognizer
from auriscope.separation.task import OwnLosses
from auriscope.signal.vocoding import speech_mel
from auriscope.synthesis.synthesizer import Spoken, Synthesizer

BATCH, TIME = 3, 3200
LATE = 100_000
"""The number of a batch in which everything that training begins later has begun."""


@dataclass(frozen=True)
class Adapter:
    """How the models of a room are called.

    An adapter is of a room, of a kind of model that gives something else than the others of its room, or of one model.
    ``inputs(model, batch, time)`` gives the tensors of ``forward`` that come before the lengths, batch first, those
    that have time having it last; ``shape(model, batch, time)`` is that of the output; ``time_axis`` is where an
    example's output has time, in samples or frames, if it has;
    ``objective(model, stage)`` is what a tiny batch is overfitted to, for ``steps`` steps in every stage of training,
    whereupon ``loss(model)`` must have fallen by ``fall``. ``lengths`` is the name of the argument of the lengths;
    with ``reached_by_objective`` there are parameters that only the objective reaches, not the output of ``forward``.
    ``call(model, inputs, lengths)`` is how a model is called whose ``forward`` takes or gives more than tensors.
    """

    inputs: Callable[[Model, int, int], tuple[Tensor, ...]]
    shape: Callable[[Model, int, int], tuple[int, ...]]
    time_axis: int | None
    objective: Callable[[Model, int], Tensor]
    loss: Callable[[Model], Tensor]
    fall: float
    steps: int
    learning_rate: float
    lengths: str = "lengths"
    reached_by_objective: bool = False
    call: Callable[[Model, tuple[Tensor, ...], Tensor | None], Tensor] | None = None

    def __call__(self, model: Model, inputs: tuple[Tensor, ...], lengths: Tensor | None = None) -> Tensor:
        """The output of a model for ``inputs``, of which ``lengths`` (batch,) are valid."""
        if self.call is not None:
            return self.call(model, inputs, lengths)
        output: Tensor = model(*inputs) if lengths is None else model(*inputs, **{self.lengths: lengths})
        return output


def _num_sources(model: Model) -> int:
    return int(getattr(model.config, "num_sources", 2))


def _voices(num_sources: int, batch: int, time: int) -> Tensor:
    """Harmonic sources (batch, sources, time) of different pitch and envelope, which a tiny network can tell apart."""
    pitch = 0.05 * (1 + torch.arange(batch * num_sources).reshape(batch, num_sources, 1)) ** 1.3
    moment = torch.arange(time, dtype=torch.float32)
    envelope = 0.6 + 0.4 * torch.sin(moment * 0.01 * (1 + torch.arange(num_sources).reshape(1, -1, 1)))
    return 0.2 * envelope * (torch.sin(pitch * moment) + 0.5 * torch.sin(2 * pitch * moment))


def _noise(seed: int, *shape: int) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _separation_inputs(model: Model, batch: int, time: int) -> tuple[Tensor, ...]:
    return (_voices(_num_sources(model), batch, time).sum(1) + _noise(1, batch, time),)


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


def _quality_inputs(model: Model, batch: int, time: int) -> tuple[Tensor, ...]:
    sources = _voices(_num_sources(model), batch, time)
    leak = torch.linspace(0.05, 0.5, batch).reshape(-1, 1, 1)
    return sources.sum(1), sources + leak * sources.flip(1) + leak * _noise(2, *sources.shape)


def _quality_loss(model: Model) -> Tensor:
    scores = model(*_quality_inputs(model, BATCH, 1600))
    return (scores - torch.tensor([[18.0, 2.0], [6.0, 10.0], [0.0, 4.0]])).abs().mean()


def _counting_loss(model: Model) -> Tensor:
    """Cross-entropy over one, two and so many voices as the network tells, of which the others are silent."""
    number = model.config.num_sources
    sources = _voices(number, 2 * number, 1200)
    counts = torch.arange(2 * number) % number + 1
    sources = sources * (torch.arange(number) < counts[:, None])[..., None]
    return torch.nn.functional.cross_entropy(model(sources.sum(1)), counts - 1)


# What is said in the examples of a batch, as token numbers: 0 is no text, 1 the sentence's end.
SAID = torch.tensor([[2, 3, 4, 4], [5, 2, 6, 0], [3, 6, 0, 0]])
SAID_LENGTHS = torch.tensor([4, 3, 2])
BEGINNING = torch.ones(len(SAID), 1, dtype=torch.int64)


def _speech_inputs(model: Model, batch: int, time: int) -> tuple[Tensor, ...]:
    assert isinstance(model, Recognizer)
    waveform = _voices(1, batch, time)[:, 0] + _noise(1, batch, time)
    return (waveform, torch.cat((BEGINNING, SAID), 1)[:batch]) if model.has_decoder else (waveform,)


def _speech_shape(model: Model, batch: int, time: int) -> tuple[int, ...]:
    """The decoder gives logits for each token, CTC for each frame, and the frames must cover the waveform."""
    assert isinstance(model, Recognizer)
    if model.has_decoder:
        return batch, 1 + SAID.shape[1], len(model.tokenizer)
    encoded = model.encode(*_speech_inputs(model, batch, time))
    frames = encoded.states.shape[1]
    assert encoded.frame_lengths.tolist() == [frames] * batch
    # Windows that do not reach over the ends may cost a frame.
    assert abs(frames * encoded.frame_seconds - time / model.config.sample_rate) <= 1.5 * encoded.frame_seconds
    return batch, frames, len(model.tokenizer)


def _speech_loss(model: Model) -> Tensor:
    assert isinstance(model, Recognizer)
    # Long enough for CTC to write four tokens, two of which are alike, a frame lasting up to 80 ms.
    encoded = model.encode(_speech_inputs(model, BATCH, 12_800)[0], torch.tensor([12_800, 9000, 6400]))
    return model.losses(encoded, SAID, SAID_LENGTHS)["loss"]


def _sounds(batch: int, time: int) -> Tensor:
    return _voices(1, batch, time)[:, 0] + _noise(1, batch, time)


def _images(model: Model, batch: int) -> Tensor:
    """Images (batch, channels, height, width) in [0, 1], each with a bright bar at another height."""
    config = model.config
    rows = torch.arange(config.height) // 2 % BATCH == torch.arange(batch)[:, None]
    bars = rows[:, None, :, None].expand(batch, config.channels, config.height, config.width)
    return 0.7 * bars + _noise(7, batch, config.channels, config.height, config.width).clamp(0.0, 0.3)


def _classes_loss(logits: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, torch.arange(BATCH))


def _voices_loss(model: Model) -> Tensor:
    """Cross-entropy of three voices, each to have an embedding along an axis of its own."""
    waveform = _voices(1, BATCH, 4000)[:, 0] + _noise(1, BATCH, 4000)
    cosines = torch.nn.functional.normalize(model(waveform), dim=-1)[:, :BATCH]
    return torch.nn.functional.cross_entropy(10.0 * cosines, torch.arange(BATCH))


def _text_inputs(model: Model, batch: int, time: int) -> tuple[Tensor, ...]:
    """Letters of another stride in each example; a text's tokens are its time."""
    return (2 + (torch.arange(1, batch + 1)[:, None] * torch.arange(time)) % 5,)


def _text_loss(model: Model) -> Tensor:
    assert isinstance(model, LanguageModel)
    return model.losses(SAID, SAID_LENGTHS)["loss"]


# A synthesiser's frames: so many samples make one, by numbers that are always the same.
BLOCK = 32


def _synthesis_inputs(model: Model, batch: int, time: int) -> tuple[Tensor, ...]:
    waveform = _voices(1, batch, time)[:, 0] + _noise(1, batch, time)
    return waveform, SAID[:batch], SAID_LENGTHS[:batch], _noise(5, BATCH, model.config.voice_dim)[:batch]


def _speak(model: Model, inputs: tuple[Tensor, ...], lengths: Tensor | None) -> Spoken:
    assert isinstance(model, Synthesizer)
    waveform, tokens, token_lengths, voice = inputs
    frames = waveform.shape[1] // BLOCK
    mel = waveform[:, : frames * BLOCK].unflatten(1, (frames, BLOCK)) @ _noise(6, BLOCK, model.config.mel.num_mels)
    frame_lengths = None if lengths is None else lengths // BLOCK
    return model(tokens, token_lengths, 10.0 * mel, frame_lengths, voice)  # type: ignore[no-any-return]


def _synthesis_call(model: Model, inputs: tuple[Tensor, ...], lengths: Tensor | None) -> Tensor:
    """All that a synthesiser says, side by side: (batch, frames, two times mels, stop, attention)."""
    spoken = _speak(model, inputs, lengths)
    return torch.cat((spoken.mel, spoken.refined, spoken.stop_logits[..., None], spoken.attention), -1)


def _synthesis_loss(model: Model) -> Tensor:
    assert isinstance(model, Synthesizer)
    inputs, lengths = _synthesis_inputs(model, BATCH, 640), torch.tensor([640, 512, 384])
    frame_lengths = lengths // BLOCK
    # Something to be said that the token tells, and not only the frame before.
    said = SAID.repeat_interleave(5, 1)[..., None] * torch.linspace(-0.5, 0.5, model.config.mel.num_mels)
    spoken = model(inputs[1], inputs[2], said, frame_lengths, inputs[3])
    return model.losses(spoken, said, SAID_LENGTHS, frame_lengths)["loss"]


def _vocoder_inputs(model: Model, batch: int, time: int) -> tuple[Tensor, ...]:
    return (_voices(1, batch, time)[:, 0] + _noise(1, batch, time),)


def _vocoder_call(model: Model, inputs: tuple[Tensor, ...], lengths: Tensor | None) -> Tensor:
    (waveform,) = inputs
    frames = waveform.shape[1] // BLOCK
    mel = waveform[:, : frames * BLOCK].unflatten(1, (frames, BLOCK)) @ _noise(6, BLOCK, model.config.mel.num_mels)
    frame_lengths = None if lengths is None else lengths // BLOCK
    return model(10.0 * mel, frame_lengths)  # type: ignore[no-any-return]


def _vocoder_loss(model: Model) -> Tensor:
    config = model.config.mel
    mel = speech_mel(_voices(1, 2, 1600)[:, 0], config)[:, :-1]
    return (speech_mel(model(mel), config)[:, :-1] - mel).abs().mean()


def _explained(model: Model, batch: int) -> Seen:
    """Pictures, each with a bright place of its own, as a classifier of the tiny interpreters' kind sees them."""
    assert isinstance(model, TrainedInterpreter)
    config = model.config
    with torch.random.fork_rng():
        torch.manual_seed(3)
        stages = config.hidden_channels
        classifier = ImageCNN.from_config(
            {
                "labels": [str(number) for number in range(config.num_classes)],
                "channels": config.in_channels,
                "height": 12,
                "width": 12,
                "stage_channels": stages,
                "strides": (1, *(2,) * (len(stages) - 1)),
            }
        ).eval()
    classifier.requires_grad_(False)
    place = torch.arange(12.0)
    height = (place - 3.0 - torch.arange(batch).reshape(-1, 1)).square()
    width = (place - 8.0 + torch.arange(batch).reshape(-1, 1)).square()
    x = (-(height[:, :, None] + width[:, None]) / 6.0).exp()[:, None].expand(-1, config.in_channels, -1, -1)
    maps, logits = classifier.hidden_and_logits(x)
    return Seen(x, maps, logits, logits.argmax(1), x, classifier)


def _explained_inputs(model: Model, batch: int, time: int) -> tuple[Tensor, ...]:
    seen = _explained(model, batch)
    return (seen.x, *seen.maps)


def _explained_call(model: Model, inputs: tuple[Tensor, ...], lengths: Tensor | None) -> Tensor:
    """Masks of pictures, of which all is valid."""
    label = inputs[0].flatten(1).argmax(1) % model.config.num_classes
    return model(inputs[0], inputs[1:], label)  # type: ignore[no-any-return]


def _explaining_loss(model: Model) -> Tensor:
    assert isinstance(model, TrainedInterpreter)
    return model.losses(_explained(model, BATCH), LATE)["loss"]


# What is written of the examples of a batch, as token numbers: 0 is no text.
WRITTEN = torch.tensor([[1, 2, 9, 4], [5, 2, 0, 0], [3, 7, 1, 0]])


def _crossmodal_call(model: Model, inputs: tuple[Tensor, ...], lengths: Tensor | None) -> Tensor:
    """Both embeddings, one behind the other."""
    return torch.cat(model(*inputs, lengths), -1)


def _crossmodal_loss(model: Model) -> Tensor:
    assert isinstance(model, CrossModal)
    return clap_loss(*model(_sounds(BATCH, 4000), WRITTEN), model.logit_scale)


ADAPTERS = {
    "separation": Adapter(
        inputs=_separation_inputs,
        shape=lambda model, batch, time: (batch, _num_sources(model), time),
        time_axis=-1,
        objective=_separation_objective,
        loss=_separation_loss,
        fall=6.0,  # dB of SI-SNR
        steps=40,
        learning_rate=1e-2,
    ),
    "separation/counter": Adapter(
        inputs=_separation_inputs,
        shape=lambda model, batch, time: (batch, _num_sources(model)),
        time_axis=None,
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
        shape=lambda model, batch, time: (batch, _num_sources(model)),
        time_axis=None,
        objective=lambda model, stage: _quality_loss(model),
        loss=_quality_loss,
        fall=2.0,  # dB of mean absolute error
        steps=40,
        learning_rate=1e-2,
    ),
    "recognition": Adapter(
        inputs=_speech_inputs,
        shape=_speech_shape,
        time_axis=0,
        objective=lambda model, stage: _speech_loss(model),
        loss=_speech_loss,
        fall=1.0,  # nats per token
        steps=40,
        learning_rate=1e-2,
        reached_by_objective=True,
    ),
    "speaker": Adapter(
        inputs=lambda model, batch, time: (_voices(1, batch, time)[:, 0] + _noise(1, batch, time),),
        shape=lambda model, batch, time: (batch, model.config.dim),
        time_axis=None,
        objective=lambda model, stage: _voices_loss(model),
        loss=_voices_loss,
        fall=0.5,  # nats
        steps=40,
        learning_rate=1e-2,
    ),
    "classification": Adapter(
        inputs=lambda model, batch, time: (_sounds(batch, time),),
        shape=lambda model, batch, time: (batch, len(model.config.labels)),
        time_axis=None,
        objective=lambda model, stage: _classes_loss(model(_sounds(BATCH, 4000))),
        loss=lambda model: _classes_loss(model(_sounds(BATCH, 4000))),
        fall=0.5,  # nats
        steps=40,
        learning_rate=1e-2,
    ),
    "classification/image-cnn": Adapter(
        inputs=lambda model, batch, time: (_images(model, batch),),
        shape=lambda model, batch, time: (batch, len(model.config.labels)),
        time_axis=None,
        objective=lambda model, stage: _classes_loss(model(_images(model, BATCH))),
        loss=lambda model: _classes_loss(model(_images(model, BATCH))),
        fall=0.5,  # nats
        steps=40,
        learning_rate=1e-2,
    ),
    "crossmodal": Adapter(
        inputs=lambda model, batch, time: (_sounds(batch, time), WRITTEN[:batch]),
        shape=lambda model, batch, time: (batch, 2 * model.config.dim),
        time_axis=None,
        objective=lambda model, stage: _crossmodal_loss(model),
        loss=_crossmodal_loss,
        fall=0.5,  # nats
        steps=40,
        learning_rate=1e-2,
        reached_by_objective=True,
        call=_crossmodal_call,
    ),
    "interpretation": Adapter(
        inputs=_explained_inputs,
        shape=lambda model, batch, time: (batch, 1, 12, 12),
        time_axis=None,
        objective=lambda model, stage: _explaining_loss(model),
        loss=_explaining_loss,
        fall=0.3,
        steps=40,
        learning_rate=1e-2,
        reached_by_objective=True,
        call=_explained_call,
    ),
    "recognition, of text": Adapter(
        inputs=_text_inputs,
        shape=lambda model, batch, time: (batch, time, len(model.config.tokens)),
        time_axis=0,
        objective=lambda model, stage: _text_loss(model),
        loss=_text_loss,
        fall=1.0,  # nats per token
        steps=40,
        learning_rate=1e-2,
        lengths="token_lengths",
    ),
    "synthesis": Adapter(
        inputs=_synthesis_inputs,
        shape=lambda model, batch, time: (
            batch,
            time // BLOCK,
            2 * model.config.mel.num_mels + 1 + SAID.shape[1],
        ),
        time_axis=0,
        objective=lambda model, stage: _synthesis_loss(model),
        loss=_synthesis_loss,
        fall=1.0,
        steps=40,
        learning_rate=1e-2,
        call=_synthesis_call,
    ),
    "synthesis/hifigan": Adapter(
        inputs=_vocoder_inputs,
        shape=lambda model, batch, time: (batch, time // BLOCK * model.config.mel.hop_length),
        time_axis=0,
        objective=lambda model, stage: _vocoder_loss(model),
        loss=_vocoder_loss,
        fall=1.0,  # nats
        steps=40,
        learning_rate=1e-2,
        call=_vocoder_call,
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
    if isinstance(model, LanguageModel):
        return ADAPTERS["recognition, of text"]
    return ADAPTERS.get(model.name, ADAPTERS[model.name.split("/")[0]])


def test_rooms_register_models() -> None:
    rooms = {key.split("/")[0].split(",")[0] for key in ADAPTERS}
    assert {name.split("/")[0] for name in NAMES} == rooms


def test_configuration_is_plain_frozen_and_complete(model: Model) -> None:
    cls = type(model)
    assert cls.__doc__
    assert dataclasses.is_dataclass(cls.Config)
    assert cls.Config() == cls.Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(model.config, dataclasses.fields(cls.Config)[0].name, None)
    values = json.loads(json.dumps(dataclasses.asdict(model.config), allow_nan=False))
    assert config_from_values(cls.Config, values, cls.name) == model.config
    assert isinstance(model, LanguageModel | ImageClassifier) or isinstance(model.config.sample_rate, int)
    assert 0 < model.num_parameters < 50_000


@pytest.mark.parametrize("time", [TIME, 1601])
def test_shapes(model: Model, adapter: Adapter, time: int) -> None:
    for batch in (1, BATCH):
        output = adapter(model, adapter.inputs(model, batch, time))
        assert output.shape == adapter.shape(model, batch, time)
        assert output.dtype == torch.float32
        assert output.isfinite().all()


def test_silence_gives_finite_output(model: Model, adapter: Adapter) -> None:
    inputs = adapter.inputs(model, 1, TIME)
    silence = tuple(torch.zeros_like(signal) if signal.is_floating_point() else signal for signal in inputs)
    assert adapter(model, silence).isfinite().all()


def test_gradients_reach_every_parameter(model: Model, adapter: Adapter) -> None:
    model.train()
    if isinstance(model, OwnLosses) or adapter.reached_by_objective:
        # What only its own training reaches, such as an auxiliary head.
        for stage in range(getattr(model, "num_stages", 1)):
            adapter.objective(model, stage).backward()
    else:
        output = adapter(model, adapter.inputs(model, BATCH, TIME))
        (output * _noise(3, *output.shape)).sum().backward()
    unreached = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert unreached == []


@pytest.mark.parametrize("padding", ["zeros", "noise"])
def test_a_padded_batch_equals_each_example_alone(model: Model, adapter: Adapter, padding: str) -> None:
    if isinstance(model, Recognizer) and not model.maskable:
        pytest.skip(f"{model.name} cannot be masked: it is batched by equal length only")
    inputs = adapter.inputs(model, BATCH, TIME)
    lengths = torch.tensor([TIME, 1999, 1208])
    beyond = torch.arange(TIME) >= lengths.unsqueeze(1)
    with_time = [signal.shape[-1] == TIME for signal in inputs]
    padded = []
    for signal, padded_too in zip(inputs, with_time, strict=True):
        if not padded_too:
            padded.append(signal)
            continue
        fill = torch.zeros_like(signal)
        if padding == "noise":
            fill = _noise(4, *signal.shape) if signal.is_floating_point() else signal.flip(-1)
        mask = beyond.reshape(BATCH, *(1,) * (signal.dim() - 2), TIME)
        padded.append(torch.where(mask, fill, signal))
    with torch.no_grad():
        together = adapter(model, tuple(padded), lengths)
        for item, length in enumerate(lengths.tolist()):
            single = tuple(
                signal[item : item + 1, ..., :length] if cut else signal[item : item + 1]
                for signal, cut in zip(inputs, with_time, strict=True)
            )
            alone = adapter(model, single)[0]
            axis = adapter.time_axis
            valid = together[item] if axis is None else together[item].narrow(axis, 0, alone.shape[axis])
            torch.testing.assert_close(valid, alone, rtol=1e-5, atol=1e-5)


def test_full_lengths_equal_none(model: Model, adapter: Adapter) -> None:
    inputs = adapter.inputs(model, BATCH, TIME)
    with torch.no_grad():
        full = adapter(model, inputs, torch.full((BATCH,), TIME))
        torch.testing.assert_close(full, adapter(model, inputs), rtol=1e-5, atol=1e-5)


def test_evaluation_is_deterministic(model: Model, adapter: Adapter) -> None:
    inputs = adapter.inputs(model, BATCH, TIME)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        torch.manual_seed(1)
        first = adapter(model, inputs)
        torch.manual_seed(2)
        second = adapter(model, inputs)
    assert torch.equal(first, second)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_save_and_load_are_exact(model: Model, adapter: Adapter, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    loaded = load_pretrained(tmp_path / "model")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert not loaded.training
    inputs = adapter.inputs(model, BATCH, TIME)
    with torch.no_grad():
        assert torch.equal(adapter(loaded, inputs), adapter(model, inputs))


def test_half_stored_weights_load_as_float32(model: Model, adapter: Adapter, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model", half=True)
    loaded = load_pretrained(tmp_path / "model")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    inputs = adapter.inputs(model, BATCH, TIME)
    with torch.no_grad():
        expected, output = adapter(model, inputs), adapter(loaded, inputs)
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


class Called(torch.nn.Module):
    """A model as its adapter calls it."""

    def __init__(self, model: Model, adapter: Adapter) -> None:
        super().__init__()
        self.model, self.adapter = model, adapter

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.adapter(self.model, inputs)


def test_torch_export_gives_the_same(model: Model, adapter: Adapter) -> None:
    if model.unexportable:
        pytest.skip(f"{model.name}: {model.unexportable}")
    example = adapter.inputs(model, 2, TIME)
    other = tuple(signal.roll(100, -1) * 0.7 if signal.is_floating_point() else signal.roll(1, 0) for signal in example)
    called = Called(model, adapter) if adapter.call else model
    with torch.no_grad():
        exported = torch.export.export(called, example, strict=False).module()
        torch.testing.assert_close(exported(*other), called(*other), rtol=1e-5, atol=1e-5)
