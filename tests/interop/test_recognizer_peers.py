"""SpeechBrain's recognisers of LibriSpeech in folders as published: ours give what its own inference gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from torch import Tensor

from auriscope.errors import CheckpointError
from auriscope.pretrained import load
from auriscope.pretrained.foreign import read_tensors
from auriscope.recognition.decoding import DecodingOptions, decode
from auriscope.recognition.greedy import greedy_decoder
from auriscope.recognition.language_model import LanguageModel
from auriscope.recognition.recognizer import Recognizer

from .conftest import run_peers

TRANSFORMER, RECURRENT = "asr-transformer-transformerlm-librispeech", "asr-crdnn-rnnlm-librispeech"
CASES = {
    TRANSFORMER: ("recognition/sb-transformer", "recognition/sb-transformer-lm", (0, 1, 2), 4),
    RECURRENT: ("recognition/crdnn", "recognition/rnn-lm", (0, 0, 0), 4),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recognisers as published, and what SpeechBrain computes with them: see peer_recognizers.py."""
    return run_peers("peer_recognizers.py", tmp_path_factory.mktemp("recognizers"))


def close(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.peers
@pytest.mark.parametrize("case", CASES)
def test_a_recogniser_and_its_language_model_give_what_speechbrains_give(case: str, folders: Path) -> None:
    architecture, language_architecture, ends, skipped = CASES[case]
    model, language_model = load(folders / case), load(folders / case / "lm.ckpt")
    assert isinstance(model, Recognizer)
    assert isinstance(language_model, LanguageModel)
    assert (model.name, language_model.name) == (architecture, language_architecture)
    tokenizer = model.tokenizer
    assert (tokenizer.blank_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.kind) == (*ends, "pieces")
    saved = read_tensors(folders / case / "outputs.pt")
    for place, waveform in enumerate(saved["waveforms"]):
        with torch.no_grad():
            encoded = model.encode(waveform)
            close(encoded.states, saved["states"][place])
            close(model.ctc_logits(encoded).log_softmax(-1), saved["ctc"][place])
            close(model.decoder_logits(encoded, saved["read"]).log_softmax(-1), saved["decoder"][place])
        assert encoded.frame_seconds == pytest.approx(skipped * 0.01)
        written = greedy_decoder(model, encoded)[0]
        assert len(written) > 3
        assert written == saved["tokens"][place]
        assert tokenizer.decode(written) == saved["texts"][place]
    with torch.no_grad():
        close(language_model(saved["read"]).log_softmax(-1), saved["lm"])
        state, steps = language_model.start(1, 1), []
        for token in saved["read"][0]:
            log_probs, state = language_model.step(token.reshape(1, 1), state)
            steps.append(log_probs[0, 0])
    close(torch.stack(steps)[None], saved["lm"])


@pytest.mark.peers
@pytest.mark.parametrize("case", CASES)
def test_recogniser_and_language_model_decode_together(case: str, folders: Path) -> None:
    model, language_model = load(folders / case), load(folders / case / "lm.ckpt")
    waveforms = read_tensors(folders / case / "outputs.pt")["waveforms"]
    waveform = torch.nn.utils.rnn.pad_sequence([each[0] for each in waveforms], batch_first=True)
    options = DecodingOptions(beam_size=4, ctc_weight=0.4, lm_weight=0.6, max_tokens=6)
    lengths = torch.tensor([each.shape[1] for each in waveforms])
    found = decode(model, waveform, lengths, options=options, language_model=language_model)  # type: ignore[arg-type]
    for hypotheses, alone in zip(found, waveforms, strict=True):
        single = decode(model, alone, options=options, language_model=language_model)[0]  # type: ignore[arg-type]
        assert single[0].tokens == hypotheses[0].tokens
        assert {"ctc", "decoder", "language_model"} <= hypotheses[0].scores.keys()


@pytest.mark.peers
def test_a_hub_address_may_name_the_language_model(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repository, **options: str(folders / RECURRENT))
    assert load(f"hf://speechbrain/{RECURRENT}").name == "recognition/crdnn"
    assert load(f"hf://speechbrain/{RECURRENT}/lm.ckpt").name == "recognition/rnn-lm"
    assert load(f"hf://speechbrain/{RECURRENT}/lm.ckpt@main").name == "recognition/rnn-lm"
    with pytest.raises(CheckpointError, match=r"the repository has no wav2vec2\.ckpt"):
        load(f"hf://speechbrain/{RECURRENT}/wav2vec2.ckpt")


@pytest.mark.peers
def test_the_old_spelling_of_the_attention_is_read(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / TRANSFORMER, tmp_path, dirs_exist_ok=True)
    weights = torch.load(tmp_path / "asr.ckpt", weights_only=True)
    old = {name.replace("multihead_attn", "mutihead_attn"): weight for name, weight in weights.items()}
    assert old.keys() != weights.keys()
    torch.save(old, tmp_path / "asr.ckpt")
    expected = load(folders / TRANSFORMER).state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in load(tmp_path).state_dict().items())


