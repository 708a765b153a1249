"""Run by the peers' Python, not ours: make SpeechBrain's HiFi-GAN with random weights, in folders as published.

    python peer_hifigan.py FOLDER

writes FOLDER/<case>/hyperparams.yaml in the words of the published ones and generator.ckpt, and FOLDER/<case>.pt with
mels and what SpeechBrain's own inference gives for them, and mels that SpeechBrain makes of a waveform.
"""

import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import torch  # noqa: E402
from hyperpyyaml import load_hyperpyyaml  # noqa: E402
from speechbrain.lobes.models.HifiGAN import HifiganDiscriminator, mel_spectrogram  # noqa: E402

COMMON = """
in_channels: 80
out_channels: 1
inference_padding: 5
cond_channels: 0
conv_post_bias: True
generator: !new:speechbrain.lobes.models.HifiGAN.HifiganGenerator
    in_channels: !ref <in_channels>
    out_channels: !ref <out_channels>
    resblock_type: !ref <resblock_type>
    resblock_dilation_sizes: !ref <resblock_dilation_sizes>
    resblock_kernel_sizes: !ref <resblock_kernel_sizes>
    upsample_kernel_sizes: !ref <upsample_kernel_sizes>
    upsample_initial_channel: !ref <upsample_initial_channel>
    upsample_factors: !ref <upsample_factors>
    inference_padding: !ref <inference_padding>
    cond_channels: !ref <cond_channels>
    conv_post_bias: !ref <conv_post_bias>
modules:
    generator: !ref <generator>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        generator: !ref <generator>
"""
V1 = """
resblock_type: "1"
resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
resblock_kernel_sizes: [3, 7, 11]
upsample_kernel_sizes: [16, 16, 4, 4]
upsample_factors: [8, 8, 2, 2]
"""
CASES = {
    "v1": V1 + "upsample_initial_channel: 512\n",
    "v2_16k": V1 + "upsample_initial_channel: 64\nsample_rate: 16000\nhop_length: 256\nmel_fmax: 8000.0\n",
    "v3": """
resblock_type: "2"
resblock_dilation_sizes: [[1, 2], [2, 6], [3, 12]]
resblock_kernel_sizes: [3, 5, 7]
upsample_kernel_sizes: [16, 16, 8]
upsample_initial_channel: 64
upsample_factors: [8, 8, 4]
""",
}


def spelt_as_before(name):
    """The names that torch's weight normalisation had when the published weights were written."""
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        name = name.replace(f"parametrizations.weight.{new}", old)
    return name


def main(folder: Path) -> None:
    for case, settings in CASES.items():
        torch.manual_seed(0)
        (folder / case).mkdir()
        text = settings + COMMON
        (folder / case / "hyperparams.yaml").write_text(text)
        generator = load_hyperpyyaml(text)["generator"].eval()
        for name, parameter in generator.named_parameters():
            # Random weights as they come give a whisper: make the lengths of weight normalisation differ from them.
            if name.endswith("original0"):
                parameter.data *= 1.5 + 0.5 * torch.rand_like(parameter)
        weights = generator.state_dict()
        if case == "v1":
            weights = {spelt_as_before(name): value for name, value in weights.items()}
        torch.save(dict(weights), folder / case / "generator.ckpt")
        mels = [torch.randn(2, 80, 17), torch.randn(1, 80, 3)]
        outputs = [generator.inference(mel)[:, 0, 5 * 256 : -5 * 256] for mel in mels]
        waveform = 0.1 * torch.randn(2, 5000)
        rate = 16000 if "16k" in case else 22050
        heard = mel_spectrogram(rate, 256, 1024, 1024, 80, 0.0, 8000.0, 1.0, False, "slaney", "slaney", True, waveform)
        listeners = sum(parameter.numel() for parameter in HifiganDiscriminator().parameters()) if case == "v1" else 0
        saved = {"mels": mels, "outputs": outputs, "waveform": waveform, "heard": heard, "listeners": listeners}
        torch.save(saved, folder / f"{case}.pt")


main(Path(sys.argv[1]))
