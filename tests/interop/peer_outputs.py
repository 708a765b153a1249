"""Run by the peers' Python, not ours: make the originals with random weights and write what they compute.

    python peer_outputs.py FOLDER

writes FOLDER/<case>.pt for every case below: a mapping of plain data and tensors with the checkpoint as the original
saves it, mixtures of several lengths, and the estimates (batch, sources, time) the original gives for them.
"""

import sys
import warnings
from pathlib import Path

SMALL_CONVTASNET = {"n_src": 2, "n_filters": 24, "bn_chan": 12, "hid_chan": 20, "skip_chan": 16, "n_blocks": 3}
SMALL_DPRNN = {"n_src": 2, "n_filters": 16, "bn_chan": 12, "hid_size": 10, "chunk_size": 20, "n_repeats": 2}
SMALL_SEPFORMER = {
    "encoder_out_nchannels": 32,
    "masknet_chunksize": 30,
    "intra_numlayers": 2,
    "inter_numlayers": 3,
    "intra_nhead": 4,
    "inter_nhead": 4,
    "intra_dffn": 48,
    "inter_dffn": 48,
}
SMALL_SUDORMRF = {"n_src": 2, "n_filters": 24, "bn_chan": 12, "num_blocks": 3, "upsampling_depth": 3}
SMALL_DPTNET = {"n_src": 2, "n_filters": 16, "n_heads": 2, "ff_hid": 10, "chunk_size": 20, "n_repeats": 2}
CASES = {
    "convtasnet_default": ("ConvTasNet", {"n_src": 2}),
    "convtasnet_three_sources": ("ConvTasNet", {**SMALL_CONVTASNET, "n_src": 3, "mask_act": "relu"}),
    "convtasnet_without_skip": ("ConvTasNet", {**SMALL_CONVTASNET, "skip_chan": 0, "encoder_activation": "relu"}),
    "convtasnet_causal": ("ConvTasNet", {**SMALL_CONVTASNET, "causal": True, "norm_type": "cgLN"}),
    "convtasnet_causal_replaced_norm": ("ConvTasNet", {**SMALL_CONVTASNET, "causal": True}),
    "convtasnet_softmax_16k": (
        "ConvTasNet",
        {**SMALL_CONVTASNET, "mask_act": "softmax", "kernel_size": 32, "stride": 16, "sample_rate": 16000},
    ),
    "dprnn_default": ("DPRNNTasNet", {"n_src": 2}),
    "dprnn_paper_filters": ("DPRNNTasNet", {**SMALL_DPRNN, "kernel_size": 2, "stride": 1, "chunk_size": 250}),
    "dprnn_mulcat": ("DPRNNTasNet", {**SMALL_DPRNN, "use_mulcat": True, "mask_act": "relu"}),
    "dprnn_gru_one_way": (
        "DPRNNTasNet",
        {**SMALL_DPRNN, "rnn_type": "GRU", "bidirectional": False, "num_layers": 2, "norm_type": "cLN"},
    ),
    "dprnn_uneven_hop": ("DPRNNTasNet", {**SMALL_DPRNN, "hop_size": 7, "n_src": 3, "encoder_activation": "relu"}),
    "dptnet_default": ("DPTNet", {"n_src": 2}),
    "dptnet_three_sources": ("DPTNet", {**SMALL_DPTNET, "n_src": 3, "hop_size": 7, "mask_act": "sigmoid"}),
    "dptnet_one_way": (
        "DPTNet",
        {
            **SMALL_DPTNET,
            "bidirectional": False,
            "norm_type": "cLN",
            "ff_activation": "tanh",
            "encoder_activation": None,
        },
    ),
    "sudormrf_default": ("SuDORMRFNet", {"n_src": 2}),
    "sudormrf_three_sources": ("SuDORMRFNet", {**SMALL_SUDORMRF, "n_src": 3, "kernel_size": 16, "mask_act": "sigmoid"}),
    "sudormrf_one_width": ("SuDORMRFNet", {**SMALL_SUDORMRF, "bn_chan": 24, "upsampling_depth": 1}),
    "sudormrf_improved_default": ("SuDORMRFImprovedNet", {"n_src": 2}),
    "sudormrf_improved_three_sources": (
        "SuDORMRFImprovedNet",
        {**SMALL_SUDORMRF, "n_src": 3, "kernel_size": 11, "stride": 5, "upsampling_depth": 5, "mask_act": "softmax"},
    ),
    "sepformer_default": ("SepformerWrapper", {}),
    "sepformer_small": ("SepformerWrapper", SMALL_SEPFORMER),
    "sepformer_three_sources": ("SepformerWrapper", {**SMALL_SEPFORMER, "masknet_numspks": 3, "masknet_numlayers": 1}),
}


def main(folder: Path) -> None:
    import torch

    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    for case, (name, arguments) in CASES.items():
        torch.manual_seed(0)
        model = build(name, arguments).eval()
        for parameter in model.parameters():
            # Norms start at ones and biases at zeros: what would hide a weight that went to the wrong place.
            parameter.add_(0.1 * torch.randn_like(parameter) * (1 if parameter.ndim == 1 else parameter.std()))
        # Gains that bring the estimates to the level of the mixture, where 1e-4 means something.
        encoder = next(p for key, p in model.named_parameters() if key.startswith("encoder"))
        decoder = next(p for key, p in model.named_parameters() if key.startswith("decoder"))
        mixtures = [torch.randn(2, length) * 0.2 for length in ((1203,) if case.endswith("default") else (1203, 2400))]
        encoder.mul_(1 / encoder.square().sum((1, 2)).mean().sqrt())
        decoder.mul_(0.2 / estimate(model, name, mixtures[0]).std())
        checkpoint = save(model, name)
        estimates = [estimate(model, name, mixture) for mixture in mixtures]
        torch.save(
            {"arguments": arguments, "checkpoint": checkpoint, "mixtures": mixtures, "estimates": estimates},
            folder / f"{case}.pt",
        )


def build(name, arguments):
    if name == "SepformerWrapper":
        from speechbrain.lobes.models.dual_path import SepformerWrapper

        return SepformerWrapper(**arguments)
    import asteroid.models

    return getattr(asteroid.models, name)(**arguments)


def save(model, name):
    if name == "SepformerWrapper":
        return {part: dict(getattr(model, part).state_dict()) for part in ("encoder", "decoder", "masknet")}
    serialized = model.serialize()
    return {**serialized, "state_dict": dict(serialized["state_dict"])}


def estimate(model, name, mixture):
    output = model(mixture)
    return output.transpose(1, 2) if name == "SepformerWrapper" else output


if __name__ == "__main__":
    main(Path(sys.argv[1]))
