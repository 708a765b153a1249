"""Whisper in the layout of transformers, saved by transformers itself: the same logits, tokens and texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.pretrained import load
from auriscope.recognition.decoding import DecodingOptions, decode
from auriscope.recognition.greedy import greedy_decoder
from auriscope.recognition.whisper import BEGIN, END, NO_TIMES, Whisper

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

TEXTS = ["she said hello to the world, and then went home", "how are you? Fünf Äpfel", "the end of the day"]
LANGUAGES = ["en", "de", "haw"]
SPECIAL = [END, BEGIN, *(f"<|{each}|>" for each in LANGUAGES), "<|translate|>", "<|transcribe|>", NO_TIMES]
SECONDS = 1.2


def train_tokenizer(path: Path) -> Any:
    """A small byte-level tokenizer with Whisper's special tokens, of the library tokenizers."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([f" {text}" for text in TEXTS], trainer)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(path))
    return tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A folder with a random Whisper, to be read only; transformers' own model, and its tokenizer."""
    folder = tmp_path_factory.mktemp("whisper")
    tokenizer = train_tokenizer(folder / "tokenizer.json")
    number = tokenizer.token_to_id
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=32,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_source_positions=round(50 * SECONDS),
        max_target_positions=40,
        pad_token_id=number(END),
        bos_token_id=number(END),
        eos_token_id=number(END),
        decoder_start_token_id=number(BEGIN),
    )
    model = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Small weights and zero biases would hide one that went to the wrong place.
            parameter.mul_(1.0 if parameter.ndim == 1 or "positions" in name else 6.0)
            parameter.add_(0.1 * torch.randn_like(parameter) * (1 if parameter.ndim == 1 else parameter.std()))
        # Positions that differ much, so that greedy decoding does not write one token for ever.
        model.model.decoder.embed_positions.weight.copy_(torch.randn(40, 32))
    for name, value in {
        "is_multilingual": True,
        "lang_to_id": {f"<|{each}|>": number(f"<|{each}|>") for each in LANGUAGES},
        "task_to_id": {each: number(f"<|{each}|>") for each in ("translate", "transcribe")},
        "no_timestamps_token_id": number(NO_TIMES),
        "suppress_tokens": [*map(number, SPECIAL[1:]), 5, 6, 7],
        "begin_suppress_tokens": [number("Ġ"), number(END)],
        "alignment_heads": [[1, 0], [2, 3], [2, 1]],
        "return_timestamps": False,
        "max_length": 40,
    }.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(chunk_length=1).save_pretrained(folder)
    return folder, model, tokenizer


def recordings() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    moment = torch.arange(18_000) / 16_000
    pitch = torch.tensor([[150.0], [330.0], [700.0]])
    waveform = 0.3 * torch.sin(2 * torch.pi * pitch * moment * (1 + moment)) + 0.02 * torch.randn(
        3, 18_000, generator=generator
    )
    return waveform, torch.tensor([18_000, 12_345, 7000])


def transformers_features(waveform: Tensor, lengths: Tensor) -> Tensor:
    extractor = transformers.WhisperFeatureExtractor(chunk_length=SECONDS)
    extractor.n_samples, extractor.nb_max_frames = round(16_000 * SECONDS), round(100 * SECONDS)
    cut = [each[:length].numpy() for each, length in zip(waveform, lengths.tolist(), strict=True)]
    features: Tensor = extractor(cut, sampling_rate=16_000, return_tensors="pt").input_features
    return features


def test_it_hears_what_transformers_hears_and_gives_its_logits(saved: tuple[Path, Any, Any]) -> None:
    folder, theirs, tokenizer = saved
    model = load(folder)
    assert isinstance(model, Whisper)
    assert (model.max_seconds, sorted(model.languages)) == (SECONDS, sorted(LANGUAGES))
    waveform, lengths = recordings()
    features = transformers_features(waveform, lengths)
    own, _ = model.features(waveform, lengths)
    torch.testing.assert_close(own.mT, features, atol=1e-4, rtol=1e-4)
    tokens = torch.tensor([tokenizer.encode(" hello how are you").ids] * 3)
    model.language = "de"
    begin = torch.full((3, 1), model.tokenizer.bos_id)
    prompt = [BEGIN, "<|de|>", "<|transcribe|>", NO_TIMES]
    with torch.no_grad():
        encoded = model.encode(waveform, lengths)
        read = torch.tensor([[tokenizer.token_to_id(each) for each in prompt]] * 3)
        expected = theirs(input_features=features, decoder_input_ids=torch.cat((read, tokens), 1))
        torch.testing.assert_close(encoded.states, expected.encoder_last_hidden_state, atol=1e-4, rtol=1e-4)
        logits = model.decoder_logits(encoded, torch.cat((begin, tokens), 1))
    assert expected.logits.std() > 0.3
    torch.testing.assert_close(logits, expected.logits[:, 3:], atol=1e-3, rtol=1e-4)
    assert encoded.frame_lengths.tolist() == [57, 39, 22]