@pytest.mark.peers
@pytest.mark.parametrize(
    ("case", "change", "line"),
    [
        (TRANSFORMER, ("causal: False", "causal: True"), "a TransformerASR with causal: True cannot be loaded"),
        (TRANSFORMER, ("    causal: False\n", ""), "a TransformerASR with causal: None cannot be loaded"),
        (TRANSFORMER, ("encoder_module: transformer", "encoder_module: conformer"), "encoder_module: conformer"),
        (TRANSFORMER, ("strides: (2, 2, 1)", "strides: (2, two, 1)"), "a ConvolutionFrontEnd with strides"),
        (TRANSFORMER, ("n_mels: 24", "n_mels: 40"), "a ConvolutionFrontEnd with input_shape"),
        (TRANSFORMER, ("bos_index: 1", "bos: 1"), "has no bos_index"),
        (TRANSFORMER, ("norm_type: global", "norm_type: sentence"), "norm_type: sentence"),
        (TRANSFORMER, ("n_fft: 400", "n_fft: 512"), "a Fbank with n_fft: 512"),
        (
            TRANSFORMER,
            ("    dropout: !ref <transformer", "    warp: 3\n    dropout: !ref <transformer"),
            "argument warp",
        ),
        (RECURRENT, ("rnn_type: gru", "rnn_type: lstm"), "an? AttentionalRNNDecoder with rnn_type: lstm"),
        (RECURRENT, ("RNN.LSTM", "RNN.LiGRU"), "another rnn_class than LSTM"),
        (RECURRENT, ("n_mels: 20", "n_mels: 30"), "does not hold 30 values as glob_mean"),
        (RECURRENT, ("<dec>, !ref <ctc", "<enc>, !ref <ctc"), "a recogniser of CRDNN, Embedding, CRDNN"),
        (RECURRENT, ("asr.ckpt", None), "it has no asr.ckpt"),
        (RECURRENT, ("tokenizer.ckpt", None), "it has no tokenizer.ckpt"),
        (RECURRENT, ("hyperparams.yaml", None), "has an asr.ckpt of SpeechBrain, but not its hyperparams.yaml"),
        (RECURRENT, ("tokenizer.ckpt", b"nothing"), "is not a model of SentencePiece"),
        (RECURRENT, ("asr.ckpt", b"nothing"), "not a file of weights"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(
    case: str, change: tuple[str, Any], line: str, folders: Path, tmp_path: Path
) -> None:
    shutil.copytree(folders / case, tmp_path, dirs_exist_ok=True)
    what, other = change
    if other is None:
        (tmp_path / what).unlink()
    elif isinstance(other, bytes):
        (tmp_path / what).write_bytes(other)
    else:
        path = tmp_path / "hyperparams.yaml"
        assert what in path.read_text()
        path.write_text(path.read_text().replace(what, other))
    with pytest.raises(CheckpointError, match=line) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)
