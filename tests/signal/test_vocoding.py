"""The mels of speech synthesis, against librosa."""

from __future__ import annotations

import dataclasses

import librosa
import numpy as np
import pytest
import torch

from auriscope.errors import AuriscopeError
from auriscope.signal.vocoding import MEL_16K, MEL_22K, MelConfig, check_same_mel, speech_mel


@pytest.mark.parametrize(
    "config",
    [MEL_22K, MEL_16K, MelConfig(8000, 512, 100, 400, 40, 50.0, 3800.0, "htk", "none", power=2.0, floor=1e-3)],
)
@pytest.mark.parametrize("time", [9000, 7168])
def test_equals_librosa(config: MelConfig, time: int) -> None:
    waveform = 0.1 * np.random.default_rng(0).standard_normal((2, time)).astype(np.float32)
    waveform[:, 3000:5000] *= 1e-5  # below the floor
    mel = speech_mel(torch.from_numpy(waveform), config)
    expected = librosa.feature.melspectrogram(
        y=waveform,
        sr=config.sample_rate,
        n_fft=config.fft_length,
        hop_length=config.hop_length,
        win_length=config.window_length,
        n_mels=config.num_mels,
        fmin=config.min_hz,
        fmax=config.max_hz,
        htk=config.scale == "htk",
        norm="slaney" if config.norm == "slaney" else None,
        power=config.power,
        pad_mode="reflect",
    )
    expected = np.log(np.maximum(expected, config.floor)).transpose(0, 2, 1)
    assert mel.shape == (2, config.num_frames(time), config.num_mels)
    assert config.frame_lengths(torch.tensor([time])).tolist() == [mel.shape[1]]
    np.testing.assert_allclose(mel.numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("time", [1, 256, 512, 513])
def test_little_sound_has_mels(time: int) -> None:
    mel = speech_mel(torch.full((1, time), 0.5), MEL_16K)
    assert mel.shape == (1, 1 + time // 256, 80)
    assert mel.isfinite().all()


def test_gradients_flow() -> None:
    waveform = (0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))).requires_grad_()
    speech_mel(waveform, MEL_16K).square().mean().backward()
    assert waveform.grad is not None
    assert waveform.grad.isfinite().all()
    assert (waveform.grad != 0).float().mean() > 0.99


def test_another_definition_is_one_line_that_names_it() -> None:
    check_same_mel(MEL_16K, MelConfig(sample_rate=16_000))
    with pytest.raises(AuriscopeError, match="sample_rate 16000 and 22050") as error:
        check_same_mel(MEL_16K, MEL_22K)
    assert "\n" not in str(error.value)
    with pytest.raises(AuriscopeError, match=r"hop_length 256 and 200, floor 1e-05 and 0\.001"):
        check_same_mel(MEL_22K, dataclasses.replace(MEL_22K, hop_length=200, floor=1e-3))


@pytest.mark.parametrize("wrong", [{"hop_length": 2000}, {"max_hz": 12_000.0}, {"floor": 0.0}, {"num_mels": 0}])
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="mels"):
        MelConfig(**wrong)  # type: ignore[arg-type]
