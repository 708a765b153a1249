"""The pool: what several separators, at several stages of training, made of mixtures whose sources are known.

A pool is a folder with ``pool.json`` and, in a folder per separator, one safetensors file per batch of mixtures. A file
holds mixtures, sources and estimates as 16-bit integers, each signal at its own scale, so that an estimate can be cut,
degraded and scored anew every time it is drawn. Files appear whole or not at all, and making a pool again makes only
what is missing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from auriscope.errors import CorpusError
from auriscope.quality.degrade import degrade, true_si_snr
from auriscope.signal.resampling import resample

FORMAT_VERSION = 1
Separator = Callable[[Tensor], Tensor]
"""A mixture (batch, time) to its estimates (batch, sources, time), at the pool's sample rate."""


class Mixer(Protocol):
    """Where mixtures come from: batches with ``mixture`` and ``sources`` by index, as of ``data.DynamicMixer``."""

    @property
    def config(self) -> Any:
        """A dataclass with ``sample_rate``."""
        ...

    def batch(self, index: int) -> Mapping[str, Tensor]:
        """The batch of this index, always the same."""
        ...


def generate_pool(
    mixer: Mixer,
    separators: Mapping[str, Separator],
    folder: str | Path,
    *,
    num_batches: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Let every separator work on ``num_batches`` batches of its own, and keep the results in ``folder``.

    ``separators`` maps a name (an address) to a function; which mixtures a separator gets follows from its name, so
    that adding a separator to a pool changes nothing that is there. ``progress(name, done, num_batches)`` is called
    after every file. Raises ``CorpusError`` if ``folder`` holds a pool of other mixtures or cannot be written to.
    """
    folder = Path(folder)
    description = {"format_version": FORMAT_VERSION, "seed": getattr(mixer, "seed", 0), "mixing": _plain(mixer.config)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _agree(folder / "pool.json", description)
        for name, separator in separators.items():
            place = folder / _slug(name)
            place.mkdir(exist_ok=True)
            for number in range(num_batches):
                path = place / f"{number:06d}.safetensors"
                if not path.exists():
                    # Each separator has a block of indices of its own, far from the others'.
                    _write(path, mixer.batch((zlib.crc32(name.encode()) << 20) + number), separator)
                if progress is not None:
                    progress(name, number + 1, num_batches)
    except OSError as error:
        raise CorpusError(f"{folder}: the pool cannot be written there: {error.strerror or error}") from error
    return folder


class Pool:
    """The examples of a pool's folder: ``len`` of them, each one mixture with its sources and estimates.

    Raises ``CorpusError`` when the folder is not a pool, is empty, or is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            description = json.loads((self.folder / "pool.json").read_text(encoding="utf-8"))
            self.sample_rate = int(description["mixing"]["sample_rate"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{self.folder}: is not a pool of estimates; make it with generate_pool") from error
        self._rows: list[tuple[Path, int]] = []
        self.num_sources = 0
        for path in sorted(self.folder.glob("*/*.safetensors")):
            try:
                with safe_open(path, "pt") as file:
                    count, self.num_sources, _ = file.get_slice("estimates").get_shape()
            except SafetensorError as error:
                raise CorpusError(f"{path}: is damaged; delete it and make the pool again") from error
            self._rows += [(path, row) for row in range(count)]
        if not self._rows:
            raise CorpusError(f"{self.folder}: the pool holds no estimates; make it again")

    def __len__(self) -> int:
        return len(self._rows)

    def separator(self, index: int) -> str:
        """Name of the folder of the separator that made an example."""
        return self._rows[index][0].parent.name

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``mixture`` (time,), ``sources`` and ``estimates`` (sources, time), float32."""
        path, row = self._rows[index]
        with safe_open(path, "pt") as file:
            return {
                name: file.get_slice(name)[row].float() * file.get_slice(f"{name}_scale")[row][..., None]
                for name in ("mixture", "sources", "estimates")
            }


class QualityBatches:
    """Endless training batches for an estimator, each a function of seed and index alone.

    A batch is ``{"mixture": (batch, time), "estimates": (batch, sources, time), "lengths": (batch,), "target_db":
    (batch, sources)}``; the target is the true SI-SNR under the best joint permutation, NaN where the talker is silent.
    An example comes from one of the ``pools``, in proportion to their sizes, or, without any, from ``mixer``; with
    probability ``degraded_share`` (always, without a pool) its tracks are degraded on purpose
    (:mod:`auriscope.quality.degrade`). It is cut to a random stretch of ``seconds``. All examples of a batch come from
    one pool. With probability ``alone_share`` the batch holds one track of every mixture only, so that the estimator
    also learns to judge without the other tracks.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        sample_rate: int,
        seconds: tuple[float, float],
        pools: tuple[Pool, ...] = (),
        mixer: Mixer | None = None,
        degraded_share: float = 0.4,
        alone_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        if not pools and mixer is None:
            raise ValueError("give pools or a mixer")
        self.batch_size, self.sample_rate, self.seconds = batch_size, sample_rate, seconds
        self.pools, self.mixer = pools, mixer
        self.degraded_share = degraded_share if pools else 1.0
        self.alone_share = alone_share
        self.seed = seed

    def batch(self, index: int) -> dict[str, Tensor]:
        """Make the batch with this index."""
        rng = np.random.default_rng([self.seed, index])
        raw, rate = self._raw(index, rng)
        examples = [self._example(item, rate, rng) for item in raw]
        lengths = torch.tensor([len(mixture) for mixture, _, _ in examples])
        longest = int(lengths.max())

        def stacked(position: int) -> Tensor:
            parts = [example[position] for example in examples]
            return torch.stack([torch.nn.functional.pad(part, (0, longest - part.shape[-1])) for part in parts])

        mixture, sources, estimates = (resample(stacked(position), rate, self.sample_rate) for position in range(3))
        lengths = (lengths * self.sample_rate // rate).clamp(max=mixture.shape[-1])
        target, _ = true_si_snr(estimates, sources, lengths)
        if rng.random() < self.alone_share:
            chosen = torch.from_numpy(rng.integers(estimates.shape[1], size=len(estimates)))
            rows = torch.arange(len(estimates))
            estimates, target = estimates[rows, chosen][:, None], target[rows, chosen][:, None]
        return {"mixture": mixture, "estimates": estimates, "lengths": lengths, "target_db": target}

    def _raw(self, index: int, rng: np.random.Generator) -> tuple[list[dict[str, Tensor]], int]:
        if self.pools:
            sizes = np.array([len(pool) for pool in self.pools], dtype=np.float64)
            pool = self.pools[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
            return [pool[int(number)] for number in rng.integers(len(pool), size=self.batch_size)], pool.sample_rate
        assert self.mixer is not None
        batch = self.mixer.batch(index)
        rows = [{"mixture": batch["mixture"][row], "sources": batch["sources"][row]} for row in range(self.batch_size)]
        return rows, int(self.mixer.config.sample_rate)

    def _example(self, item: dict[str, Tensor], rate: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        mixture, sources = item["mixture"], item["sources"]
        estimates = item.get("estimates")
        if rng.random() < self.degraded_share:
            if estimates is not None:
                _, permutation = true_si_snr(sources[None], estimates[None])
                estimates = estimates[permutation[0]]
            estimates = degrade(mixture, sources, rng, estimates)
        assert estimates is not None
        low, high = (int(bound * rate) for bound in self.seconds)
        length = min(int(rng.integers(low, high, endpoint=True)), mixture.shape[-1])
        start = int(rng.integers(mixture.shape[-1] - length, endpoint=True))
        cut = slice(start, start + length)
        return mixture[cut], sources[:, cut], estimates[:, cut]


def _plain(config: Any) -> dict[str, Any]:
    """Give the configuration as JSON would give it back."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def _agree(path: Path, description: dict[str, Any]) -> None:
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != description:
            raise CorpusError(f"{path.parent}: holds a pool of other mixtures; choose another folder, or delete it")
        return
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    aside.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    aside.replace(path)


def _slug(name: str) -> str:
    """A folder name for an address: readable, and different for different addresses."""
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '_', name).strip('_.')[-60:]}-{zlib.crc32(name.encode()):08x}"


@torch.no_grad()
def _write(path: Path, batch: Mapping[str, Tensor], separator: Separator) -> None:
    tensors: dict[str, Tensor] = {}
    signals = {
        "mixture": batch["mixture"],
        "sources": batch["sources"],
        "estimates": separator(batch["mixture"]).float().cpu(),
    }
    for name, values in signals.items():
        # The largest sample becomes 32767; a signal of zeros keeps any scale.
        scale = values.abs().amax(-1).clamp_min(1e-20) / 32767
        tensors[name] = (values / scale[..., None]).round().to(torch.int16).contiguous()
        tensors[f"{name}_scale"] = scale.contiguous()
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
