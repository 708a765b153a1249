"""Run by the peers' Python, not ours: compute SpeechBrain's features of noise and write them.

    python peer_features.py FOLDER

writes FOLDER/features.pt: ``waveforms``, tensors of several lengths, and for every case one output per waveform.
"""

import sys
from pathlib import Path

FBANKS = {"fbank_80": {"n_mels": 80}, "fbank_40_deltas": {"n_mels": 40, "deltas": True}, "fbank_24": {"n_mels": 24}}
LENGTHS = (16_000, 9_123, 12_345)


def main(folder: Path) -> None:
    import torch
    from speechbrain.lobes.features import MFCC, Fbank
    from speechbrain.processing.features import InputNormalization

    torch.manual_seed(0)
    # Silence, then noise that swells: floors matter.
    swell = [torch.linspace(-0.5, 1.0, length).clamp_min(0.0) for length in LENGTHS]
    waveforms = [0.1 * torch.randn(length) * loud for length, loud in zip(LENGTHS, swell, strict=True)]
    result = {"waveforms": waveforms}
    for case, arguments in FBANKS.items():
        extractor = Fbank(**arguments)
        result[case] = [extractor(waveform[None])[0] for waveform in waveforms]
    extractor = MFCC(context=False)
    result["mfcc"] = [extractor(waveform[None])[0] for waveform in waveforms]
    sentence = InputNormalization(norm_type="sentence")
    result["sentence"] = [sentence(features[None], torch.ones(1))[0] for features in result["fbank_80"]]
    corpus = InputNormalization(norm_type="global")
    frames = [len(features) for features in result["fbank_80"]]
    batch = torch.nn.utils.rnn.pad_sequence(result["fbank_80"], batch_first=True)
    lengths = torch.tensor(frames) / max(frames)
    corpus.train()
    corpus(batch[:2], lengths[:2])
    corpus(batch[2:, : frames[2]], torch.ones(1))
    result["statistics"] = {key: value for key, value in corpus._statistics_dict().items() if key != "count"}
    corpus.eval()
    result["global"] = [corpus(features[None], torch.ones(1))[0] for features in result["fbank_80"]]
    torch.save(result, folder / "features.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
