"""EEMD-ICA: a train of pulses and a wave, found in their sum alone."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from auriscope.errors import AuriscopeError
from auriscope.separation.eemd import EEMDICAConfig, SeriesComponents, empirical_modes, separate_series

PyEMD = pytest.importorskip("PyEMD", reason="EMD-signal is not installed")
CONFIG = EEMDICAConfig(num_trials=30)


@pytest.fixture(scope="module")
def sources() -> np.ndarray:
    """Short pulses at irregular times, and a slow wave, (2, time)."""
    rng = np.random.default_rng(0)
    pulses = np.zeros(1200)
    for start in np.cumsum(rng.integers(60, 110, 11)):
        pulses[start : start + 20] = 2 * np.sin(np.linspace(0, 2 * np.pi, 20))
    return np.stack([pulses, np.sin(2 * np.pi * 7 * np.arange(1200) / 1200)])


@pytest.fixture(scope="module")
def found(sources: np.ndarray) -> SeriesComponents:
    return separate_series(sources.sum(0) + 3.0, CONFIG)


def closeness(sources: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The largest correlation of each source with any of the candidates."""
    best: np.ndarray = np.abs(np.corrcoef(sources, candidates)[:2, 2:]).max(1)
    return best


def test_components_are_closer_to_the_sources_than_any_mode(sources: np.ndarray, found: SeriesComponents) -> None:
    pulses, wave = closeness(sources, found.components)
    assert pulses > 0.95
    assert wave > 0.95
    # The pulses lie in several modes, of which none is much like them.
    assert closeness(sources, found.modes)[0] < pulses - 0.05


def test_components_and_rest_are_the_series_and_the_strongest_comes_first(
    sources: np.ndarray, found: SeriesComponents
) -> None:
    np.testing.assert_allclose(found.components.sum(0) + found.rest, sources.sum(0) + 3.0, atol=1e-9)
    energies = np.square(found.components).sum(1)
    assert (np.diff(energies) <= 0).all()
    assert found.rest.mean() == pytest.approx(3.0, abs=0.3)


def test_modes_are_those_of_the_library(sources: np.ndarray) -> None:
    series = sources.sum(0)
    ensemble = PyEMD.EEMD(trials=3, noise_width=0.2 * series.std() / np.ptp(series), parallel=False)
    ensemble.noise_seed(5)
    config = EEMDICAConfig(num_trials=3, seed=5)
    np.testing.assert_array_equal(empirical_modes(series, config), ensemble.eemd(series, max_imf=5))
    assert not np.array_equal(empirical_modes(series, EEMDICAConfig(num_trials=3)), empirical_modes(series, config))


def test_the_same_seed_gives_the_same_components(sources: np.ndarray, found: SeriesComponents) -> None:
    again = separate_series(sources.sum(0) + 3.0, CONFIG)
    np.testing.assert_array_equal(again.components, found.components)


@pytest.mark.parametrize(
    ("series", "words"),
    [
        (np.zeros(100), "constant or not finite"),
        (np.full(100, np.nan), "constant or not finite"),
        (np.arange(5.0), "give 64 values or more"),
        (np.ones((2, 100)), "give 64 values or more"),
        (np.linspace(0.0, 1.0, 100), r"the series has \d modes?, too few for 4 components"),
    ],
)
def test_series_that_have_no_components(series: np.ndarray, words: str) -> None:
    with pytest.raises(AuriscopeError, match=words):
        separate_series(series, EEMDICAConfig(num_trials=1, noise_level=0.0))


def test_wrong_settings_and_a_missing_library_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in ({"num_sources": 7}, {"num_trials": 0}, {"noise_level": -1.0}, {"algorithm": "magic"}):
        with pytest.raises(ValueError, match=r"num_sources|num_trials|algorithm"):
            EEMDICAConfig(**settings)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "PyEMD", None)
    with pytest.raises(AuriscopeError, match=r"needs PyEMD; install the extra with: pip install 'auriscope\[eemd\]'"):
        separate_series(np.random.default_rng(0).standard_normal(100))
