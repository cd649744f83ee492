"""Noise with the grain of an imaging system, always from a fixed seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def smooth(image: FloatArray, sigma: float, axis: int) -> FloatArray:
    """Blur along one axis with a Gaussian of ``sigma`` samples, edges repeated; shape unchanged."""
    reach = max(1, round(3 * sigma))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    padding = [(reach, reach) if k == axis else (0, 0) for k in range(image.ndim)]
    padded = np.moveaxis(np.pad(image, padding, mode="edge"), axis, 0)
    length = image.shape[axis]
    result = np.zeros_like(padded[:length])
    for offset, weight in zip(range(2 * reach + 1), weights, strict=True):
        result += weight * padded[offset : offset + length]
    return np.moveaxis(result, 0, axis)


def blurred(image: FloatArray, sigma: float) -> FloatArray:
    """Blur rows and columns, the last two axes."""
    return smooth(smooth(image, sigma, image.ndim - 1), sigma, image.ndim - 2)


def grain(shape: tuple[int, ...], sigma: float, seed: int) -> FloatArray:
    """Return Gaussian noise of unit variance whose grain is ``sigma`` pixels wide in rows and columns."""
    noise = blurred(np.random.default_rng(seed).standard_normal(shape), sigma)
    return np.asarray(noise / noise.std())
