"""Run by the peers' Python, not ours: make SpeechBrain's recognisers with random weights, in folders as published.

    python peer_recognizers.py FOLDER

writes FOLDER/<case>/ for both recognisers of LibriSpeech: hyperparams.yaml in the words of the published ones,
asr.ckpt, lm.ckpt, normalizer.ckpt, tokenizer.ckpt, and outputs.pt with what SpeechBrain computes from that folder.
"""

import sys
import warnings
from pathlib import Path

FRONT = """
sample_rate: 16000
n_fft: 400
n_mels: $mels
compute_features: !new:speechbrain.lobes.features.Fbank
    sample_rate: !ref <sample_rate>
    n_fft: !ref <n_fft>
    n_mels: !ref <n_mels>
normalizer: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
tokenizer: !new:sentencepiece.SentencePieceProcessor
"""
TRANSFORMER = """
d_model: 32
nhead: 4
num_encoder_layers: 2
num_decoder_layers: 2
d_ffn: 48
transformer_dropout: 0.0
activation: !name:torch.nn.GELU
output_neurons: 40
blank_index: 0
label_smoothing: 0.1
pad_index: 0
bos_index: 1
eos_index: 2
lm_weight: 0.60
CNN: !new:speechbrain.lobes.models.convolution.ConvolutionFrontEnd
    input_shape: (8, 10, 24)
    num_blocks: 3
    num_layers_per_block: 1
    out_channels: (6, 8, 8)
    kernel_sizes: (5, 5, 1)
    strides: (2, 2, 1)
    residuals: (False, False, True)
Transformer: !new:speechbrain.lobes.models.transformer.TransformerASR.TransformerASR
    input_size: 48
    tgt_vocab: !ref <output_neurons>
    d_model: !ref <d_model>
    nhead: !ref <nhead>
    num_encoder_layers: !ref <num_encoder_layers>
    num_decoder_layers: !ref <num_decoder_layers>
    d_ffn: !ref <d_ffn>
    dropout: !ref <transformer_dropout>
    activation: !ref <activation>
    encoder_module: transformer
    attention_type: regularMHA
    normalize_before: True
    causal: False
ctc_lin: !new:speechbrain.nnet.linear.Linear
    input_size: !ref <d_model>
    n_neurons: !ref <output_neurons>
seq_lin: !new:speechbrain.nnet.linear.Linear
    input_size: !ref <d_model>
    n_neurons: !ref <output_neurons>
lm_model: !new:speechbrain.lobes.models.transformer.TransformerLM.TransformerLM
    vocab: !ref <output_neurons>
    d_model: 24
    nhead: 3
    num_encoder_layers: 2
    num_decoder_layers: 0
    d_ffn: 40
    dropout: 0.0
    activation: !name:torch.nn.GELU
    normalize_before: False
asr_model: !new:torch.nn.ModuleList
    - [!ref <CNN>, !ref <Transformer>, !ref <seq_lin>, !ref <ctc_lin>]
Tencoder: !new:speechbrain.lobes.models.transformer.TransformerASR.EncoderWrapper
    transformer: !ref <Transformer>
encoder: !new:speechbrain.nnet.containers.LengthsCapableSequential
    input_shape: [null, null, !ref <n_mels>]
    compute_features: !ref <compute_features>
    normalize: !ref <normalizer>
    cnn: !ref <CNN>
    transformer_encoder: !ref <Tencoder>
decoder: !new:speechbrain.decoders.S2STransformerGreedySearcher
    modules: [!ref <Transformer>, !ref <seq_lin>]
    bos_index: !ref <bos_index>
    eos_index: !ref <eos_index>
    min_decode_ratio: 0.0
    max_decode_ratio: 1.0
"""
CRDNN = """
activation: !name:torch.nn.LeakyReLU
dropout: 0.15
cnn_blocks: 2
cnn_channels: (6, 8)
inter_layer_pooling_size: (2, 2)
cnn_kernelsize: (3, 3)
time_pooling_size: 4
rnn_class: !name:speechbrain.nnet.RNN.LSTM
rnn_layers: 2
rnn_neurons: 12
rnn_bidirectional: True
dnn_blocks: 2
dnn_neurons: 20
emb_size: 10
dec_neurons: 16
output_neurons: 40
blank_index: 0
bos_index: 0
eos_index: 0
coverage_penalty: 1.5
enc: !new:speechbrain.lobes.models.CRDNN.CRDNN
    input_shape: [null, null, !ref <n_mels>]
    activation: !ref <activation>
    dropout: !ref <dropout>
    cnn_blocks: !ref <cnn_blocks>
    cnn_channels: !ref <cnn_channels>
    cnn_kernelsize: !ref <cnn_kernelsize>
    inter_layer_pooling_size: !ref <inter_layer_pooling_size>
    time_pooling: True
    using_2d_pooling: False
    time_pooling_size: !ref <time_pooling_size>
    rnn_class: !ref <rnn_class>
    rnn_layers: !ref <rnn_layers>
    rnn_neurons: !ref <rnn_neurons>
    rnn_bidirectional: !ref <rnn_bidirectional>
    rnn_re_init: True
    dnn_blocks: !ref <dnn_blocks>
    dnn_neurons: !ref <dnn_neurons>
emb: !new:speechbrain.nnet.embedding.Embedding
    num_embeddings: !ref <output_neurons>
    embedding_dim: !ref <emb_size>
dec: !new:speechbrain.nnet.RNN.AttentionalRNNDecoder
    enc_dim: !ref <dnn_neurons>
    input_size: !ref <emb_size>
    rnn_type: gru
    attn_type: location
    hidden_size: !ref <dec_neurons>
    attn_dim: 14
    num_layers: 1
    scaling: 1.0
    channels: 3
    kernel_size: 5
    re_init: True
    dropout: !ref <dropout>
ctc_lin: !new:speechbrain.nnet.linear.Linear
    input_size: !ref <dnn_neurons>
    n_neurons: !ref <output_neurons>
seq_lin: !new:speechbrain.nnet.linear.Linear
    input_size: !ref <dec_neurons>
    n_neurons: !ref <output_neurons>
lm_model: !new:speechbrain.lobes.models.RNNLM.RNNLM
    output_neurons: !ref <output_neurons>
    embedding_dim: !ref <emb_size>
    activation: !name:torch.nn.LeakyReLU
    dropout: 0.0
    rnn_layers: 2
    rnn_neurons: 18
    dnn_blocks: 1
    dnn_neurons: 14
    return_hidden: True
asr_model: !new:torch.nn.ModuleList
    - [!ref <enc>, !ref <emb>, !ref <dec>, !ref <ctc_lin>, !ref <seq_lin>]
encoder: !new:speechbrain.nnet.containers.LengthsCapableSequential
    input_shape: [null, null, !ref <n_mels>]
    compute_features: !ref <compute_features>
    normalize: !ref <normalizer>
    model: !ref <enc>
decoder: !new:speechbrain.decoders.S2SRNNGreedySearcher
    embedding: !ref <emb>
    decoder: !ref <dec>
    linear: !ref <seq_lin>
    bos_index: !ref <bos_index>
    eos_index: !ref <eos_index>
    min_decode_ratio: 0.0
    max_decode_ratio: 1.0
"""
LAST = """
modules:
    normalizer: !ref <normalizer>
    encoder: !ref <encoder>
    decoder: !ref <decoder>
    lm_model: !ref <lm_model>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        normalizer: !ref <normalizer>
        asr: !ref <asr_model>
        lm: !ref <lm_model>
        tokenizer: !ref <tokenizer>
"""
CASES = {
    "asr-transformer-transformerlm-librispeech": FRONT.replace("$mels", "24") + TRANSFORMER + LAST,
    "asr-crdnn-rnnlm-librispeech": FRONT.replace("$mels", "20") + CRDNN + LAST,
}
SENTENCES = (
    "THE QUICK BROWN FOX JUMPS OVER A LAZY DOG",
    "SHE SAID HELLO WORLD AND HOW ARE YOU THIS EVENING",
    "NOBODY KNOWS WHAT IT WAS BEFORE THAT LONG MORNING BY THE SEA",
    "WHILE THE DOG AND THE FOX WERE LAZY SHE SAID NOTHING",
)


