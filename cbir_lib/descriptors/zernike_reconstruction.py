"""What Zernike moments hold of an image: the sum of the polynomials that they weight."""

from __future__ import annotations

import numpy as np
from scipy.special import eval_jacobi

from cbir_lib.images.preprocessing import check_images


def reconstruct(images: np.ndarray, order: int) -> np.ndarray:
    """Reconstruct square images from their Zernike moments of orders 0 to ``order``.

    The moments keep their phases here, which
    :class:`cbir_lib.descriptors.zernike.ZernikeMoments` drops.

    Parameters
    ----------
    images : (N, S, S) uint8
    order
        0 or more.

    Returns
    -------
    (N, S, S) float64
        Grey values, not clipped to 0 to 255; 0 outside the disc inscribed in the image.

    Notes
    -----
    The moment is ``(n + 1) / pi`` times the integral of ``f(x, y) R_nl(r) exp(-i l phi)`` over the
    unit disc, here a sum over pixels of area ``(2 / S) ** 2``; the radial polynomial is a Jacobi
    polynomial, ``R_nl(r) = (-1)^m r^l P_m^(l, 0)(1 - 2 r^2)`` with ``m = (n - l) / 2``, and its
    sign cancels. Teague, J. Opt. Soc. Am. 70(8), 1980, DOI 10.1364/JOSA.70.000920.
    """
    images = check_images(images)
    side = images.shape[1]
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / (side / 2)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    disc = radius <= 1
    r, phi, grey = radius[disc], angle[disc], images[:, disc].astype(float)  # (P,), (P,), (N, P)
    total = np.zeros(grey.shape)
    for n in range(order + 1):
        for repetition in range(n % 2, n + 1, 2):
            radial = eval_jacobi((n - repetition) // 2, repetition, 0, 1 - 2 * r**2) * r**repetition
            wave = radial * np.exp(1j * repetition * phi)
            moments = (n + 1) / np.pi * (grey @ wave.conj()) * (2 / side) ** 2
            # The moment of -l is the conjugate of that of l: both together are twice the real part.
            total += (2 if repetition else 1) * (moments[:, None] * wave).real
    drawn = np.zeros(images.shape)
    drawn[:, disc] = total
    return drawn
