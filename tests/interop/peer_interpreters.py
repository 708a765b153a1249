"""Run by the peers' Python, not ours: SpeechBrain's PIQ with random weights, in folders as published.

    python peer_interpreters.py FOLDER

writes FOLDER/<case>/ for every case below: hyperparams.yaml, a state dict a part, and outputs.pt with waveforms and
what SpeechBrain's own inference makes of them, from that very folder.
"""

import sys
import warnings
from pathlib import Path

TEXT = """
pretrained_path: nowhere
sample_rate: 16000
out_n_neurons: 5
n_fft: 1024
spec_mag_power: 0.5
hop_length: 11.6099
win_length: 23.2199
use_melspectra: False
use_vq: True
use_mask_output: True
compute_stft: !new:speechbrain.processing.features.STFT
    n_fft: !ref <n_fft>
    hop_length: !ref <hop_length>
    win_length: !ref <win_length>
    sample_rate: !ref <sample_rate>
compute_istft: !new:speechbrain.processing.features.ISTFT
    hop_length: !ref <hop_length>
    win_length: !ref <win_length>
    sample_rate: !ref <sample_rate>
embedding_model: !new:speechbrain.lobes.models.PIQ.Conv2dEncoder_v2
    dim: 12
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 12
    out_neurons: !ref <out_n_neurons>
    lin_blocks: 1
psi_model: !new:speechbrain.lobes.models.PIQ.VectorQuantizedPSI_Audio
    dim: 12
    K: 48
    numclasses: !ref <out_n_neurons>
    shared_keys: $shared
    adapter_reduce_dim: $halve
modules:
    compute_stft: !ref <compute_stft>
    compute_istft: !ref <compute_istft>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
    psi: !ref <psi_model>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
        psi: !ref <psi_model>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        psi: !ref <pretrained_path>/psi.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""
CASES = {"piq-esc50": {"shared": "0", "halve": "True"}, "piq-shared": {"shared": "5", "halve": "False"}}
LABELS = ("dog", "chirping birds", "vacuum cleaner", "thunderstorm", "door knock")


def main(folder: Path) -> None:
    import torch
    from hyperpyyaml import load_hyperpyyaml
    from speechbrain.dataio.encoder import CategoricalEncoder
    from speechbrain.inference.interpretability import PIQAudioInterpreter

    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    for case, values in CASES.items():
        home = folder / case
        home.mkdir(parents=True)
        text = TEXT.replace("pretrained_path: nowhere", f"pretrained_path: {home}")
        for name, value in values.items():
            text = text.replace(f"${name}", value)
        (home / "hyperparams.yaml").write_text(text)
        encoder = CategoricalEncoder()
        encoder.update_from_iterable(LABELS, sequence_input=False)
        encoder.save(home / "label_encoder.txt")
        torch.manual_seed(0)
        modules = load_hyperpyyaml(text)["modules"]
        for name in ("embedding_model", "classifier", "psi"):
            for module in modules[name].modules():
                if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                    # What would hide a norm that went to the wrong place.
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2.0)
                    module.weight.uniform_(0.5, 2.0)
                    module.bias.normal_()
                if isinstance(module, torch.nn.Embedding):
                    # As far apart as what is quantised is.
                    module.weight.normal_()
            torch.save(modules[name].state_dict(), home / f"{name}.ckpt")
        model = PIQAudioInterpreter.from_hparams(source=str(home), savedir=str(folder / f".{case}"))
        told = []
        for batch, length in ((1, 80_000), (3, 31_234)):
            waveform = torch.randn(batch, length) * 0.1
            logarithm, _, _ = model.preprocess(waveform)
            maps, _, _, label = model.classifier_forward(logarithm)
            decoded = model.mods.psi(maps, label)[0].squeeze(1)
            part = torch.expm1(torch.sigmoid(decoded) * logarithm[:, : decoded.shape[1]])
            sound, name = model.interpret_batch(waveform)
            told.append(
                {"waveform": waveform, "label": label, "logits": decoded, "part": part, "sound": sound, "name": name}
            )
        torch.save(told, home / "outputs.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
