"""Every model that writes token by token: one by one for a beam gives what teacher forcing gives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from auriscope.pretrained import list_architectures, model_class
from auriscope.recognition import LAS, RNNLM, Joint, MeanContext, Recognizer, RNNLMConfig
from auriscope.recognition.language_model import LanguageModel
from auriscope.recognition.recognizer import Encoded

CLASSES = [model_class(name) for name in list_architectures() if name.startswith("recognition/")]
DECODERS = [cls for cls in CLASSES if issubclass(cls, Recognizer) and cls.has_decoder]
LANGUAGE_MODELS = [cls for cls in CLASSES if issubclass(cls, LanguageModel) and not cls.fitted]
BATCH, BEAM, LENGTHS = 3, 4, (9600, 4000, 1500)


def _tiny(cls: type) -> torch.nn.Module:
    torch.manual_seed(0)
    model: torch.nn.Module = cls.from_config(cls.Tiny).eval()
    return model


def _encoded(model: Recognizer) -> Encoded:
    waveform = 0.1 * torch.randn(BATCH, max(LENGTHS), generator=torch.Generator().manual_seed(1))
    if not model.maskable:
        return model.encode(waveform)
    return model.encode(waveform, torch.tensor(LENGTHS))


def _repeated(encoded: Encoded, beam: int) -> Encoded:
    return encoded.keep(torch.arange(len(encoded.states)).repeat_interleave(beam))


@pytest.mark.parametrize("cls", DECODERS, ids=lambda cls: cls.name)
@torch.no_grad()
def test_recognisers_step_as_they_are_taught(cls: type[Recognizer]) -> None:
    """Beams are reordered after every token, and an utterance that is done is dropped half-way."""
    model = _tiny(cls)
    assert isinstance(model, Recognizer)
    encoded = _encoded(model)
    state = model.start(encoded, BEAM)
    generator = torch.Generator().manual_seed(2)
    prefixes = torch.zeros(BATCH, BEAM, 0, dtype=torch.int64)
    for step in range(8):
        if step == 5:
            kept = torch.tensor([2, 0])
            state, encoded, prefixes = model.keep(state, kept), encoded.keep(kept), prefixes[kept]
        shape = prefixes.shape[:2]
        tokens = torch.randint(len(model.tokenizer), shape, generator=generator)
        tokens = torch.full_like(tokens, model.tokenizer.bos_id) if step == 0 else tokens
        prefixes = torch.cat((prefixes, tokens[..., None]), 2)
        log_probs, state, attention = model.step(tokens, state)
        logits = model.decoder_logits(_repeated(encoded, BEAM), prefixes.flatten(0, 1))
        expected = logits[:, -1].float().log_softmax(-1).unflatten(0, shape)
        torch.testing.assert_close(log_probs, expected, rtol=1e-4, atol=1e-5)
        if attention is not None:
            assert attention.shape == (*shape, encoded.states.shape[1])
            torch.testing.assert_close(attention.sum(-1), torch.ones(shape))
            for row, length in enumerate(encoded.frame_lengths.tolist()):
                assert not attention[row, :, length:].any()
        parents = torch.randint(BEAM, shape, generator=generator)
        state = model.select(state, parents)
        prefixes = prefixes.gather(1, parents[..., None].expand_as(prefixes))


@pytest.mark.parametrize("cls", LANGUAGE_MODELS, ids=lambda cls: cls.name)
@torch.no_grad()
def test_language_models_step_as_they_read(cls: type[LanguageModel]) -> None:
    model = _tiny(cls)
    assert isinstance(model, LanguageModel)
    state = model.start(BATCH, BEAM, torch.device("cpu"))
    generator = torch.Generator().manual_seed(2)
    prefixes = torch.zeros(BATCH, BEAM, 0, dtype=torch.int64)
    for step in range(8):
        if step == 5:
            kept = torch.tensor([2, 0])
            state, prefixes = model.keep(state, kept), prefixes[kept]
        shape = prefixes.shape[:2]
        tokens = torch.randint(len(model.tokenizer), shape, generator=generator)
        prefixes = torch.cat((prefixes, tokens[..., None]), 2)
        log_probs, state = model.step(tokens, state)
        expected = model(prefixes.flatten(0, 1))[:, -1].float().log_softmax(-1).unflatten(0, shape)
        torch.testing.assert_close(log_probs, expected, rtol=1e-4, atol=1e-5)
        parents = torch.randint(BEAM, shape, generator=generator)
        state = model.select(state, parents)
        prefixes = prefixes.gather(1, parents[..., None].expand_as(prefixes))


def _without_attention(model: Recognizer, encoded: Encoded, tokens: Tensor) -> Tensor:
    mixed = encoded.states.flip(1)
    return model.decoder_logits(Encoded(mixed, encoded.frame_lengths, encoded.frame_seconds), tokens)


@torch.no_grad()
def test_only_the_mean_context_does_not_hear_what_comes_first() -> None:
    """Frames in reverse order are the same to a mean; a transformer's positions and a pyramid's states tell."""
    tokens = torch.tensor([[1, 5, 6]])
    encoded = Encoded(torch.randn(1, 12, 16), torch.tensor([12]), 0.04)
    mean = _tiny(MeanContext)
    assert isinstance(mean, MeanContext)
    torch.testing.assert_close(_without_attention(mean, encoded, tokens), mean.decoder_logits(encoded, tokens))
    features, lengths = torch.randn(1, 24, 20), torch.tensor([24])
    las = _tiny(LAS)
    assert isinstance(las, LAS)
    forward = las.encode_features(features, lengths).states
    backward = las.encode_features(features.flip(1), lengths).states
    assert (forward.mean(1) - backward.mean(1)).abs().max() > 1e-3


@torch.no_grad()
def test_las_attends_by_inner_products_of_two_networks() -> None:
    """Equations 9 to 11 of the paper, written out for one token."""
    model = _tiny(LAS)
    assert isinstance(model, LAS)
    encoded = _encoded(model)
    state = model.start(encoded, 1)
    first = torch.full((BATCH, 1), 1)
    read = torch.cat((model.embedding(first), torch.zeros(BATCH, 1, encoded.states.shape[2])), -1)
    speller, _ = model.speller(read)
    _, state, attention = model.step(first, state)
    for row, length in enumerate(encoded.frame_lengths.tolist()):
        energies = torch.stack(
            [model.of_state(speller[row, 0]) @ model.of_frame(encoded.states[row, u]) for u in range(length)]
        ) / math.sqrt(model.config.attention_size)
        alpha = energies.exp() / energies.exp().sum()
        torch.testing.assert_close(attention[row, 0, :length], alpha, rtol=1e-4, atol=1e-6)
        context = sum(alpha[u] * encoded.states[row, u] for u in range(length))
        torch.testing.assert_close(state.context[row, 0], context, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_every_layer_of_the_pyramid_halves_the_time(layers: int) -> None:
    model = LAS.from_config({**LAS.Tiny, "num_pyramid_layers": layers})
    for frames in (1, 16, 17, 23):
        features, lengths = torch.randn(2, frames, 20), torch.tensor([frames, max(1, frames - 5)])
        encoded = model.encode_features(features, lengths)
        assert encoded.frame_lengths.tolist() == [-(-int(length) // 2**layers) for length in lengths]
        assert encoded.states.shape == (2, -(-frames // 2**layers), 16)
        assert encoded.frame_seconds == pytest.approx(0.01 * 2**layers)


def test_las_samples_what_it_reads_in_training_only() -> None:
    model = LAS.from_config({**LAS.Tiny, "sampling_probability": 0.5})
    encoded, tokens = _encoded(model), torch.randint(2, 28, (BATCH, 12))
    assert torch.equal(model.eval().decoder_logits(encoded, tokens), model.decoder_logits(encoded, tokens))
    model.train()
    first, second = model.decoder_logits(encoded, tokens), model.decoder_logits(encoded, tokens)
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.equal(first[:, -1], second[:, -1])
    with pytest.raises(ValueError, match="must lie in"):
        LAS.Config(sampling_probability=1.0)


def test_joint_loss_is_both_by_their_weight() -> None:
    model = _tiny(Joint)
    assert isinstance(model, Joint)
    encoded, tokens, lengths = _encoded(model), torch.tensor([[2, 3, 4], [5, 6, 0], [7, 0, 0]]), torch.tensor([3, 2, 1])
    losses = model.losses(encoded, tokens, lengths, ctc_weight=0.2)
    torch.testing.assert_close(losses["loss"], 0.2 * losses["ctc"] + 0.8 * losses["decoder"])


@pytest.mark.parametrize(
    ("name", "config", "millions"),
    [
        # SpeechBrain's RNN language model for LibriSpeech: 53.1 M with its 1000 pieces.
        ("recognition/rnn-lm", {"tokens": tuple(map(str, range(1000)))}, 53.1),
    ],
)
def test_published_sizes(name: str, config: dict[str, tuple[str, ...]], millions: float) -> None:
    with torch.device("meta"):
        model = model_class(name).from_config(config)
    assert model.num_parameters / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.usefixtures("lstm_in_bfloat16")
def test_mixed_precision_trains_every_decoder() -> None:
    for cls in DECODERS:
        model = cls.from_config(cls.Tiny).train()
        if not model.maskable:
            continue
        with torch.autocast("cpu", torch.bfloat16):
            losses = model.losses(_encoded(model), torch.tensor([[2, 3]] * BATCH), torch.tensor([2] * BATCH))
        losses["loss"].backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        RNNLM(RNNLMConfig(**RNNLM.Tiny)).losses(torch.tensor([[2, 3]]), torch.tensor([2]))["loss"].backward()
