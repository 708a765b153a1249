"""Decoding strangers' files: right for good ones, and for no file more than an error of one line."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from auriscope.study import decode as decoding
from auriscope.study.decode import DecodeError, decode
from auriscope.study.riff import HEAD_BYTES, HeadError, read_head


def wav(samples: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16", format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (4_000, 2))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("format", ["WAV", "WAVEX"])
@pytest.mark.parametrize(("channels", "rate"), [(1, 8_000), (2, 48_000), (1, 192_000)])
def test_the_head_says_what_soundfile_says(subtype: str, format: str, channels: int, rate: int) -> None:
    data = wav(NOISE[:, :channels], rate, subtype, format)
    head = read_head(data)
    assert head is not None
    assert (head.sample_rate, head.num_channels, head.num_frames) == (rate, channels, 4_000)
    assert head.data_offset + head.data_bytes == len(data)
    # Its first bytes alone ask for more.
    assert all(read_head(data[:count]) is None for count in range(head.data_offset - 8))


@pytest.mark.parametrize("subtype", ["PCM_32", "PCM_U8", "FLOAT"])
def test_what_no_release_would_keep_is_refused(subtype: str) -> None:
    with pytest.raises(HeadError, match="is not coded as PCM of 16 or 24 bits"):
        read_head(wav(NOISE, subtype=subtype))


def test_chunks_before_the_samples_are_skipped() -> None:
    data = wav(NOISE)
    body = data[12:]
    odd = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    head = read_head(data[:12] + odd + body)
    assert head is not None
    assert head.data_offset == 44 + len(odd)
    far = b"JUNK" + struct.pack("<I", HEAD_BYTES) + bytes(HEAD_BYTES)
    with pytest.raises(HeadError, match="near its beginning"):
        read_head((data[:12] + far + body)[:HEAD_BYTES])


def test_decoding_gives_the_samples(tmp_path: Path) -> None:
    path = tmp_path / "recording.wav"
    path.write_bytes(wav(NOISE, subtype="PCM_24"))
    decoded = decode(path, max_seconds=1)
    assert decoded.sample_rate == 16_000
    expected, _ = soundfile.read(path, dtype="float32")
    assert np.array_equal(decoded.samples, expected)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "."),
        (b"RIFF", "."),
        (wav(NOISE)[:30], "."),
        (wav(NOISE, subtype="PCM_16", format="FLAC"), "not a WAV file"),
        (wav(np.zeros((100, 3))), "3 channels"),
        (wav(NOISE, rate=1_000), "rate"),
        (wav(np.full(100, np.nan, np.float32), subtype="FLOAT"), "NaN"),
        (wav(np.zeros(0)), "no samples"),
        (wav(np.zeros(192_001 * 2), rate=192_000), "too long"),
    ],
)
def test_what_cannot_be_decoded_is_said_in_a_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "recording.wav"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=message) as caught:
        decode(path, max_seconds=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("limit", "value"), [("_MEMORY_BYTES", 1 << 28), ("_CPU_SECONDS", 0)])
def test_the_limits_hold(tmp_path: Path, limit: str, value: int) -> None:
    # The process reads its limits from the module, so it is given a module with lower ones.
    import subprocess
    import sys

    path = tmp_path / "recording.wav"
    path.write_bytes(wav(np.zeros(60_000_000, np.int16), rate=192_000))
    code = (
        f"from auriscope.study import decode; decode.{limit} = {value}; "
        f"decode._main({str(path)!r}, {str(tmp_path / 'out')!r}, '100000000')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0 or "error" in done.stdout
    assert not (tmp_path / "out").exists() or (tmp_path / "out").stat().st_size == 0


def test_a_process_that_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(decoding.sys, "executable", str(program))
    with pytest.raises(DecodeError, match="status -11"):
        decode(tmp_path / "any.wav", max_seconds=1)


FIELDS = st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=8))
SIZES = st.tuples(st.sampled_from([4, 16, 20, 22, 24, 28, 32, 34, 40]), st.sampled_from([b"\0" * 4, b"\xff" * 4]))


def damaged(changes: list[tuple[int, bytes]], length: int) -> bytes:
    data = bytearray(wav(NOISE[:1000]))
    for position, value in changes:
        data[position : position + len(value)] = value
    return bytes(data[:length])


@settings(max_examples=2000, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.builds(damaged, st.lists(st.one_of(FIELDS, SIZES)), st.integers(0, 4044))))
@example(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0")
def test_no_head_does_more_than_be_refused(data: bytes) -> None:
    try:
        head = read_head(data)
    except HeadError:
        return
    if head is not None:
        assert head.num_channels in (1, 2)
        assert 8_000 <= head.sample_rate <= 192_000
        assert 0 <= head.num_frames <= 2**31
    else:
        assert len(data) < HEAD_BYTES


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.one_of(FIELDS, SIZES), max_size=4), length=st.sampled_from([4044, 4044, 3000, 44, 20]))
def test_no_file_does_more_than_fail_to_decode(tmp_path: Path, changes: list[tuple[int, bytes]], length: int) -> None:
    path = tmp_path / "recording.wav"
    path.write_bytes(damaged(changes, length))
    try:
        decoded = decode(path, max_seconds=1)
    except DecodeError:
        return
    assert decoded.samples.shape[1] in (1, 2)
    assert np.isfinite(decoded.samples).all()


def test_the_process_that_decodes_knows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nenv > '{tmp_path}/environment'\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(decoding.sys, "executable", str(program))
    monkeypatch.setenv("AURISCOPE_STUDY_SECRET", "a secret")
    with pytest.raises(DecodeError, match="status 3"):
        decode(tmp_path / "any.wav", max_seconds=1)
    told = (tmp_path / "environment").read_text(encoding="utf-8")
    assert "PATH=" in told
    assert "SECRET" not in told
