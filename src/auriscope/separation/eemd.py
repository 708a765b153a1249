"""ICA of one series alone: empirical mode decomposition makes the channels that a single microphone lacks.

B. Mijović et al., "Source separation from single-channel recordings by combining empirical-mode decomposition and
independent component analysis", IEEE Transactions on Biomedical Engineering 57(9), 2010, section II: the series is
decomposed into modes by an ensemble of empirical mode decompositions (Z. Wu and N. Huang, "Ensemble empirical mode
decomposition: a noise-assisted data analysis method", 2009), ICA finds independent components of the modes, and each
component, mixed back to the modes, is summed over them: what of the series it is. A source that lies in several modes,
as a short event does, is put together again; no mode alone holds it. The decomposition is that of the library PyEMD,
of the extra ``eemd``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.errors import AuriscopeError
from auriscope.separation.ica import ICAConfig, fit_unmixing

Array = NDArray[np.float64]
_SHORTEST = 64


@dataclass(frozen=True)
class EEMDICAConfig:
    """The configuration of EEMD-ICA.

    Args:
        num_sources: independent components, at most ``num_modes``; fewer are found within the modes' principal
            components.
        num_modes: of the decomposition, the last one holding all that is slower; a series may have fewer.
        num_trials: decompositions whose modes are averaged, each with another noise added.
        noise_level: standard deviation of that noise over that of the series; 0.2 is Wu and Huang's advice.
        algorithm: of ICA, and ``contrast``: as of :class:`~auriscope.separation.ica.ICAConfig`.
        seed: of the noise and of ICA's initial matrix.
    """

    num_sources: int = 4
    num_modes: int = 6
    num_trials: int = 100
    noise_level: float = 0.2
    algorithm: str = "parallel"
    contrast: str = "logcosh"
    max_iterations: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.num_sources <= self.num_modes:
            raise ValueError(f"num_sources must lie between 2 and num_modes; it is {self.num_sources}")
        if self.num_trials < 1 or not self.noise_level >= 0:
            raise ValueError("num_trials must be at least 1 and noise_level at least 0")
        self.ica(self.num_modes)  # which refuses an algorithm or contrast that there is not

    def ica(self, num_modes: int) -> ICAConfig:
        """The configuration of ICA for so many modes."""
        return ICAConfig(
            num_channels=num_modes,
            num_sources=self.num_sources,
            algorithm=self.algorithm,
            contrast=self.contrast,
            max_iterations=self.max_iterations,
            seed=self.seed,
        )


@dataclass(frozen=True)
class SeriesComponents:
    """What a series (time,) consists of: ``components`` (sources, time), the strongest first, and the ``rest`` (time,).

    They sum to the series. ``modes`` (modes, time) are those of the decomposition, the fastest first.
    """

    components: Array
    rest: Array
    modes: Array


def empirical_modes(series: Array, config: EEMDICAConfig | None = None) -> Array:
    """Decompose a series (time,) into modes (modes, time) by an ensemble of empirical mode decompositions.

    Raises :class:`~auriscope.errors.AuriscopeError` when the library is missing, or the series is too short, constant
    or not finite.
    """
    config = config or EEMDICAConfig()
    series = np.asarray(series, dtype=np.float64)
    if series.ndim != 1 or len(series) < _SHORTEST:
        raise AuriscopeError(f"a series of shape {series.shape} cannot be decomposed; give {_SHORTEST} values or more")
    spread = float(series.std())
    if not np.isfinite(spread) or spread == 0.0:
        raise AuriscopeError("a series that is constant or not finite cannot be decomposed; give another one")
    ensemble = _library().EEMD(
        trials=config.num_trials,
        noise_width=config.noise_level * spread / float(np.ptp(series)),
        parallel=False,
    )
    ensemble.noise_seed(config.seed)
    # The library counts the modes without what is left after the last.
    modes: Array = ensemble.eemd(series, max_imf=config.num_modes - 1)
    return modes


def separate_series(series: Array, config: EEMDICAConfig | None = None) -> SeriesComponents:
    """Separate one series (time,) into independent components.

    Raises :class:`~auriscope.errors.AuriscopeError` as :func:`empirical_modes` does, and when the series has fewer
    modes than components are asked for.
    """
    config = config or EEMDICAConfig()
    modes = empirical_modes(series, config)
    if len(modes) < config.num_sources:
        raise AuriscopeError(
            f"the series has {len(modes)} modes, too few for {config.num_sources} components; ask for fewer"
        )
    channels = torch.from_numpy(modes).unsqueeze(0)
    images = fit_unmixing(channels, config.ica(len(modes))).source_images(channels)
    components = images[0].sum(1).numpy()
    components = components[np.argsort(-np.square(components).sum(1), kind="stable")]
    return SeriesComponents(components, np.asarray(series, dtype=np.float64) - components.sum(0), modes)


def _library() -> Any:
    try:
        import PyEMD
    except ImportError:
        raise AuriscopeError("EEMD-ICA needs PyEMD; install the extra with: pip install 'auriscope[eemd]'") from None
    return PyEMD
