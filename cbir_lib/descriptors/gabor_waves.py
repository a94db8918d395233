"""Gabor filters as images: each a wave under a Gaussian."""

from __future__ import annotations

import numpy as np

from cbir_lib.descriptors.gabor import BANKS


def draw_waves(bank: str, orientations: int, scales: int, *, side: int, reach_px: int = 16):
    """Draw the real part of each filter of a bank in the image plane.

    A Gaussian in the spectrum is a Gaussian in the image, under a wave of its centre frequency.

    Parameters
    ----------
    bank
        ``octaves`` or ``manjunath-ma``.
    orientations, scales
        Size of the bank.
    side
        Of the transform, in pixels (:func:`cbir_lib.descriptors.gabor.compute_padded_side`).
    reach_px
        From the centre of a picture to its border.

    Returns
    -------
    (scales, orientations, 2 reach_px + 1, 2 reach_px + 1) float64
        1 at the centre of each picture. Low frequencies first.
    """
    filters = BANKS[bank](side, orientations, scales)
    y, x = np.mgrid[-reach_px : reach_px + 1, -reach_px : reach_px + 1] * 2 * np.pi / side
    centre, angle, along, across = filters.T[:, :, None, None]
    away = x * np.cos(angle) + y * np.sin(angle)
    aside = y * np.cos(angle) - x * np.sin(angle)
    waves = np.exp(-((along * away) ** 2 + (across * aside) ** 2) / 2) * np.cos(centre * away)
    return waves.reshape(scales, orientations, *y.shape)
