"""From path lengths to a film: attenuation, scatter, noise, blur, the film's curve.

Attenuation coefficients: Hubbell and Seltzer, NIST Standard Reference Database 126,
doi:10.18434/T48G6X (water, adipose tissue and cortical bone of ICRU-44, iron).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from cbir_lib.datasets.phantom.parameters import Exposure

ENERGIES_KEV = (30, 40, 60, 80)
# Linear attenuation per metre: mass coefficient (cm2/g) x density (g/cm3) x 100.
SOFT = np.array([0.3756, 0.2683, 0.2059, 0.1837]) * 1.04 * 100
FAT = np.array([0.3063, 0.2396, 0.1974, 0.1800]) * 0.95 * 100
BONE = np.array([1.331, 0.6655, 0.3148, 0.2229]) * 1.92 * 100
METAL = np.array([8.176, 3.629, 1.205, 0.5952]) * 7.87 * 100
RANGE_DECADES = 2.0  # of exposure that the film's curve takes from black to white at gamma 1


class Paths(NamedTuple):
    """Metres of each tissue along every ray, (H, W) each."""

    soft: np.ndarray
    fat: np.ndarray
    bone: np.ndarray
    metal: np.ndarray


class Film(NamedTuple):
    """An image on its way to the film, (H, W) each; for showing how one is made."""

    primary: np.ndarray  # share of the open beam that arrives unscattered
    detected: np.ndarray  # with scatter, noise and blur
    grey: np.ndarray  # (H, W) uint8


def compute_primary(paths: Paths, energy: float) -> np.ndarray:
    """Compute the detected share of the open beam (Beer-Lambert), for two energies or more.

    ``energy`` shifts the weight between them: at 0, 30 and 40 keV by 2 : 1; at 1, 40, 60 and 80 keV
    by 1 : 2 : 1.
    """
    weights = np.interp(energy * 2 - np.arange(4) + 0.5, [-1, 0, 1, 2], [0, 1, 1, 0])
    weights /= weights.sum()
    total = np.zeros_like(paths.soft)
    for weight, soft, fat, bone, metal in zip(weights, SOFT, FAT, BONE, METAL, strict=True):
        if weight:
            depth = soft * paths.soft + fat * paths.fat + bone * paths.bone + metal * paths.metal
            total += weight * np.exp(-depth)
    return total


def expose(
    paths: Paths, energy: float, settings: Exposure, opening: np.ndarray, rng: np.random.Generator
) -> Film:
    """Take and develop one image.

    Parameters
    ----------
    paths
        As for :func:`compute_primary`.
    opening : (H, W)
        Collimator: 1 open, 0 closed.
    rng
        Of the noise. Poisson noise is drawn as normal noise of the same variance, so that a last
        bit's difference between two machines cannot change all that follows.

    Returns
    -------
    Film
        Bone is bright: grey falls with exposure.
    """
    beam = compute_primary(paths, energy) * opening
    # What is behind the middle of the body, as an automatic exposure would measure it.
    behind = (paths.soft + paths.bone > 0.01) & (opening > 0.5)
    chamber = np.zeros_like(behind)
    rows, columns = behind.shape
    chamber[int(0.3 * rows) : int(0.7 * rows), int(0.3 * columns) : int(0.7 * columns)] = True
    if (behind & chamber).sum() > 0.2 * chamber.sum():
        behind &= chamber
    usual = float(np.median(beam[behind])) if behind.any() else 1.0
    # Scatter comes from the body, not from the air beside it, and hardly knows of edges.
    thickness = 1 - np.exp(-12 * paths.soft)
    source = np.minimum(beam, 3 * usual) * thickness
    arrived = beam + settings.scatter * cv2.GaussianBlur(source, (0, 0), 0.10 * max(beam.shape))
    noise = np.sqrt(np.maximum(arrived, 1e-6) * usual / settings.photons)
    noisy = arrived + noise * rng.standard_normal(arrived.shape)
    detected = cv2.GaussianBlur(noisy, (0, 0), settings.blur_px)
    exposure = np.log10(np.maximum(detected, 1e-3 * usual) / usual) + settings.darkness
    # Hurter and Driffield: density over the logarithm of exposure is a sigmoid.
    density = 1 / (1 + np.exp(-settings.gamma * (4 / RANGE_DECADES) * (exposure - 0.05)))
    grey = 1 - density
    grey = settings.fog + (1 - 1.4 * settings.fog) * grey
    return Film(beam, detected, np.clip(np.rint(255 * grey), 0, 255).astype(np.uint8))
