"""Vocoders: Griffin-Lim against librosa and against what it is to find, HiFi-GAN against its paper."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from auriscope.pretrained import load_pretrained
from auriscope.pretrained.checkpoint import save_pretrained
from auriscope.signal.stft import make_window, stft
from auriscope.signal.vocoding import MEL_16K, MelConfig, filterbank, speech_mel
from auriscope.synthesis import GriffinLim, GriffinLimConfig, HiFiGAN, HiFiGANConfig
from auriscope.synthesis.vocoder import Vocoder

MEL = MelConfig(16_000, 512, 128, 512, 60)


def _voice(seconds: float = 1.0, pitch: float = 140.0) -> Tensor:
    """A gliding voice of many harmonics with a soft beginning and a formant, (1, time)."""
    moment = torch.arange(int(16_000 * seconds)) / 16_000
    phase = 2 * torch.pi * (pitch * moment + 20 * moment.square())
    harmonics = [torch.sin(number * phase) / (1 + ((number * pitch - 700) / 500) ** 2) for number in range(1, 40)]
    return (0.2 * torch.stack(harmonics).sum(0) * (1 - torch.exp(-moment * 30)))[None]


def _tiny(**values: object) -> HiFiGAN:
    torch.manual_seed(0)
    return HiFiGAN.from_config(HiFiGAN.Tiny | values).eval()


def _mels(vocoder: Vocoder, *shape: int) -> Tensor:
    return torch.randn(*shape, vocoder.config.mel.num_mels, generator=torch.Generator().manual_seed(1))


def test_amplitudes_behind_mels_are_those_of_an_exact_solver() -> None:
    config = GriffinLimConfig(mel=MEL, num_inversion_steps=3000)
    mel = speech_mel(_voice(0.2), MEL)
    found = GriffinLim(config).amplitude(mel)[0]
    triangles = filterbank(MEL).double().numpy()
    for frame in (3, 17):
        target = mel[0, frame].double().exp().numpy()
        _, distance = nnls(triangles, target)
        ours = np.linalg.norm(triangles @ found[:, frame].double().numpy() - target)
        assert found.min() >= 0
        assert ours <= distance + 1e-3 * np.linalg.norm(target)


def test_waveforms_fit_amplitudes_as_well_as_librosas() -> None:
    amplitude = stft(_voice(), make_window("hann", 512), 128).abs()[..., :125]

    def distance(waveform: Tensor) -> float:
        again = stft(waveform[..., : 124 * 128], make_window("hann", 512), 128).abs()
        return float((again - amplitude).norm() / amplitude.norm())

    waveform = GriffinLim(GriffinLimConfig(mel=MEL, num_iterations=60)).waveform(amplitude)
    theirs = librosa.griffinlim(
        amplitude[0].numpy(), n_iter=60, hop_length=128, length=124 * 128, random_state=0, pad_mode="constant"
    )
    assert waveform.shape == (1, 125 * 128)
    assert distance(waveform) < 1.25 * distance(torch.from_numpy(theirs)[None])
    slow = GriffinLim(GriffinLimConfig(mel=MEL, num_iterations=60, momentum=0.0)).waveform(amplitude)
    assert distance(waveform) < 0.8 * distance(slow)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_griffin_lim_gives_sound_of_the_same_mels(power: float) -> None:
    mel_config = MelConfig(16_000, 512, 128, 512, 60, power=power, floor=1e-5**power)
    mel = speech_mel(_voice(), mel_config)
    waveform = GriffinLim(GriffinLimConfig(mel=mel_config))(mel)
    assert waveform.shape == (1, mel.shape[1] * 128)
    error = (speech_mel(waveform, mel_config)[:, : mel.shape[1]] - mel).abs()
    loud = mel > mel.max() - power * 5
    assert error[loud].mean() < 0.1 * power
    assert torch.equal(waveform, GriffinLim(GriffinLimConfig(mel=mel_config))(mel))


def test_griffin_lim_saves_and_loads_without_weights(tmp_path: object) -> None:
    vocoder = GriffinLim(GriffinLimConfig(mel=MEL, num_iterations=3))
    save_pretrained(vocoder, str(tmp_path) + "/model")
    loaded = load_pretrained(str(tmp_path) + "/model")
    assert loaded.config == vocoder.config
    assert vocoder.num_parameters == 0
    mel = speech_mel(_voice(0.2), MEL)
    assert torch.equal(loaded(mel), vocoder(mel))


@pytest.mark.parametrize("vocoder", [GriffinLim.from_config(GriffinLim.Tiny), _tiny(), _tiny(pad_mode="reflect")])
def test_a_padded_batch_equals_each_alone(vocoder: Vocoder) -> None:
    mel = _mels(vocoder, 3, 40)
    hop = vocoder.config.mel.hop_length
    with torch.no_grad():
        together = vocoder(mel, torch.tensor([40, 31, 12]))
        torch.testing.assert_close(vocoder(mel, torch.tensor([40, 40, 40])), vocoder(mel))
        for row, one, frames in zip(together, mel, (40, 31, 12), strict=True):
            torch.testing.assert_close(row[: frames * hop], vocoder(one[None, :frames])[0], atol=1e-5, rtol=1e-5)
            assert not row[frames * hop :].any()


@pytest.mark.parametrize(
    ("config", "millions"),
    [(HiFiGANConfig(), 13.94), (HiFiGANConfig.v2(), 0.93), (HiFiGANConfig.v3(), 1.46)],
)
def test_parameters_are_the_papers(config: HiFiGANConfig, millions: float) -> None:
    # Table 1 counts the lengths of weight normalisation, too.
    assert round(HiFiGAN(config).num_parameters / 1e6, 2) == millions


def test_silence_and_few_frames_have_sound() -> None:
    for vocoder in (_tiny(), _tiny(pad_mode="reflect"), GriffinLim.from_config(GriffinLim.Tiny)):
        for frames in (1, 2, 7):
            floor = torch.full((1, frames, vocoder.config.mel.num_mels), -11.5)
            with torch.no_grad():
                waveform = vocoder(floor)
            assert waveform.shape == (1, frames * vocoder.config.mel.hop_length)
            assert waveform.isfinite().all()


@pytest.mark.parametrize("pad_mode", ["zeros", "reflect"])
def test_what_is_kept_and_done_in_place_changes_nothing(pad_mode: str) -> None:
    vocoder = _tiny(pad_mode=pad_mode)
    mel = _mels(vocoder, 2, 20)
    with torch.no_grad():
        quick = vocoder(mel)
    torch.testing.assert_close(quick, vocoder(mel).detach(), atol=1e-6, rtol=1e-5)
    # Weights that change are not the kept ones any more.
    with torch.no_grad():
        for parameter in vocoder.parameters():
            parameter.mul_(1.1)
        changed = vocoder(mel)
    assert (changed - quick).abs().max() > 1e-3
    torch.testing.assert_close(changed, vocoder(mel).detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pad_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("config", [HiFiGAN.Tiny, {"num_channels": 16, "mel": MEL_16K, "kernel_sizes": (8, 12, 4, 2)}])
def test_pieces_are_the_whole(pad_mode: str, config: dict[str, object]) -> None:
    vocoder = _tiny(**config, pad_mode=pad_mode) if config is HiFiGAN.Tiny else None
    if vocoder is None:
        torch.manual_seed(0)
        vocoder = HiFiGAN(HiFiGANConfig(**config, pad_mode=pad_mode)).eval()  # type: ignore[arg-type]
    mel = _mels(vocoder, 2, 97)
    with torch.no_grad():
        whole = vocoder(mel)
    pieces = list(vocoder.stream(mel, piece_frames=30))
    assert [piece.shape[1] for piece in pieces] == [
        frames * vocoder.config.mel.hop_length for frames in (30, 30, 30, 7)
    ]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-6, rtol=1e-5)


def test_griffin_lims_pieces_are_cut_where_it_is_quiet() -> None:
    vocoder = GriffinLim(GriffinLimConfig(mel=MEL, num_iterations=20))
    voice = torch.cat([_voice(0.5), torch.zeros(1, 2000), _voice(0.7, 180.0)], 1)
    mel = speech_mel(voice, MEL)
    pieces = list(vocoder.stream(mel, piece_frames=80))
    ends = torch.tensor([piece.shape[1] for piece in pieces]).cumsum(0)
    assert 8000 < int(ends[0]) < 10_000
    assert int(ends[-1]) == mel.shape[1] * 128
    error = (speech_mel(torch.cat(pieces, 1), MEL)[:, : mel.shape[1]] - mel).abs()
    assert error[mel > mel.max() - 5].mean() < 0.15
    # A piece of a frame has no quarter to choose from.
    assert sum(piece.shape[1] for piece in vocoder.stream(mel[:, :9], piece_frames=1)) == 9 * 128


def test_a_sample_depends_on_no_frames_beyond_the_context() -> None:
    vocoder = _tiny(edge_frames=0)
    mel = _mels(vocoder, 1, 61).requires_grad_()
    hop = vocoder.config.mel.hop_length
    vocoder(mel)[0, 30 * hop : 31 * hop].sum().backward()
    assert mel.grad is not None
    reached = mel.grad[0].abs().sum(-1).nonzero()[:, 0]
    assert 30 - vocoder.context_frames <= int(reached.min()) < 30
    assert 30 < int(reached.max()) <= 30 + vocoder.context_frames


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rates": (8, 8, 2)}, "hop of the mels"),
        ({"kernel_sizes": (16, 16, 4)}, "as many kernel_sizes"),
        ({"kernel_sizes": (16, 15, 4, 4)}, "even number"),
        ({"num_channels": 40}, "halved"),
        ({"block_kernel_sizes": (3, 7, 10)}, "odd"),
    ],
)
def test_nonsense_is_refused(wrong: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        HiFiGANConfig(**wrong)  # type: ignore[arg-type]
