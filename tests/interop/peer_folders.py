"""Run by the peers' Python, not ours: make models of SpeechBrain's with random weights, in folders as published.

    python peer_folders.py FOLDER

writes FOLDER/<case>/ for every case below: hyperparams.yaml, a state dict a part, and outputs.pt with mixtures and what
SpeechBrain's own inference gives for them, from that very folder; and FOLDER/torchaudio/ with a file of torchaudio's.
"""

import sys
import warnings
from pathlib import Path
from string import Template

ENCODER = """
Encoder: !new:speechbrain.lobes.models.dual_path.Encoder
    kernel_size: !ref <kernel_size>
    out_channels: !ref <N_encoder_out>
"""
DECODER = """
Decoder: !new:speechbrain.lobes.models.dual_path.Decoder
    in_channels: !ref <N_encoder_out>
    out_channels: 1
    kernel_size: !ref <kernel_size>
    stride: !ref <kernel_stride>
    bias: False
"""
DUAL_PATH = """
MaskNet: !new:speechbrain.lobes.models.dual_path.Dual_Path_Model
    num_spks: !ref <num_spks>
    in_channels: !ref <N_encoder_out>
    out_channels: !ref <out_channels>
    num_layers: $num_layers
    K: $chunk
    intra_model: !ref <intra>
    inter_model: !ref <inter>
    norm: $norm
    linear_layer_after_inter_intra: $linear
    skip_around_intra: True
"""
TRANSFORMER = """
$name: !new:speechbrain.lobes.models.$where
    num_layers: $layers
    d_model: !ref <out_channels>
    nhead: $heads
    d_ffn: $ffn
    dropout: 0
    use_positional_encoding: True
    norm_before: True
"""
RECURRENT = """
$name: !new:speechbrain.lobes.models.dual_path.SBRNNBlock
    num_layers: $layers
    input_size: !ref <out_channels>
    hidden_channels: $hidden
    rnn_type: $cell
    dropout: 0
    bidirectional: True
"""
CONVTASNET = """
MaskNet: !new:speechbrain.lobes.models.conv_tasnet.MaskNet
    N: !ref <N_encoder_out>
    B: 12
    H: 20
    P: $kernel
    X: 3
    R: 2
    C: !ref <num_spks>
    norm_type: '$norm'
    causal: $causal
    mask_nonlinear: 'relu'
"""
RESEPFORMER = """
MaskNet: !new:speechbrain.lobes.models.resepformer.ResourceEfficientSeparator
    input_dim: !ref <N_encoder_out>
    num_spk: !ref <num_spks>
    causal: False
    unit: 256
    segment_size: $chunk
    layer: $num_layers
    mem_type: 'av'
    seg_model: !ref <intra>
    mem_model: !ref <inter>
"""
# As a training recipe has them: what would be run or filled in is passed over.
TRAINING = """
seed: 1234
__set_seed: !apply:speechbrain.utils.seed_everything [!ref <seed>]
data_folder: !PLACEHOLDER
save_folder: !ref results/<seed>/save
optimizer: !name:torch.optim.Adam
    lr: 0.00015
epoch_counter: !new:speechbrain.utils.epoch_loop.EpochCounter
    limit: 200
dataloader_opts:
    batch_size: 1
"""
LAST = """
modules:
    encoder: !ref <Encoder>
    decoder: !ref <Decoder>
    masknet: !ref <MaskNet>

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        encoder: !ref <Encoder>
        decoder: !ref <Decoder>
        masknet: !ref <MaskNet>
"""
REALM_HEAD = """
sample_rate: 8000
num_spks: 2
snrmin: $low
snrmax: $high
use_snr_compression: True
separation_norm_type: stnorm
latent_dim: $channels
n_inp: $pooled
encoder: !new:speechbrain.nnet.containers.Sequential
    input_shape: [null, 2, null]
"""
REALM_CONVOLUTION = """    cnn$index: !new:speechbrain.nnet.CNN.Conv1d
        in_channels: $inputs
        kernel_size: 4
        out_channels: !ref <latent_dim>
        stride: $stride
        skip_transpose: True
        padding: 'valid'
"""
REALM_LAST = """
stat_pooling: !new:speechbrain.nnet.pooling.StatisticsPooling
encoder_out: !new:speechbrain.nnet.containers.Sequential
    input_shape: [null, !ref <n_inp>]
    layer1: !new:speechbrain.nnet.linear.Linear
        input_size: !ref <n_inp>
        n_neurons: !ref <n_inp>
    relu: !new:torch.nn.ReLU
    layer2: !new:speechbrain.nnet.linear.Linear
        input_size: !ref <n_inp>
        n_neurons: 1
    sigm: !new:torch.nn.Sigmoid

modules:
    encoder: !ref <encoder>
    encoder_out: !ref <encoder_out>

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        encoder: !ref <encoder>
        encoder_out: !ref <encoder_out>
"""


