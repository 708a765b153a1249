"""Recognisers in the layout of transformers, saved by transformers itself: the same logits and the same texts."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from torch import Tensor

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.pretrained import load
from auriscope.recognition.decoding import DecodingOptions, decode
from auriscope.recognition.greedy import transcripts
from auriscope.recognition.wav2vec2 import Wav2Vec2, span_mask

transformers = pytest.importorskip("transformers")

SYMBOLS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
LARGE = {**SMALL, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def noise(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(lengths))
    return [0.3 * torch.randn(length, generator=generator) + 0.1 for length in lengths]


def save_wav2vec2(folder: Path, masked: bool = False, **changes: Any) -> tuple[Any, Any]:
    """Save a random Wav2Vec2ForCTC with its processor, and give both."""
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**{**SMALL, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Norms start at ones and biases at zeros: what would hide a weight that went to the wrong place.
            parameter.add_(0.1 * torch.randn_like(parameter) * (1 if parameter.ndim == 1 else parameter.std()))
        model.lm_head.weight.mul_(30)
    model.save_pretrained(folder)
    vocabulary = folder / "symbols.json"
    vocabulary.write_text(json.dumps({symbol: number for number, symbol in enumerate(SYMBOLS)}))
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masked)
    processor = transformers.Wav2Vec2Processor(extractor, transformers.Wav2Vec2CTCTokenizer(str(vocabulary)))
    processor.save_pretrained(folder)
    return model, processor


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Wav2Vec2ForCTC, to be read only."""
    folder = tmp_path_factory.mktemp("saved")
    save_wav2vec2(folder)
    return folder


