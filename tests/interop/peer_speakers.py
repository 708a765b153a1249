"""Run by the peers' Python, not ours: SpeechBrain's speaker models with random weights, in folders as published.

    python peer_speakers.py FOLDER

writes FOLDER/<case>/ for every case below: hyperparams.yaml, a state dict a part, and outputs.pt with waveforms and the
embeddings that SpeechBrain's own inference gives for them, from that very folder.
"""

import sys
import warnings
from pathlib import Path

FRONT = """
n_mels: $mels
pretrained_path: nowhere
out_n_neurons: 7
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
"""
ECAPA = """
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [24, 24, 24, 24, 40]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 10
    se_channels: 12
    res2net_scale: 4
    lin_neurons: 18
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 18
    out_neurons: !ref <out_n_neurons>
"""
XVECTOR = """
embedding_model: !new:speechbrain.lobes.models.Xvector.Xvector
    in_channels: !ref <n_mels>
    activation: !name:torch.nn.LeakyReLU
    tdnn_blocks: 5
    tdnn_channels: [20, 20, 20, 20, 48]
    tdnn_kernel_sizes: [5, 3, 3, 1, 1]
    tdnn_dilations: [1, 2, 3, 1, 1]
    lin_neurons: 16
classifier: !new:speechbrain.lobes.models.Xvector.Classifier
    input_shape: [null, null, 16]
    activation: !name:torch.nn.LeakyReLU
    lin_blocks: 1
    lin_neurons: 16
    out_neurons: !ref <out_n_neurons>
"""
LAST = """
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
    classifier: !ref <classifier>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
"""
CASES = {
    "spkrec-ecapa-voxceleb": FRONT.replace("$mels", "80") + ECAPA + LAST,
    "spkrec-xvect-voxceleb": FRONT.replace("$mels", "24") + XVECTOR + LAST,
}


def main(folder: Path) -> None:
    import torch
    from hyperpyyaml import load_hyperpyyaml
    from speechbrain.inference.classifiers import EncoderClassifier

    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    for case, text in CASES.items():
        home = folder / case
        home.mkdir(parents=True)
        text = text.replace("pretrained_path: nowhere", f"pretrained_path: {home}")
        (home / "hyperparams.yaml").write_text(text)
        torch.manual_seed(0)
        modules = load_hyperpyyaml(text)["modules"]
        for name in ("embedding_model", "classifier"):
            for module in modules[name].modules():
                if isinstance(module, torch.nn.BatchNorm1d):
                    # What would hide a norm that went to the wrong place.
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2.0)
                    module.weight.uniform_(0.5, 2.0)
                    module.bias.normal_()
            torch.save(modules[name].state_dict(), home / f"{name}.ckpt")
        model = EncoderClassifier.from_hparams(source=str(home), savedir=str(folder / f".{case}"))
        for module in model.mods.modules():
            if hasattr(module, "_get_gauss_noise"):
                # Its pooling adds random noise of 1e-5, which is no part of the voice.
                module._get_gauss_noise = lambda shape, device="cpu": torch.zeros(shape, device=device)
        waveforms = [torch.randn(batch, length) * 0.1 for batch, length in ((1, 8000), (2, 16_321), (1, 1600))]
        outputs = [model.encode_batch(waveform)[:, 0] for waveform in waveforms]
        torch.save({"waveforms": waveforms, "outputs": outputs}, home / "outputs.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
