"""Our searches against SpeechBrain's joint one, with the same weights, and against pyctcdecode's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import kenlm
import pytest
import torch

from auriscope.recognition.decoding import DecodingOptions, decode_encoded, score_weights
from auriscope.recognition.decoding.prefix import ctc_log_probability
from auriscope.recognition.decoding.scorers import TextScorer
from auriscope.recognition.joint import Joint
from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig
from auriscope.text.tokenizer import Tokenizer

from .conftest import run_peers

# Where SpeechBrain keeps what ours calls otherwise.
RENAMED = {
    "network.decoder.": "",
    "network.custom_tgt_module.layers.0.emb.Embedding.": "embedding.",
    "decoder_head.": "head.",
    "self_attn.att.in_proj_": "attention.project.",
    "self_attn.att.out_proj.": "attention.out.",
    "multihead_attn.att.in_proj_": "cross.project.",
    "multihead_attn.att.out_proj.": "cross.out.",
    "pos_ffn.ffn.": "feed_forward.",
    "norm1.norm.": "attention_norm.",
    "norm2.norm.": "cross_norm.",
    "norm3.norm.": "feed_forward_norm.",
    "norm.norm.": "norm.",
}
LETTERS = (*" abcdest", "<blank>")


@pytest.fixture(scope="module")
def peer_decoding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_peers("peer_decoding.py", tmp_path_factory.mktemp("decoding"))


class Original(Joint):
    """The decoder and the heads of SpeechBrain's test network; its tokens 0, 1 and 2 are blank, bos and eos."""

    @property
    def tokenizer(self) -> Tokenizer:  # type: ignore[override]
        return Tokenizer(self.config.tokens, "words", (), 0, 1, 2)

    @classmethod
    def read(cls, saved: dict[str, torch.Tensor]) -> Original:
        num_tokens, dim = saved["decoder_head.weight"].shape
        model = cls.from_config(
            {
                **Joint.Tiny,
                "tokens": tuple(map(str, range(num_tokens))),
                "dim": dim,
                "num_decoder_layers": 2,
                "num_heads": 4,
                "hidden_size": 64,
                "activation": "gelu",
            }
        ).eval()
        weights = {}
        for key, value in saved.items():
            for theirs, ours in RENAMED.items():
                key = key.replace(theirs, ours)
            weights[key] = value
        model.decoder.load_state_dict({key: weights[key] for key in model.decoder.state_dict()})
        for module in model.decoder.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-6
        model.head.load_state_dict({name: saved[f"ctc_head.{name}"] for name in ("weight", "bias")})
        return model


@pytest.mark.peers
def test_the_joint_search_finds_what_speechbrain_finds(peer_decoding: Path) -> None:
    saved = torch.load(peer_decoding / "joint.pt", weights_only=True)
    expected = json.loads((peer_decoding / "joint.json").read_text())
    frames = saved.pop("frames")
    encoded = Encoded(frames, torch.full((len(frames),), frames.shape[1]), 0.04)
    options = DecodingOptions(beam_size=6, ctc_weight=0.4, temperature=1.2)
    results = decode_encoded(Original.read(saved), encoded, options=options)
    assert [list(hypotheses[0].tokens) for hypotheses in results] == [tokens for tokens, _ in expected]
    assert [hypotheses[0].score for hypotheses in results] == pytest.approx([score for _, score in expected], abs=1e-3)


class Given(Recognizer):
    """A recogniser whose logits are the encoder's states."""

    has_ctc = True
    name = "tests/given"
    tokenizer = Tokenizer(LETTERS, "characters", (), len(LETTERS) - 1, None, None)

    def features(self, waveform: Any, lengths: Any = None) -> Any:
        raise NotImplementedError

    def encode_features(self, features: Any, frame_lengths: Any) -> Any:
        raise NotImplementedError

    def ctc_logits(self, encoded: Encoded) -> torch.Tensor:
        return encoded.states


class KenLM:
    """KenLM's n-gram as the decoder takes it."""

    vocabulary = ("a", "bad", "bed", "seat")

    def __init__(self, path: Path) -> None:
        self.model = kenlm.Model(str(path))

    def start_state(self) -> Any:
        state = kenlm.State()
        self.model.BeginSentenceWrite(state)
        return state

    def score_word(self, state: Any, word: str) -> tuple[float, Any]:
        after = kenlm.State()
        return self.model.BaseScore(state, word, after) * math.log(10.0), after

    def score_end(self, state: Any) -> float:
        return self.model.BaseScore(state, "</s>", kenlm.State()) * math.log(10.0)


@pytest.mark.peers
@pytest.mark.parametrize("helped", [False, True])
def test_the_search_by_frames_finds_what_pyctcdecode_finds_or_better(peer_decoding: Path, helped: bool) -> None:
    model = KenLM(peer_decoding / "words.arpa")
    weights = {"word_lm_weight": 0.5, "word_bonus": 1.5} if helped else {}
    options = DecodingOptions(beam_size=100, unknown_word_score=-10.0 * math.log(10.0), **weights)
    recognizer = Given(RecognizerConfig(tokens=LETTERS))
    scorer = TextScorer(recognizer.tokenizer, options, model)
    differing = 0
    for case in json.loads((peer_decoding / "frames.json").read_text()):
        log_probs = torch.tensor(case["logits"], dtype=torch.float64)[None].log_softmax(-1)
        encoded = Encoded(log_probs, torch.tensor([log_probs.shape[1]]), 0.04)
        ((best,),) = decode_encoded(recognizer, encoded, options=options, language_model=model)
        theirs = case["helped" if helped else "plain"]
        if best.text != theirs:
            differing += 1
            tokens = recognizer.tokenizer.encode(theirs)
            parts = {**scorer.parts(theirs), "ctc": ctc_log_probability(log_probs[0], [tokens], len(LETTERS) - 1)[0]}
            score = sum(score_weights(options, 1.0)[name] * value for name, value in parts.items())
            assert best.score > score + 1.0
    # With the n-gram it takes "bad a bed" for one of them, which scores 8.4 less than "bad bed".
    assert differing == int(helped)