def train_tokenizer(path: Path, *, has_ends: bool) -> None:
    import sentencepiece

    numbers = {"bos_id": 1, "eos_id": 2} if has_ends else {"bos_id": -1, "eos_id": -1}
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 5), model_writer=file, vocab_size=40, model_type="unigram", unk_id=0,
            pad_id=-1, minloglevel=2, **numbers,
        )  # fmt: skip


def main(folder: Path) -> None:
    import torch
    from hyperpyyaml import load_hyperpyyaml
    from speechbrain.inference.ASR import EncoderDecoderASR

    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    for case, text in CASES.items():
        home = folder / case
        home.mkdir(parents=True)
        (home / "hyperparams.yaml").write_text(text)
        torch.manual_seed(0)
        made = load_hyperpyyaml(text)
        transformer = "transformer" in case
        for network in (made["asr_model"], made["lm_model"]):
            for name, value in network.state_dict().items():
                if name.endswith("running_var"):
                    value.mul_(1 + torch.rand_like(value))
                elif value.is_floating_point() and not name.endswith(".pe"):
                    # Norms start at ones and biases at zeros: what would hide a weight that went to the wrong place.
                    value.add_(0.1 * torch.randn_like(value) * (1 if value.ndim < 2 else value.std()))
        # What is heard and written before must matter, and a text go on; its greedy search would write blanks, too.
        made["seq_lin"].w.weight.mul_(8 if transformer else 20)
        made["seq_lin"].w.bias[0] = -50 if transformer else -4
        made["seq_lin"].w.bias[made["eos_index"]] -= 10 if transformer else 0
        torch.save(made["asr_model"].state_dict(), home / "asr.ckpt")
        torch.save(made["lm_model"].state_dict(), home / "lm.ckpt")
        statistics = {
            "count": 10,
            "glob_mean": torch.linspace(-35, -15, made["n_mels"]),
            "glob_std": torch.linspace(8, 14, made["n_mels"]),
        }
        torch.save(statistics, home / "normalizer.ckpt")
        train_tokenizer(home / "tokenizer.ckpt", has_ends=transformer)

        asr = EncoderDecoderASR.from_hparams(source=str(home), savedir=str(folder / f".{case}"))
        moment = torch.arange(16_000) / 16_000
        waveforms = [0.2 * torch.sin(900 * moment * (1 + moment))[None] + 0.01 * torch.randn(1, 16_000)]
        waveforms.append(0.1 * torch.randn(1, 7777).cumsum(1) / 20)
        saved = {"waveforms": waveforms, "states": [], "ctc": [], "decoder": [], "texts": [], "tokens": []}
        tokens = torch.tensor([[made["bos_index"], 5, 17, 33, 8, 21, 39]])
        network = asr.hparams.asr_model
        for waveform in waveforms:
            states = asr.encode_batch(waveform, torch.ones(1))
            if transformer:
                _, body, seq_lin, ctc_lin = network
                outputs, _ = body.decode(tokens, states)
            else:
                _, embedding, decoder, ctc_lin, seq_lin = network
                outputs, _ = decoder(embedding(tokens), states, torch.ones(1))
            texts, written = asr.transcribe_batch(waveform, torch.ones(1))
            saved["states"].append(states)
            saved["ctc"].append(ctc_lin(states).log_softmax(-1))
            saved["decoder"].append(seq_lin(outputs).log_softmax(-1))
            saved["texts"].append(texts[0])
            saved["tokens"].append(list(written[0]))
        language_model = asr.hparams.lm_model
        predicted = language_model(tokens)
        saved["lm"] = (predicted[0] if isinstance(predicted, tuple) else predicted).log_softmax(-1)
        saved["read"] = tokens
        torch.save(saved, home / "outputs.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