@pytest.mark.parametrize(("language", "task"), [("en", "transcribe"), ("haw", "translate"), (None, "transcribe")])
def test_greedy_decoding_gives_what_generate_gives(
    language: str | None, task: str, saved: tuple[Path, Any, Any]
) -> None:
    folder, theirs, tokenizer = saved
    model = load(folder)
    assert isinstance(model, Whisper)
    model.language, model.task = language, task  # type: ignore[assignment]
    waveform, lengths = recordings()
    expected = theirs.generate(
        transformers_features(waveform, lengths), language=language, task=task, max_new_tokens=20, num_beams=1
    )
    end = tokenizer.token_to_id(END)
    written = [[each for each in row if each != end and each < tokenizer.token_to_id(END)] for row in expected.tolist()]
    options = DecodingOptions(beam_size=1, max_tokens=20, num_candidates=1, word_times=True)
    found = decode(model, waveform, lengths, options=options)
    assert len({tuple(row) for row in written}) > 1
    for own, row in zip(found, written, strict=True):
        assert len(set(row)) > 3
        assert list(own[0].tokens) == row
        assert own[0].text == " ".join(tokenizer.decode(row).split())
    if language is None:
        with torch.no_grad():
            likeliest = model.language_log_probs(model.encode(waveform, lengths)).argmax(-1)
        codes = list(model.languages)
        detected = theirs.detect_language(transformers_features(waveform, lengths)).tolist()
        assert [f"<|{codes[index]}|>" for index in likeliest] == [tokenizer.id_to_token(each) for each in detected]


def test_a_beam_finds_what_is_at_least_as_likely(saved: tuple[Path, Any, Any]) -> None:
    model = load(saved[0])
    waveform, lengths = recordings()
    scores = []
    for beam_size in (1, 6):
        options = DecodingOptions(beam_size=beam_size, max_tokens=6, end_margin=50.0, word_times=False)
        scores.append([each[0].score for each in decode(model, waveform, lengths, options=options)])
    assert all(wide >= narrow - 1e-4 for narrow, wide in zip(*scores, strict=True))
    assert scores[0] != scores[1]


def test_the_attention_is_that_of_the_aligning_heads(saved: tuple[Path, Any, Any]) -> None:
    folder, theirs, tokenizer = saved
    model = load(folder)
    assert isinstance(model, Whisper)
    model.language = "en"
    waveform, lengths = recordings()
    read = torch.tensor([[tokenizer.token_to_id(each) for each in (BEGIN, "<|en|>", "<|transcribe|>", NO_TIMES)]] * 3)
    theirs.config._attn_implementation = "eager"
    with torch.no_grad():
        features = transformers_features(waveform, lengths)
        maps = theirs(input_features=features, decoder_input_ids=read, output_attentions=True).cross_attentions
        state = model.start(model.encode(waveform, lengths), 2)
        log_probs, state, attention = model.step(torch.full((3, 2), model.tokenizer.bos_id), state)
    theirs.config._attn_implementation = "sdpa"
    expected = (maps[1][:, 0, -1] + maps[2][:, 3, -1] + maps[2][:, 1, -1]) / 3
    expected = expected * (torch.arange(60) < torch.tensor([57, 39, 22])[:, None])
    expected = expected / expected.sum(-1, keepdim=True)
    for place in range(2):
        torch.testing.assert_close(attention[:, place], expected, atol=1e-4, rtol=1e-3)
    assert log_probs[..., [5, 6, 7]].isinf().all()


def test_a_sentence_ends_where_the_positions_end(saved: tuple[Path, Any, Any]) -> None:
    model = load(saved[0])
    waveform, lengths = recordings()
    with torch.no_grad():
        found = greedy_decoder(model, model.encode(waveform, lengths), max_tokens_per_frame=5.0)
    # 40 positions hold the prompt of four tokens, and what follows the last one is written still.
    assert max(map(len, found)) <= 37
    encoded = model.encode(waveform, lengths)
    with pytest.raises(AuriscopeError, match="a text of 37 tokens is too long: with the prompt, at most 40"):
        model.decoder_logits(encoded, torch.zeros(3, 38, dtype=torch.int64))


def test_tokens_are_those_of_the_library(saved: tuple[Path, Any, Any]) -> None:
    folder, _, tokenizer = saved
    own = load(folder).tokenizer
    for text in [*TEXTS, "what is not in them: 漢字 and 😀"]:
        numbers = own.encode(text)
        assert numbers == tokenizer.encode(f" {text}").ids
        assert own.decode([own.bos_id, *numbers, own.eos_id]) == text
        assert [word for word, _, _ in own.words(numbers)] == text.split()


def test_vocab_and_merges_give_the_same_tokens(saved: tuple[Path, Any, Any], tmp_path: Path) -> None:
    shutil.copytree(saved[0], tmp_path, dirs_exist_ok=True)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").unlink()
    added = {entry["content"]: entry["id"] for entry in content["added_tokens"]}
    (tmp_path / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    merges = "\n".join(" ".join(pair) for pair in content["model"]["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    assert load(tmp_path).config == load(saved[0]).config


def test_saved_as_ours_it_stays_the_same(saved: tuple[Path, Any, Any], tmp_path: Path) -> None:
    model = load(saved[0])
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    waveform, lengths = recordings()
    assert again.config == model.config
    options = DecodingOptions(beam_size=2, max_tokens=5)
    assert decode(again, waveform, lengths, options=options) == decode(model, waveform, lengths, options=options)


def test_what_it_cannot_do_is_one_line(saved: tuple[Path, Any, Any], tmp_path: Path) -> None:
    model = load(saved[0])
    assert isinstance(model, Whisper)
    waveform, _ = recordings()
    with pytest.raises(AuriscopeError, match=r"1\.5 s does not fit into a window of 1\.2 s"):
        model.features(torch.zeros(1, 24_000))
    model.language = "fr"
    with pytest.raises(AuriscopeError, match="does not know the language 'fr'; it knows de, en, haw"):
        model.start(model.encode(waveform), 1)
    shutil.copytree(saved[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {}}}')
    with pytest.raises(CheckpointError, match="not a tokenizer of byte-level pieces"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"it has no vocab\.json"):
        load(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "decoder_ffn_dim": 64}))
    with pytest.raises(CheckpointError, match="other decoder_ffn_dim than encoder_ffn_dim"):
        load(tmp_path)
