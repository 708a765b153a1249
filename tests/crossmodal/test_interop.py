"""Published models of sounds and texts: what transformers computes with the same weights, ours do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auriscope.crossmodal import LaionCLAP
from auriscope.crossmodal.interop import MICROSOFT_NAME, audio_weights, recognise
from auriscope.crossmodal.roberta import BEGIN, END, PADDING
from auriscope.crossmodal.windows import embed_recording, embed_windows, fill_up, window_frames
from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.nn.htsat import HTSAT, HTSATConfig
from auriscope.pretrained import load
from auriscope.text.bytelevel import BYTES

transformers = pytest.importorskip("transformers", reason="needs the library transformers")

TOKENS = (BEGIN, PADDING, END, "<unk>", *BYTES, "Ġr", "ai", "in", "<mask>")
MERGES = ("Ġ r", "a i", "i n")
TEXTS = ["rain on a roof", "  Two  dogs, bark! é", "it's raining", "x"]
SIZE = 32_000


def _drawn(model: Any) -> Any:
    """Weights and statistics that make outputs differ from one input to the next, as those of training do."""
    generator = torch.Generator().manual_seed(1)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if "batch_norm.running" in name:
            value.data.fill_(-30.0 if name.endswith("mean") else 200.0)  # what decibels have
        elif name.endswith("running_var"):
            value.data.uniform_(0.5, 2.0, generator=generator)
        elif value.dtype.is_floating_point and value.dim():
            scale = 2.0 * value[0].numel() ** -0.5 if value.dim() > 1 else 0.3
            value.data.normal_(std=scale, generator=generator)
            if value.dim() == 1 and name.endswith("weight"):
                value.data += 1.0
    return model.eval()


def _published(folder: Path, *, fuses: bool) -> Path:
    config = transformers.ClapConfig(
        audio_config={
            "enable_fusion": fuses,
            "fusion_type": "aff_2d" if fuses else None,
            "spec_size": 128,
            "patch_embeds_hidden_size": 16,
            "depths": [2, 2, 2],
            "num_attention_heads": [2, 2, 4],
            "hidden_size": 64,
        },
        text_config={
            "vocab_size": len(TOKENS),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 50,
        },
        projection_dim=24,
    )
    _drawn(transformers.ClapModel(config)).save_pretrained(folder)
    transformers.ClapFeatureExtractor(
        sampling_rate=16_000,
        hop_length=160,
        max_length_s=2,
        fft_window_size=512,
        frequency_min=50,
        frequency_max=7000,
        truncation="fusion" if fuses else "rand_trunc",
    ).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(TOKENS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Small CLAPs as LAION publishes them, with and without fusion."""
    return {fuses: _published(tmp_path_factory.mktemp("clap"), fuses=fuses) for fuses in (False, True)}


