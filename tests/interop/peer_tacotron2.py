"""Run by the peers' Python, not ours: make SpeechBrain's Tacotron 2 with random weights, in a folder as published.

    python peer_tacotron2.py FOLDER

writes FOLDER/model/hyperparams.yaml in the words of the published one, model.ckpt, and FOLDER/outputs.pt with what
SpeechBrain computes from that folder, the prenet's dropout left out, as no two draw alike.
"""

import sys
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.text_to_sequence import symbols, text_to_sequence

HYPERPARAMETERS = """
mask_padding: True
n_mel_channels: 80
n_symbols: 148
symbols_embedding_dim: 24
encoder_kernel_size: 5
encoder_n_convolutions: 3
encoder_embedding_dim: 24
attention_rnn_dim: 32
attention_dim: 16
attention_location_n_filters: 8
attention_location_kernel_size: 7
n_frames_per_step: 1
decoder_rnn_dim: 40
prenet_dim: 16
max_decoder_steps: 12
gate_threshold: 0.5
p_attention_dropout: 0.1
p_decoder_dropout: 0.1
postnet_embedding_dim: 20
postnet_kernel_size: 5
postnet_n_convolutions: 5
decoder_no_early_stopping: False
sample_rate: 22050
model: !new:speechbrain.lobes.models.Tacotron2.Tacotron2
    mask_padding: !ref <mask_padding>
    n_mel_channels: !ref <n_mel_channels>
    n_symbols: !ref <n_symbols>
    symbols_embedding_dim: !ref <symbols_embedding_dim>
    encoder_kernel_size: !ref <encoder_kernel_size>
    encoder_n_convolutions: !ref <encoder_n_convolutions>
    encoder_embedding_dim: !ref <encoder_embedding_dim>
    attention_rnn_dim: !ref <attention_rnn_dim>
    attention_dim: !ref <attention_dim>
    attention_location_n_filters: !ref <attention_location_n_filters>
    attention_location_kernel_size: !ref <attention_location_kernel_size>
    n_frames_per_step: !ref <n_frames_per_step>
    decoder_rnn_dim: !ref <decoder_rnn_dim>
    prenet_dim: !ref <prenet_dim>
    max_decoder_steps: !ref <max_decoder_steps>
    gate_threshold: !ref <gate_threshold>
    p_attention_dropout: !ref <p_attention_dropout>
    p_decoder_dropout: !ref <p_decoder_dropout>
    postnet_embedding_dim: !ref <postnet_embedding_dim>
    postnet_kernel_size: !ref <postnet_kernel_size>
    postnet_n_convolutions: !ref <postnet_n_convolutions>
    decoder_no_early_stopping: !ref <decoder_no_early_stopping>
modules:
    model: !ref <model>
text_to_sequence: !name:speechbrain.utils.text_to_sequence.text_to_sequence
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        model: !ref <model>
"""
TEXT = "Mary had a little lamb, (its fleece) was white; as snow!"


def main(folder: Path) -> None:
    torch.manual_seed(0)
    own = folder / "model"
    own.mkdir(parents=True)
    (own / "hyperparams.yaml").write_text(HYPERPARAMETERS)
    model = load_hyperpyyaml(HYPERPARAMETERS)["model"]
    model.decoder.prenet.dropout = 0.0
    # Statistics of the batch normalisations that are not those of a fresh network, and a voice that does not end.
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    model.decoder.gate_layer.linear_layer.bias.data.fill_(-8.0)
    # A fresh network looks everywhere alike.
    model.decoder.attention_layer.v.linear_layer.weight.data.mul_(10.0)
    torch.save(model.state_dict(), own / "model.ckpt")
    model.eval()
    tokens = torch.tensor([text_to_sequence(TEXT, ["english_cleaners"])])
    lengths = torch.tensor([tokens.shape[1]])
    frames = torch.randn(1, 80, 15)
    with torch.no_grad():
        mel, refined, gates, attention = model((tokens, lengths, frames, None, torch.tensor([15])))
        said, _, looked = model.infer(tokens, lengths)
    outputs = {
        "symbols": symbols,
        "text": TEXT,
        "tokens": tokens,
        "frames": frames,
        "mel": mel,
        "refined": refined,
        "gates": gates,
        "attention": attention,
        "said": said,
        "looked": looked,
    }
    torch.save(outputs, folder / "outputs.pt")


main(Path(sys.argv[1]))
