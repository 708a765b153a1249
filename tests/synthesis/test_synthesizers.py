"""Synthesisers: what is told the frames and what speaks by itself are the same network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.nn.attention import sinusoids
from auriscope.signal.vocoding import MelConfig
from auriscope.synthesis import Spoken, Synthesizer, Tacotron, Tacotron2, TransformerTTS
from auriscope.synthesis.interop.tacotron2 import symbols
from auriscope.synthesis.synthesizer import frames_before, whole_steps
from auriscope.synthesis.tacotron2 import LocationAttention, Memory, on_tokens
from auriscope.synthesis.transformertts import ScaledPositions

KINDS = [Tacotron, Tacotron2, TransformerTTS]
TOKENS = torch.tensor([[2, 9, 4, 7, 5, 1], [6, 3, 8, 1, 0, 0]])
TOKEN_LENGTHS = torch.tensor([6, 4])
VOICE = torch.tensor([[1.0, 0.0, 0.0, 2.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0, 0.0, 1.0]])


def tiny(kind: type[Synthesizer], **more: Any) -> Synthesizer:
    torch.manual_seed(0)
    return kind.from_config(kind.Tiny | {"mel": MelConfig(num_mels=10)} | more).eval()


def frames(number: int, seed: int = 1) -> Tensor:
    return torch.randn(2, number, 10, generator=torch.Generator().manual_seed(seed)) - 5.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames_per_step", [1, 3])
def test_step_by_step_it_writes_what_it_writes_when_told_the_frames(
    kind: type[Synthesizer], frames_per_step: int
) -> None:
    model = tiny(kind, frames_per_step=frames_per_step, mel_mean=-5.0, mel_scale=2.0)
    mel = frames(10)
    with torch.no_grad():
        spoken = model(TOKENS, TOKEN_LENGTHS, mel, None, VOICE)
        assert spoken.mel.shape == spoken.refined.shape == (2, 10, 10)
        state, frame = model.begin(TOKENS, TOKEN_LENGTHS, VOICE), torch.zeros(2, 10)
        written, stops, looks = [], [], []
        for first in range(0, 10, frames_per_step):
            step, stop, attention, state = model.step(frame, state)
            written.append(step)
            stops += [stop] * frames_per_step
            looks += [attention] * frames_per_step
            frame = model.normalised(mel[:, min(first + frames_per_step, 10) - 1])
        together = torch.cat(written, 1)[:, :10]
        refined = model.refine(together, torch.tensor([10, 10]))
    torch.testing.assert_close(model.denormalised(together), spoken.mel, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.denormalised(refined), spoken.refined, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.stack(stops, 1)[:, :10], spoken.stop_logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.stack(looks, 1)[:, :10], spoken.attention, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(spoken.attention.sum(-1), torch.ones(2, 10))
    assert not spoken.attention[1, :, 4:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_frames_told_later_change_nothing_before(kind: type[Synthesizer]) -> None:
    model = tiny(kind, frames_per_step=2)
    mel = frames(8)
    changed = mel.clone()
    changed[:, 5] += 1.0
    with torch.no_grad():
        first, second = (model(TOKENS, TOKEN_LENGTHS, each, None, VOICE).mel for each in (mel, changed))
    assert torch.equal(first[:, :6], second[:, :6])
    assert (first[:, 6:] != second[:, 6:]).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("readiness", [0.0, -5.0], ids=["may stop", "goes on"])
def test_a_batch_speaks_as_each_alone(kind: type[Synthesizer], readiness: float) -> None:
    model = tiny(kind)
    with torch.no_grad():
        model.stop.bias.add_(readiness)
    together = model.generate(TOKENS, TOKEN_LENGTHS, VOICE, max_seconds=0.2)
    for row in range(2):
        own = TOKENS[row : row + 1, : int(TOKEN_LENGTHS[row])]
        alone = model.generate(own, None, VOICE[row : row + 1], max_seconds=0.2)
        length = int(alone.frame_lengths)
        assert together.frame_lengths[row] == length
        assert together.stopped[row] == alone.stopped[0]
        torch.testing.assert_close(together.mel[row, :length], alone.mel[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together.attention[row, :length, : own.shape[1]], alone.attention[0, :length])
        assert (together.mel[row, length:] == torch.tensor(model.config.mel.floor).log()).all()


@pytest.mark.parametrize("kind", KINDS)
def test_it_stops_when_it_says_so_and_is_stopped_when_it_does_not(kind: type[Synthesizer]) -> None:
    model = tiny(kind, frames_per_step=2)
    with torch.no_grad():
        model.stop.weight.zero_()
        model.stop.bias.fill_(5.0)
        said = model.generate(TOKENS, TOKEN_LENGTHS, VOICE)
        assert said.stopped.all()
        assert said.frame_lengths.tolist() == [2, 2]
        model.stop.bias.fill_(-5.0)
        said = model.generate(TOKENS, TOKEN_LENGTHS, VOICE, max_seconds=9.9 * model.config.mel.frame_seconds)
    assert not said.stopped.any()
    assert said.mel.shape == (2, 8, 10)
    assert said.frame_lengths.tolist() == [8, 8]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_dropped_when_it_speaks_follows_from_the_generator(kind: type[Synthesizer]) -> None:
    model = tiny(kind, prenet_dropout=0.5, speaking_dropout=True)
    with torch.no_grad():
        model.stop.bias.fill_(-5.0)

    def say(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return model.generate(TOKENS[:1], None, VOICE[:1], max_seconds=0.2, generator=generator).mel

    first, again, other = say(1), say(1), say(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with torch.no_grad():
        told = [model(TOKENS, TOKEN_LENGTHS, frames(6), None, VOICE).mel for _ in range(2)]
    assert torch.equal(*told)


@pytest.mark.parametrize("kind", KINDS)
def test_the_voice_is_heard_and_only_its_direction(kind: type[Synthesizer]) -> None:
    model = tiny(kind)
    with torch.no_grad():
        mine, louder, other = (
            model(TOKENS, TOKEN_LENGTHS, frames(6), None, voice).mel for voice in (VOICE, 3.0 * VOICE, VOICE.flip(0))
        )
    torch.testing.assert_close(mine, louder, rtol=1e-5, atol=1e-5)
    assert (mine - other).abs().max() > 1e-3
    with pytest.raises(ValueError, match="needs the embedding of a voice"):
        model(TOKENS, TOKEN_LENGTHS, frames(6))
    with pytest.raises(ValueError, match="has 5 numbers"):
        model(TOKENS, TOKEN_LENGTHS, frames(6), None, VOICE[:, :5])
    with pytest.raises(ValueError, match="one voice"):
        tiny(kind, voice_dim=0)(TOKENS, TOKEN_LENGTHS, frames(6), None, VOICE)


def test_texts_become_tokens_with_an_end() -> None:
    model = tiny(Tacotron2)
    tokens, lengths = model.batch_texts(["Go on, I say!", "no"])
    assert lengths.tolist() == [14, 3]
    assert model.tokenizer.decode(tokens[0].tolist()) == "go on, i say!"
    assert tokens[1, 2:].tolist() == [1] + [0] * 11
    with pytest.raises(AuriscopeError, match="no text"):
        model.encode_text("  ")
    with pytest.raises(AuriscopeError, match="'5'"):
        model.encode_text("5 %")
    capitals = tiny(Tacotron2, tokens=("<blank>", "<eos>", *"abAB"), eos_id=None)
    assert capitals.encode_text("aB") == [2, 5]


@pytest.mark.parametrize(
    ("wrong", "line"),
    [({"mel_scale": 0.0}, "mel_scale"), ({"frames_per_step": 0}, "frames_per_step"), ({"voice_dim": -1}, "voice_dim")],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Tacotron2.Config(**wrong)


def test_models_have_the_published_sizes() -> None:
    with torch.device("meta"):
        speechbrains = Tacotron2.from_config({"tokens": symbols(), "eos_id": None})
    assert round(speechbrains.num_parameters / 1e6, 2) == 28.19


def test_frames_before_each_step() -> None:
    mel = torch.arange(1.0, 8.0).reshape(1, 7, 1)
    padded = whole_steps(mel, 3)
    assert padded[0, :, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 0, 0]
    assert frames_before(padded, 3)[0, :, 0].tolist() == [0, 3, 6]
    assert frames_before(mel, 1)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_the_attention_that_knows_where_it_was_is_the_papers() -> None:
    torch.manual_seed(0)
    attention = LocationAttention(7, 6, 5, 4, 3)
    states, state, before = torch.randn(2, 9, 6), torch.randn(2, 7), torch.rand(2, 2, 9)
    hidden = torch.arange(9) >= torch.tensor([[9], [5]])
    memory = Memory(states, attention.key(states), hidden, attention.filters())
    located = attention.of_location(attention.location(before).mT)
    sums = attention.query(state)[:, None] + attention.key(states) + located
    energies = attention.energy(torch.tanh(sums))[..., 0].masked_fill(hidden, -torch.inf)
    torch.testing.assert_close(attention(state, memory, before), energies.softmax(-1))


def test_positions_are_scaled_by_a_learnt_weight() -> None:
    positions = ScaledPositions(0.0)
    with torch.no_grad():
        positions.weight.fill_(0.3)
    x = torch.randn(1, 4, 8)
    torch.testing.assert_close(positions(x, 2), x + 0.3 * sinusoids(2, 4, 8))


@pytest.mark.parametrize("distance", ["squared", "absolute"])
def test_losses_are_means_over_what_is_said(distance: str) -> None:
    model = tiny(Tacotron2, frames_per_step=2, mel_mean=-5.0, mel_scale=2.0)
    mel, frame_lengths = frames(7), torch.tensor([7, 4])
    spoken = Spoken(frames(7, 2), frames(7, 3), torch.linspace(-3, 3, 14).reshape(2, 7), torch.rand(2, 7, 6))
    found = model.losses(
        spoken, mel, TOKEN_LENGTHS, frame_lengths, distance=distance, stop_weight=4.0, guided_weight=0.0
    )
    apart, stop = 0.0, 0.0
    for row, length in enumerate(frame_lengths.tolist()):
        for written in (spoken.mel, spoken.refined):
            difference = ((written - mel) / 2.0)[row, :length]
            apart += float((difference.square() if distance == "squared" else difference.abs()).mean(1).sum())
        # The last step has frame 6 of seven, and frames 2 and 3 of four.
        for place in range(length):
            is_end = place >= (6 if row == 0 else 2)
            probability = spoken.stop_logits[row, place].sigmoid()
            stop -= float(4.0 * probability.log() if is_end else (1.0 - probability).log())
    assert float(found["mel"]) == pytest.approx(apart / 11, rel=1e-5)
    assert float(found["stop"]) == pytest.approx(stop / 11, rel=1e-5)
    assert float(found["loss"]) == pytest.approx((apart + stop) / 11, rel=1e-5)
    assert "guided" not in found


def test_padding_is_not_learnt_from() -> None:
    model = tiny(Tacotron2)
    mel, frame_lengths = frames(8), torch.tensor([8, 5])
    changed = mel.clone()
    changed[1, 5:] += 100.0
    losses = [
        model.losses(model(TOKENS, TOKEN_LENGTHS, each, frame_lengths, VOICE), each, TOKEN_LENGTHS, frame_lengths)[
            "loss"
        ]
        for each in (mel, changed)
    ]
    torch.testing.assert_close(*losses)


def test_cbhg_pools_two_positions_of_every_filter() -> None:
    """The bank of filters alone, against a plain convolution of each width."""
    model = tiny(Tacotron)
    bank = model.encoder.bank
    x = torch.randn(1, 8, 5)
    for width, layer in enumerate(bank, start=1):
        padded = F.pad(x, ((width - 1) // 2, width // 2))
        plain = torch.stack([(padded[0, :, t : t + width] * layer.conv.weight).sum((1, 2)) for t in range(5)], 1)
        torch.testing.assert_close(layer(x)[0], plain / (1 + layer.norm.eps) ** 0.5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames_per_step", [1, 3])
def test_told_where_it_would_look_it_writes_the_same(monkeypatch: pytest.MonkeyPatch, frames_per_step: int) -> None:
    model = tiny(Tacotron2, frames_per_step=frames_per_step)
    mel, frame_lengths = frames(10), torch.tensor([10, 7])
    with torch.no_grad():
        free = model(TOKENS, TOKEN_LENGTHS, mel, frame_lengths, VOICE)
        own = free.attention[:, ::frames_per_step]
        monkeypatch.setattr("auriscope.synthesis.tacotron2.on_tokens", lambda *_: own)
        told = model(TOKENS, TOKEN_LENGTHS, mel, frame_lengths, VOICE, torch.zeros(2, 10))
    for name in ("mel", "refined", "stop_logits", "attention"):
        torch.testing.assert_close(getattr(told, name), getattr(free, name), rtol=1e-5, atol=1e-5)


def test_what_it_is_told_is_shared_by_two_tokens() -> None:
    found = on_tokens(torch.tensor([[0.0, 0.25, 2.5, 9.0]] * 2), 6, torch.tensor([6, 3]))
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 4))
    assert found[0, 1].tolist() == [0.75, 0.25, 0.0, 0.0, 0.0, 0.0]
    assert found[0, 2].tolist() == [0.0, 0.0, 0.5, 0.5, 0.0, 0.0]
    assert found[:, 3].argmax(-1).tolist() == [5, 2]
    assert found[1, :, 3:].sum() == 0


def test_told_where_to_look_the_attention_still_learns() -> None:
    model = tiny(Tacotron2).train()
    mel, paths = frames(12), torch.linspace(0, 4, 12).expand(2, -1)
    lengths = torch.tensor([12, 12])
    spoken = model(TOKENS, TOKEN_LENGTHS, mel, lengths, VOICE, paths)
    told = on_tokens(paths[:, 1::2], 6, TOKEN_LENGTHS).repeat_interleave(2, 1)
    asked = (spoken.attention - told).abs().amax((0, 2)) > 1e-6
    # One in four of the six steps of two frames, from the first to the fourth on.
    assert int(asked.sum()) in (2, 4)
    losses = model.losses(spoken, mel, TOKEN_LENGTHS, lengths, paths=paths)
    losses["guided"].backward()
    assert model.attention.query.weight.grad.abs().sum() > 0
    assert model.write.weight.grad is None


def test_a_temperature_shares_the_attention_when_speaking_alone() -> None:
    sure, shared = tiny(Tacotron2), tiny(Tacotron2, speaking_temperature=3.0)
    shared.load_state_dict(sure.state_dict())
    for model in (sure, shared):
        # Random weights are sure of nothing.
        model.attention.energy.weight.data.mul_(50.0)
    told = [model(TOKENS, TOKEN_LENGTHS, frames(8), None, VOICE).attention for model in (sure, shared)]
    torch.testing.assert_close(*told)
    looks = [
        model.step(torch.zeros(2, 10), model.begin(TOKENS, TOKEN_LENGTHS, VOICE))[2].double()
        for model in (sure, shared)
    ]
    valid = TOKENS > 0
    expected = torch.where(valid, looks[0] ** (1 / 3), 0.0)
    torch.testing.assert_close(looks[1], expected / expected.sum(-1, keepdim=True), rtol=1e-4, atol=1e-6)
    with pytest.raises(AuriscopeError, match="speaking_temperature must be positive"):
        tiny(Tacotron2, speaking_temperature=0.0)


def test_at_the_end_of_the_text_it_rests_but_for_so_long() -> None:
    """A model that never says that it has ended, and reads a token every second step."""

    class Reader(Tacotron2):
        def step(self, frame: Tensor, state: Any, generator: torch.Generator | None = None) -> Any:
            inner, number = state
            frames, _, _, inner = super().step(frame, inner, generator)
            place = torch.full((len(frame),), min(number // 2, 5))
            place = torch.minimum(place, TOKEN_LENGTHS - 1)
            return frames, torch.full((len(frame),), -9.0), F.one_hot(place, 6).float(), (inner, number + 1)

        def begin(self, *arguments: Any) -> Any:
            return super().begin(*arguments), 0

    torch.manual_seed(0)
    mel = MelConfig(num_mels=10)
    resting = Reader.from_config(Tacotron2.Tiny | {"mel": mel, "rest_seconds": 8 * mel.frame_seconds + 1e-6}).eval()
    said = resting.generate(TOKENS, TOKEN_LENGTHS, VOICE, max_seconds=1.0)
    # Steps of two frames; the last two tokens are looked at from steps 8 and 4 on, and four steps are a rest.
    assert said.frame_lengths.tolist() == [2 * (8 + 5 - 2), 2 * (4 + 5 - 2)]
    assert said.stopped.tolist() == [True, True]
    assert said.mel.shape[1] == 2 * 13
    restless = Reader.from_config(Tacotron2.Tiny | {"mel": mel}).eval()
    said = restless.generate(TOKENS, TOKEN_LENGTHS, VOICE, max_seconds=1.0)
    assert said.stopped.tolist() == [False, False]