def head(rate=8000, sources=2, filters=32, channels=32, kernel=16):
    return f"""
sample_rate: {rate}
num_spks: {sources}
N_encoder_out: {filters}
out_channels: {channels}
kernel_size: {kernel}
kernel_stride: {kernel // 2}
"""


def transformers(where, layers=(2, 3), heads=4, ffn=48):
    return "".join(
        Template(TRANSFORMER).substitute(name=name, where=where, layers=count, heads=heads, ffn=ffn)
        for name, count in zip(("intra", "inter"), layers, strict=True)
    )


def recurrent(hidden=10, layers=1, cell="LSTM"):
    return "".join(
        Template(RECURRENT).substitute(name=name, hidden=hidden, layers=layers, cell=cell)
        for name in ("intra", "inter")
    )


def dual_path(num_layers=2, chunk=30, norm="ln", linear=False):
    return Template(DUAL_PATH).substitute(num_layers=num_layers, chunk=chunk, norm=norm, linear=linear)


def sepformer(sizes, network=None):
    return head(**sizes) + ENCODER + transformers("dual_path.SBTransformerBlock") + dual_path(**network or {})


def dprnn(sizes, network=None, **cells):
    return head(**sizes) + ENCODER + recurrent(**cells) + dual_path(linear=True, **network or {})


def convtasnet(sizes, norm="gLN", causal=True, kernel=3):
    return head(**sizes) + ENCODER + Template(CONVTASNET).substitute(norm=norm, causal=causal, kernel=kernel)


def resepformer(sizes, num_layers=2, chunk=30):
    network = Template(RESEPFORMER).substitute(num_layers=num_layers, chunk=chunk)
    return head(**sizes) + ENCODER + transformers("resepformer.SBTransformerBlock_wnormandskip") + network


def realm(channels=128, low=0, high=10):
    text = Template(REALM_HEAD).substitute(channels=channels, pooled=2 * channels, low=low, high=high)
    for index, stride in enumerate((1, 2, 2, 2, 2), start=1):
        inputs = 2 if index == 1 else "!ref <latent_dim>"
        text += f"    relu{index - 1}: !new:torch.nn.ReLU\n" if index > 1 else ""
        text += Template(REALM_CONVOLUTION).substitute(index=index, inputs=inputs, stride=stride)
    return text + REALM_LAST


SEPARATORS = {
    "sepformer_three_talkers": sepformer({"sources": 3}),
    "sepformer_whamr_16k": sepformer({"rate": 16000}),
    "sepformer_enhancement": sepformer({"sources": 1, "rate": 16000, "kernel": 20}),
    "sepformer_recipe": TRAINING + sepformer({}, {"num_layers": 1, "norm": "gln"}),
    "resepformer": resepformer({}),
    "resepformer_three_blocks": resepformer({"sources": 3, "kernel": 12}, num_layers=3, chunk=50),
    "convtasnet_recipe": TRAINING + convtasnet({}),
    "convtasnet_causal": convtasnet({"sources": 3}, norm="cLN", kernel=5),
    "convtasnet_mirrored": convtasnet({}, causal=False, kernel=5),
    "dprnn_recipe": TRAINING + dprnn({}),
    "dprnn_gru": dprnn({"filters": 24, "sources": 3}, {"norm": "cln", "chunk": 20}, cell="GRU", layers=2),
}
ESTIMATORS = {"realm": realm(), "realm_other_range": realm(channels=16, low=-10, high=20)}


