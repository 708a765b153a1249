"""Run by the peers' Python, not ours: SpeechBrain's classifiers of sounds with random weights, in folders as published.

    python peer_classifiers.py FOLDER

writes FOLDER/<case>/ for every case below: hyperparams.yaml, a state dict a part, label_encoder.txt, and outputs.pt
with waveforms and what SpeechBrain's own inference gives for them, from that very folder.
"""

import sys
import warnings
from pathlib import Path

FRONT = """
pretrained_path: nowhere
sample_rate: $rate
out_n_neurons: 5
n_fft: 1024
spec_mag_power: 0.5
hop_length: 11.6099
win_length: 23.2199
use_melspectra: $mels
compute_stft: !new:speechbrain.processing.features.STFT
    n_fft: !ref <n_fft>
    hop_length: !ref <hop_length>
    win_length: !ref <win_length>
    sample_rate: !ref <sample_rate>
compute_fbank: !new:speechbrain.processing.features.Filterbank
    n_mels: 80
    n_fft: !ref <n_fft>
    sample_rate: !ref <sample_rate>
    log_mel: $log
"""
CNN14 = """
embedding_model: !new:speechbrain.lobes.models.Cnn14.Cnn14
    mel_bins: 80
    emb_dim: 24
"""
CONV2D = """
embedding_model: !new:speechbrain.lobes.models.PIQ.Conv2dEncoder_v2
    dim: 12
"""
COSINES = """
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: $dim
    out_neurons: !ref <out_n_neurons>
    lin_blocks: 1
"""
LINEAR = """
classifier: !new:torch.nn.Linear
    in_features: $dim
    out_features: !ref <out_n_neurons>
"""
LAST = """
modules:
    compute_stft: !ref <compute_stft>
    compute_fbank: !ref <compute_fbank>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""
CASES = {
    "cnn14-esc50": (CNN14 + COSINES, {"rate": "16000", "mels": "True", "log": "True", "dim": "24"}),
    "cnn14-44k": (CNN14 + LINEAR, {"rate": "44100", "mels": "True", "log": "False", "dim": "24"}),
    "conv2d-esc50": (CONV2D + COSINES, {"rate": "16000", "mels": "False", "log": "True", "dim": "12"}),
}
LABELS = ("dog", "chirping birds", "vacuum cleaner", "thunderstorm", "door knock")


def main(folder: Path) -> None:
    import torch
    from hyperpyyaml import load_hyperpyyaml
    from speechbrain.dataio.encoder import CategoricalEncoder
    from speechbrain.inference.classifiers import AudioClassifier

    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    for case, (text, values) in CASES.items():
        home = folder / case
        home.mkdir(parents=True)
        text = FRONT + text + LAST
        for name, value in values.items():
            text = text.replace(f"${name}", value)
        text = text.replace("pretrained_path: nowhere", f"pretrained_path: {home}")
        (home / "hyperparams.yaml").write_text(text)
        encoder = CategoricalEncoder()
        encoder.update_from_iterable(LABELS, sequence_input=False)
        encoder.save(home / "label_encoder.txt")
        torch.manual_seed(0)
        modules = load_hyperpyyaml(text)["modules"]
        for name in ("embedding_model", "classifier"):
            for module in modules[name].modules():
                if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                    # What would hide a norm that went to the wrong place.
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2.0)
                    module.weight.uniform_(0.5, 2.0)
                    module.bias.normal_()
            torch.save(modules[name].state_dict(), home / f"{name}.ckpt")
        model = AudioClassifier.from_hparams(source=str(home), savedir=str(folder / f".{case}"))
        # Lengths that are and are not a multiple of the hop.
        waveforms = [torch.randn(batch, length) * 0.1 for batch, length in ((1, 18_600), (2, 17_321))]
        outputs = [model.classify_batch(waveform)[0].reshape(len(waveform), -1) for waveform in waveforms]
        labels = [[label for (label,) in model.classify_batch(waveform)[3]] for waveform in waveforms]
        torch.save({"waveforms": waveforms, "outputs": outputs, "labels": labels}, home / "outputs.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