@pytest.mark.parametrize("kind", ["base", "large", "old"])
def test_wav2vec2_gives_the_logits_and_the_text_of_transformers(kind: str, tmp_path: Path) -> None:
    masked = kind == "large"
    theirs, processor = save_wav2vec2(tmp_path, masked, **(LARGE if masked else SMALL))
    if kind == "old":
        weights = theirs.state_dict()
        old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        for new, name in old.items():
            key = f"wav2vec2.encoder.pos_conv_embed.conv.{new}"
            weights[key.replace(new, name)] = weights.pop(key)
        torch.save(weights, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    model = load(tmp_path)
    assert isinstance(model, Wav2Vec2)
    assert (model.name, model.maskable, model.tokenizer.blank_id) == ("recognition/wav2vec2", masked, 0)
    waveforms = noise(9000, 9000 if not masked else 5300)
    inputs = processor([each.numpy() for each in waveforms], sampling_rate=16_000, return_tensors="pt", padding=True)
    waveform = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    lengths = torch.tensor([len(each) for each in waveforms])
    with torch.no_grad():
        expected = theirs(**inputs).logits
        logits = model(waveform, lengths)
    assert expected.std() > 0.5
    found = transcripts(model, waveform, lengths)
    options = DecodingOptions(search="tokens", word_times=False)
    assert len(decode(model, waveform, lengths, options=options)) == 2
    for row, number in enumerate(model.num_frames(lengths).tolist()):
        torch.testing.assert_close(logits[row, :number], expected[row, :number], atol=1e-5, rtol=1e-5)
        text = processor.decode(expected[row, :number].argmax(-1), skip_special_tokens=True)
        assert len(text) > 5
        assert found[row] == " ".join(text.split())


def test_a_hub_address_brings_the_weights_once(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def snapshot_download(repository: str, *, allow_patterns: list[str], **options: Any) -> str:
        asked.extend(allow_patterns)
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load("hf://facebook/wav2vec2-base-960h").name == "recognition/wav2vec2"
    assert {"model.safetensors", "vocab.json", "preprocessor_config.json"} <= set(asked)
    assert "pytorch_model.bin" not in asked


def test_saved_as_ours_it_stays_the_same(saved: Path, tmp_path: Path) -> None:
    model = load(saved)
    model.save_pretrained(tmp_path / "ours")
    again = load(tmp_path / "ours")
    waveform = torch.stack(noise(4000))
    assert again.config == model.config
    with torch.no_grad():
        assert torch.equal(again(waveform), model(waveform))


def test_a_pretrained_network_without_a_head_is_ready_to_be_fine_tuned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL)).save_pretrained(tmp_path)
    model = load(tmp_path)
    assert isinstance(model, Wav2Vec2)
    assert model.tokenizer.decode([5, 6, 7, 4, 5]) == "ETA E"
    assert not model.head.weight.any()


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("vocab.json", None, "it has no vocab.json"),
        ("vocab.json", '{"en": {"A": 0}}', "the token 'en' has no number"),
        ("vocab.json", '{"A": 77}', "the token 'A' has number 77, and the network writes 32"),
        ("vocab.json", '{"A": ', "not valid JSON"),
        ("config.json", {"adapter_attn_dim": 16}, "a wav2vec 2.0 with adapter_attn_dim cannot be loaded"),
        ("config.json", {"hidden_size": "24"}, "hidden_size is 24, which it cannot be"),
        ("config.json", {"hidden_size": 48}, "has shape"),
        ("config.json", {"num_attention_heads": 5}, "must be a multiple of num_heads"),
        ("config.json", {"pad_token_id": 40}, "pad_token_id is 40"),
        ("model.safetensors", None, "it has no model.safetensors or pytorch_model.bin"),
        ("model.safetensors", "nothing", "not a valid safetensors file"),
    ],
)
def test_a_damaged_folder_is_one_line(name: str, content: Any, line: str, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    path = tmp_path / name
    if content is None:
        path.unlink()
    else:
        values = json.loads(path.read_text()) | content if isinstance(content, dict) else content
        path.write_text(values if isinstance(values, str) else json.dumps(values))
    with pytest.raises(CheckpointError, match=line) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_without_transformers_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(AuriscopeError, match=r"auriscope\[hf\]"):
        Wav2Vec2.from_config(Wav2Vec2.Tiny)


def trained(changes: dict[str, Any], num_batches: int, freeze: tuple[Any, ...] = ()) -> tuple[Wav2Vec2, list[set[str]]]:
    """Train a tiny network, and tell which of its parts learnt from each batch."""
    torch.manual_seed(0)
    model = Wav2Vec2.from_config({**Wav2Vec2.Tiny, **changes}).train()
    if freeze:
        model.freeze(*freeze)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    learnt = []
    for _ in range(num_batches):
        before = {name: parameter.clone() for name, parameter in model.named_parameters()}
        batch_losses(model)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
        learnt.append({name.split(".")[1] if name.startswith("network") else name.split(".")[0] for name in moved})
    return model, learnt


def batch_losses(model: Wav2Vec2) -> dict[str, Tensor]:
    waveform = torch.nn.utils.rnn.pad_sequence(noise(9600, 6400), batch_first=True)
    encoded = model.encode(waveform, torch.tensor([9600, 6400]))
    tokens = torch.tensor([[5, 6, 7, 7], [8, 5, 0, 0]])
    return model.losses(encoded, tokens, torch.tensor([4, 2]))


HEAD, REST = {"head", "layer_logits"}, {"feature_projection", "encoder"}


def test_the_head_learns_first_then_the_transformer_and_the_convolutions_never() -> None:
    model, learnt = trained({"freeze_features": True, "freeze_encoder_batches": 2}, 4)
    assert learnt == [HEAD, HEAD, HEAD | REST, HEAD | REST]
    assert (model.frozen, int(model.batches)) == ("features", 4)


def test_stages_are_begun_by_hand_and_kept(tmp_path: Path) -> None:
    _, learnt = trained({}, 2, ("nothing",))
    assert learnt[0] == HEAD | REST | {"feature_extractor"}
    model, learnt = trained({}, 3, ("encoder", 2))
    assert learnt == [HEAD, HEAD, HEAD | REST | {"feature_extractor"}]
    model.freeze("encoder", 5)
    batch_losses(model)
    model.save_pretrained(tmp_path)
    again = load(tmp_path).train()
    assert isinstance(again, Wav2Vec2)
    assert (again.frozen, again.config.freeze_encoder_batches, int(again.batches)) == ("encoder", 5, 1)
    again.freeze("features")
    assert again.frozen == "features"
    with pytest.raises(ValueError, match="stage"):
        again.freeze("head")  # type: ignore[arg-type]


def test_the_layers_are_averaged_with_weights_that_sum_to_one(tmp_path: Path) -> None:
    theirs, _ = save_wav2vec2(tmp_path)
    model = load(tmp_path)
    values = {**vars(model.config), "layer_average": True}
    averaged = Wav2Vec2.from_config(values).eval()
    averaged.load_state_dict({**model.state_dict(), "layer_logits": torch.tensor([0.3, -1.0, 2.0])})
    waveform = torch.stack(noise(5000))
    with torch.no_grad():
        normalized = model.features(waveform)[0][..., 0]
        hidden = theirs.wav2vec2(normalized, output_hidden_states=True).hidden_states
        weights = torch.tensor([0.3, -1.0, 2.0]).softmax(0)
        expected = sum(weight * each for weight, each in zip(weights, hidden, strict=True))
        torch.testing.assert_close(averaged.encode(waveform).states, expected, atol=1e-5, rtol=1e-5)


def test_recordings_that_cannot_be_masked_give_what_each_gives_alone(saved: Path) -> None:
    model = load(saved)
    assert isinstance(model, Wav2Vec2)
    waveforms = noise(6000, 4100, 6000, 7300)
    waveform = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=9.0)
    with torch.no_grad():
        together = model.encode(waveform, torch.tensor([len(each) for each in waveforms]))
        for row, each in enumerate(waveforms):
            alone = model.encode(each[None])
            number = alone.states.shape[1]
            assert together.frame_lengths[row] == alone.frame_lengths[0] == number
            torch.testing.assert_close(together.states[row, :number], alone.states[0], atol=1e-5, rtol=1e-5)
            assert not together.states[row, number:].any()


def test_masks_cover_their_share_in_stretches_within_the_recording() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([400, 100, 3]).repeat_interleave(50)
    mask = span_mask(lengths, 400, 0.2, 10)
    assert not (mask & (torch.arange(400) >= lengths[:, None].clamp_min(10))).any()
    # Eight stretches of ten frames among 400 meet each other now and then.
    assert 0.15 < mask[:50].float().mean() < 0.2
    assert 0.13 < mask[50:100, :100].float().mean() < 0.2
    ends = (mask[:, 1:] != mask[:, :-1]).nonzero()
    assert len(ends) > 300
    assert not span_mask(lengths, 400, 0.0, 10).any()