def save_torchaudios(folder: Path) -> None:
    """Write the state dict of torchaudio's Conv-TasNet, as published but for its sizes, and what it computes."""
    import torch
    from torchaudio.models import ConvTasNet

    torch.manual_seed(0)
    sizes = {"enc_num_feats": 24, "msk_num_feats": 12, "msk_num_hidden_feats": 20, "msk_num_stacks": 2}
    model = ConvTasNet(num_sources=3, **sizes, msk_activate="relu").eval()
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter) * (1 if parameter.ndim == 1 else parameter.std()))
    mixtures = [torch.randn(2, length) * 0.2 for length in (1203, 2400)]
    model.decoder.weight.mul_(0.2 / model(mixtures[0][:, None]).std())
    home = folder / "torchaudio"
    home.mkdir(parents=True)
    torch.save(model.state_dict(), home / "conv_tasnet.pt")
    outputs = [model(mixture[:, None]) for mixture in mixtures]
    torch.save({"mixtures": mixtures, "outputs": outputs}, home / "outputs.pt")


def main(folder: Path) -> None:
    import torch
    from hyperpyyaml import load_hyperpyyaml
    from speechbrain.inference.metrics import SNREstimator
    from speechbrain.inference.separation import SepformerSeparation

    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    save_torchaudios(folder)
    for case, text in {**SEPARATORS, **ESTIMATORS}.items():
        home = folder / case
        home.mkdir(parents=True)
        text = text + DECODER + LAST if case in SEPARATORS else text
        (home / "hyperparams.yaml").write_text(text)
        overrides = {"data_folder": "nowhere"} if "data_folder" in text else {}
        torch.manual_seed(0)
        modules = load_hyperpyyaml(text, overrides)["modules"]
        for module in modules.values():
            for parameter in module.parameters():
                # Norms start at ones and biases at zeros: what would hide a weight that went to the wrong place.
                parameter.add_(0.1 * torch.randn_like(parameter) * (1 if parameter.ndim == 1 else parameter.std()))

        def save(home=home, modules=modules):
            for name, module in modules.items():
                torch.save(module.state_dict(), home / f"{name}.ckpt")

        def published(kind, home=home, case=case, overrides=overrides):
            return kind.from_hparams(source=str(home), savedir=str(folder / f".{case}"), overrides=overrides)

        save()
        if case in SEPARATORS:
            mixtures = [torch.randn(1, length) * 0.2 for length in (1203, 2400)]
            # Gains that bring the estimates to the level of the mixture, where 1e-4 means something.
            encoder, decoder = modules["encoder"].conv1d.weight, modules["decoder"].weight
            encoder.mul_(1 / encoder.square().sum((1, 2)).mean().sqrt())
            save()
            decoder.mul_(0.2 / published(SepformerSeparation).separate_batch(mixtures[0]).std())
            save()
            separator = published(SepformerSeparation)
            outputs = [separator.separate_batch(mixture).transpose(1, 2) for mixture in mixtures]
            torch.save({"mixtures": mixtures, "outputs": outputs}, home / "outputs.pt")
        else:
            mixtures = [torch.randn(1, length) * 0.2 for length in (1203, 8000)]
            # A good track and a bad one, of another colour.
            noises = [torch.randn(1, mixture.shape[1]).cumsum(1) for mixture in mixtures]
            tracks = [torch.stack([mixture * 0.7, noise], 1) for mixture, noise in zip(mixtures, noises, strict=True)]
            # A head that tells them apart, rather than one in whose sigmoid all are the same.
            modules["encoder_out"].layer1.w.weight.mul_(10)
            modules["encoder_out"].layer2.w.weight.mul_(5)
            save()
            estimator = published(SNREstimator)
            # Its pooling adds random noise of 1e-5, which is no part of what it estimates.
            estimator.hparams.stat_pooling._get_gauss_noise = lambda shape, device: torch.zeros(shape, device=device)
            outputs = [
                estimator.estimate_batch(mixture, track.transpose(1, 2))
                for mixture, track in zip(mixtures, tracks, strict=True)
            ]
            torch.save({"mixtures": mixtures, "tracks": tracks, "outputs": outputs}, home / "outputs.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
