"""BERT as the text encoder: the words and the outputs of transformers' own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auriscope.crossmodal import CLAP
from auriscope.crossmodal.bert import BertConfig, BertEncoder, read_bert
from auriscope.crossmodal.task import CLAPOptions, make_model
from auriscope.errors import AuriscopeError, CheckpointError, RecipeError
from auriscope.pretrained import load_pretrained
from auriscope.training.recipe import ModelRecipe, Recipe

transformers = pytest.importorskip("transformers", reason="needs the library transformers")

TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "bark", "##ing", "rain", "on", "roof", "caf", "##e")
TEXTS = ["A dog barking", "rain on a Café roof, zebra"]


@pytest.fixture(params=["vocab.txt", "tokenizer.json"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A tiny BERT with its words, as transformers saves it."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(TOKENS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=32,
    )
    # With the heads of its training, which a CLAP has no use for.
    transformers.BertForPreTraining(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    if request.param == "tokenizer.json":
        tokenizer = transformers.BertTokenizerFast(str(tmp_path / "bert" / "vocab.txt"))
        tokenizer.save_pretrained(tmp_path / "bert")
        (tmp_path / "bert" / "vocab.txt").unlink(missing_ok=True)
    return tmp_path / "bert"


def recipe(**options: object) -> Recipe:
    config = {
        "dim": 8,
        "audio": {"num_mels": 16, "stem_channels": 4, "channels": (8, 12), "strides": (2, 2)},
        "text_encoder": "bert",
    }
    return Recipe("crossmodal", ModelRecipe("crossmodal/clap", config), task_options=dict(options))


def test_words_and_outputs_are_those_of_transformers(folder: Path) -> None:
    config, weights = read_bert(str(folder))
    assert (config.tokens, config.cased, config.dim, config.num_layers) == (TOKENS, False, 16, 2)
    encoder = BertEncoder(config).eval()
    encoder.load_state_dict(weights)
    (folder / "words.txt").write_text("\n".join(TOKENS) + "\n")
    tokenizer = transformers.BertTokenizerFast(str(folder / "words.txt"))
    theirs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    tokens, lengths = encoder.tokenize(TEXTS)
    assert torch.equal(tokens, theirs["input_ids"])
    assert torch.equal(lengths, theirs["attention_mask"].sum(1))
    model = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(**theirs).last_hidden_state[:, 0]
        torch.testing.assert_close(encoder(tokens, lengths), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(encoder(tokens), expected, rtol=1e-5, atol=1e-6)


def test_a_clap_reads_with_it_and_is_saved_whole(folder: Path, tmp_path: Path) -> None:
    model = make_model(recipe(), CLAPOptions(text_from=str(folder)), [])
    model.eval()
    embedding = model.embed_text(TEXTS)
    assert embedding.shape == (2, 8)
    torch.testing.assert_close(model.embed_text(TEXTS[:1]), embedding[:1], rtol=1e-5, atol=1e-5)
    model.save_pretrained(tmp_path / "clap")
    loaded = load_pretrained(tmp_path / "clap")
    assert isinstance(loaded, CLAP)
    assert torch.equal(loaded.embed_text(TEXTS), embedding)
    # A training that begins as this one needs no other BERT.
    again = Recipe("crossmodal", recipe().model, init_from=str(tmp_path / "clap"))
    assert torch.equal(make_model(again, CLAPOptions(), []).eval().embed_text(TEXTS), embedding)


def test_what_is_no_bert_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="name the folder or address of a BERT"):
        make_model(recipe(), CLAPOptions(), [])
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"bert"', '"roberta"'))
    with pytest.raises(RecipeError, match="is no BERT"):
        make_model(recipe(), CLAPOptions(text_from=str(folder)), [])
    (folder / "config.json").write_text(text.replace('"gelu"', '"relu"'))
    with pytest.raises(CheckpointError, match="hidden_act is 'relu', and must be 'gelu'"):
        read_bert(str(folder))
    (folder / "config.json").write_text(text)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a valid safetensors file"):
        read_bert(str(folder))


def test_empty_texts_and_missing_words() -> None:
    with pytest.raises(ValueError, match="a BERT needs tokens"):
        BertEncoder(BertConfig())
    with pytest.raises(ValueError, match=r"tokens must hold \[CLS\]"):
        BertConfig(tokens=("[PAD]", "[UNK]"))
    encoder = BertEncoder(BertConfig(tokens=TOKENS, dim=8, num_layers=1, num_heads=1, hidden_size=8))
    with pytest.raises(AuriscopeError, match="has no word"):
        encoder.tokenize(["rain", "!"])
    assert encoder.tokenize(["rain " * 200])[0].shape == (1, 100)
