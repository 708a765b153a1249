"""Run by the peers' Python, not ours: Microsoft's CLAP of 2022 with random weights, in a folder as published.

    python peer_clap.py FOLDER

writes FOLDER/CLAP_weights_2022.pth, the vocabulary that it reads with, and outputs.pt: waveforms, texts and what
Microsoft's own code gives for them. Its layers are narrower than the published ones, and nothing else differs.
"""

import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

CHANNELS = (1, 4, 6, 8, 12, 16, 20)
TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "bark", "##ing", "rain", "on", "roof")
TEXTS = ["A dog barking", "rain on a roof, zebra"]


def main(folder: Path) -> None:
    """Write the folder."""
    import torch
    import yaml
    from msclap.models import audio, clap
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    bert = BertModel(
        BertConfig(
            vocab_size=len(TOKENS),
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=120,
        )
    )
    clap.AutoModel = SimpleNamespace(from_pretrained=lambda name: bert)
    settings = yaml.safe_load((Path(clap.__file__).parents[1] / "configs" / "config_2022.yml").read_text())
    model = clap.CLAP(
        audioenc_name=settings["audioenc_name"],
        sample_rate=settings["sampling_rate"],
        window_size=settings["window_size"],
        hop_size=settings["hop_size"],
        mel_bins=settings["mel_bins"],
        fmin=settings["fmin"],
        fmax=settings["fmax"],
        classes_num=7,
        out_emb=24,
        text_model=settings["text_model"],
        transformer_embed_dim=128,
        d_proj=32,
    )
    base = model.audio_encoder.base
    for number, (before, after) in enumerate(pairwise(CHANNELS), start=1):
        setattr(base, f"conv_block{number}", audio.ConvBlock(before, after))
    base.fc1 = torch.nn.Linear(CHANNELS[-1], 24)
    model.eval()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("bn0.running_mean"):
            value.data.fill_(-30.0)
        elif name.endswith("bn0.running_var"):
            value.data.fill_(200.0)
        elif name.endswith("running_var"):
            value.data.uniform_(0.5, 2.0)
        elif ".bn" in name and value.dtype.is_floating_point:
            value.data += 0.3 * torch.randn_like(value)
        elif ".conv_block" in name and value.dim() == 4:
            value.data.normal_(std=1.5 * value[0].numel() ** -0.5)
    torch.save({"model": model.state_dict()}, folder / "CLAP_weights_2022.pth")
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    waveform = 0.05 * torch.randn(3, settings["sampling_rate"] * settings["duration"])
    waveform[1] += 0.2 * torch.sin(0.1 * torch.arange(waveform.shape[1]))
    waveform[2] *= torch.arange(waveform.shape[1]) / waveform.shape[1]
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    told = tokenizer(TEXTS, max_length=settings["text_len"], padding="max_length", return_tensors="pt")
    with torch.no_grad():
        read, heard, scale = model(waveform, told)
    torch.save({"waveform": waveform, "heard": heard, "read": read, "scale": scale}, folder / "outputs.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