@pytest.fixture
def edited(folders: dict[bool, Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of the one without fusion, in which a file says something else."""

    def edit(name: str, part: str | None = None, **values: Any) -> Path:
        for file in folders[False].iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        content = json.loads((tmp_path / name).read_text())
        (content if part is None else content[part]).update(values)
        (tmp_path / name).write_text(json.dumps(content))
        return tmp_path

    return edit


def _ours(folder: Path) -> LaionCLAP:
    model = load(folder)
    assert isinstance(model, LaionCLAP)
    return model


def _heard(folder: Path, waveform: Tensor, *, longer: bool) -> tuple[Tensor, Tensor]:
    """Features and embedding of a waveform (batch, time) as transformers has them."""
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    model = transformers.ClapModel.from_pretrained(folder).eval()
    features = extractor(list(waveform.numpy()), sampling_rate=16_000, return_tensors="pt")["input_features"].float()
    # Their extractor says of a batch of short sounds that one of them, drawn at random, is longer.
    is_longer = torch.full((len(waveform), 1), longer)
    with torch.no_grad():
        return features, model.get_audio_features(features, is_longer=is_longer).pooler_output


def _sounds(batch: int, time: int) -> Tensor:
    generator = torch.Generator().manual_seed(time)
    tones = torch.sin(torch.arange(time) * torch.linspace(0.03, 0.9, batch)[:, None])
    return 0.05 * torch.randn(batch, time, generator=generator) + 0.2 * tones


@torch.no_grad()
@pytest.mark.parametrize("fuses", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("time", [SIZE, 25_000, 9000])
def test_sounds_are_heard_as_transformers_hears_them(fuses: bool, time: int, folders: dict[bool, Path]) -> None:
    model, waveform = _ours(folders[fuses]), _sounds(3, time)
    features, embedding = _heard(folders[fuses], waveform, longer=False)
    heard, pieces = model.features(fill_up(waveform, torch.tensor([time] * 3), SIZE, model.fill))
    assert pieces is None
    torch.testing.assert_close(heard, features[:, 0], rtol=0, atol=1e-3)  # decibels
    torch.testing.assert_close(model.embed_audio(waveform), embedding, rtol=0, atol=2e-6)
    assert float(embedding.std(0).mean()) > 1e-3, "the sounds must differ for the comparison to mean anything"


@torch.no_grad()
@pytest.mark.parametrize("time", [SIZE + 100, SIZE + 160, SIZE + 480, 40_000, 70_000])
def test_fusion_is_that_of_transformers_with_pieces_from_the_middle_of_each_third(
    time: int, folders: dict[bool, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np.random, "choice", lambda places: places[len(places) // 2])
    model, waveform = _ours(folders[True]), _sounds(2, time)
    longer = time >= SIZE + 160
    features, embedding = _heard(folders[True], waveform, longer=longer)
    heard, pieces = model.features(waveform)
    assert (pieces is not None) == longer
    # Shrunk, front, middle, back.
    torch.testing.assert_close(heard, features[:, 0], rtol=0, atol=1e-3)
    if pieces is not None:
        torch.testing.assert_close(pieces, features[:, 1:], rtol=0, atol=1e-3)
        without = model.encode_features(heard)
        assert float((without - model.encode_features(heard, pieces)).abs().max()) > 0.01
    torch.testing.assert_close(model.embed_audio(waveform), embedding, rtol=0, atol=2e-6)


@torch.no_grad()
def test_texts_are_read_as_transformers_reads_them(folders: dict[bool, Path]) -> None:
    folder = folders[False]
    model = _ours(folder)
    numbers = {token: number for number, token in enumerate(TOKENS)}
    tokenizer = transformers.RobertaTokenizer(vocab=numbers, merges=[tuple(pair.split()) for pair in MERGES])
    told = tokenizer(TEXTS, padding=True, return_tensors="pt")
    tokens, token_lengths = model.tokenize(TEXTS)
    assert torch.equal(tokens, told["input_ids"])
    assert torch.equal(token_lengths, told["attention_mask"].sum(1))
    theirs = transformers.ClapModel.from_pretrained(folder).eval()
    embedding = theirs.get_text_features(told["input_ids"], told["attention_mask"]).pooler_output
    torch.testing.assert_close(model.embed_text(TEXTS), embedding, rtol=0, atol=2e-6)
    assert float(embedding.std(0).mean()) > 1e-3, "the texts must differ for the comparison to mean anything"
    torch.testing.assert_close(model.logit_scale, theirs.logit_scale_a.exp().clamp(max=100.0))


@torch.no_grad()
def test_the_audio_encoder_is_transformers_of_the_published_size() -> None:
    config = transformers.ClapAudioConfig()
    theirs = _drawn(transformers.ClapAudioModel(config))
    ours = HTSAT(HTSATConfig()).eval()
    assert sum(weight.numel() for weight in theirs.parameters()) == sum(weight.numel() for weight in ours.parameters())
    ours.load_state_dict(audio_weights(theirs.state_dict()))
    features = 20.0 * torch.randn(1, 1001, 64, generator=torch.Generator().manual_seed(2)) - 30.0
    expected = theirs(features[:, None]).pooler_output
    torch.testing.assert_close(ours(features), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("fuses", [False, True], ids=["unfused", "fused"])
def test_a_sound_is_the_same_alone_in_a_batch_and_the_next_time(fuses: bool, folders: dict[bool, Path]) -> None:
    model, waveform = _ours(folders[fuses]), _sounds(4, 70_000)
    assert window_frames(model) == SIZE
    alone, _ = embed_windows(model, waveform[0])
    again, _ = embed_windows(_ours(folders[fuses]), waveform[0])
    assert torch.equal(alone, again)
    together = model.embed_audio(waveform[:, :SIZE])
    assert float((together[0] - alone[0]).abs().max()) < 1e-5
    lengths = torch.tensor([SIZE, 500, 12_000, 30_000])
    padded = model.embed_audio(waveform[:, :SIZE], lengths)
    for row, length, own in zip(waveform, lengths.tolist(), padded, strict=True):
        assert float((own - embed_recording(model, row[:length])).abs().max()) < 1e-5
    if fuses:
        whole = model.embed_audio(waveform)
        lengths = torch.tensor([70_000, 20_000, 33_000, SIZE])
        some = model.embed_audio(waveform, lengths)
        for row, length, own in zip(waveform, lengths.tolist(), some, strict=True):
            torch.testing.assert_close(own, model.embed_audio(row[None, :length])[0])
        torch.testing.assert_close(some[0], whole[0])
    else:
        with pytest.raises(AuriscopeError, match=r"4\.4 s are longer than the 2 s"):
            model.embed_audio(waveform)


def test_features_may_be_described_with_the_rest_of_the_processor(edited: Callable[..., Path]) -> None:
    folder = edited("config.json")
    config = _ours(folder).config
    said = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": said}))
    assert _ours(folder).config == config
    assert (config.filters, config.fill, config.max_hz) == ("slaney", "repeat_whole", 7000.0)


def test_texts_end_where_places_end_and_need_a_word(folders: dict[bool, Path]) -> None:
    model = _ours(folders[False])
    tokens, token_lengths = model.tokenize(["rain " * 100, "rain"])
    assert token_lengths.tolist() == [48, 5]
    assert tokens[:, 0].tolist() == [TOKENS.index(BEGIN)] * 2
    assert tokens[0, -1] == TOKENS.index(END)
    assert torch.isfinite(model.embed_tokens(tokens, token_lengths)).all()
    with pytest.raises(AuriscopeError, match="has no word"):
        model.tokenize(["rain", "?!"])


def test_a_published_model_is_saved_as_one_of_ours(folders: dict[bool, Path], tmp_path: Path) -> None:
    model = _ours(folders[True])
    model.save_pretrained(tmp_path)
    again = _ours(tmp_path)
    assert again.config == model.config
    assert torch.equal(again.embed_audio(_sounds(1, 50_000)), model.embed_audio(_sounds(1, 50_000)))


@pytest.mark.parametrize(
    ("name", "part", "values", "says"),
    [
        ("config.json", "audio_config", {"enable_fusion": True, "fusion_type": "aff_1d"}, "fusion_type is 'aff_1d'"),
        ("config.json", "audio_config", {"patch_stride": [2, 2]}, "patch_stride"),
        ("config.json", "audio_config", {"depths": [2, 2]}, "num_layers and num_heads|has an unknown weight"),
        ("config.json", "audio_config", {"spec_size": 100}, "image_size must be a multiple"),
        ("config.json", "text_config", {"hidden_act": "relu"}, "hidden_act is 'relu', and must be 'gelu'"),
        ("config.json", None, {"projection_hidden_act": "gelu"}, "projection_hidden_act"),
        ("config.json", None, {"projection_dim": "many"}, "projection_dim is many, which it cannot be"),
        ("preprocessor_config.json", None, {"truncation": "fusion"}, "does not go with the network's fusion"),
        ("preprocessor_config.json", None, {"padding": "mirror"}, "'mirror' are none that can be loaded"),
        ("preprocessor_config.json", None, {"top_db": 80}, "top_db is 80"),
        ("preprocessor_config.json", None, {"max_length_s": 20}, "does not fit into an image"),
        ("vocab.json", None, {"zebra": 999}, "zebra"),
    ],
)
def test_what_cannot_be_loaded_is_said(
    name: str, part: str | None, values: dict[str, Any], says: str, edited: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointError, match=says):
        load(edited(name, part, **values))


@pytest.mark.parametrize("missing", ["preprocessor_config.json", "vocab.json", "merges.txt", "model.safetensors"])
def test_a_missing_file_is_said(missing: str, edited: Callable[..., Path]) -> None:
    folder = edited("config.json")
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=f"has no {missing}"):
        load(folder)


def test_a_folder_of_another_kind_is_left_to_others(tmp_path: Path) -> None:
    assert recognise(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    assert recognise(tmp_path) is None


def test_a_damaged_file_of_microsoft_is_said(tmp_path: Path) -> None:
    (tmp_path / MICROSOFT_NAME).write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="not a file of weights"):
        load(tmp_path)
