"""Grey histogram: how often each grey value occurs, wherever it occurs.

The paper's "colour histogram", which on grey images is this.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from cbir_lib.errors import CbirError
from cbir_lib.preprocessing import as_images


class GreyHistogram(TransformerMixin, BaseEstimator):
    """Relative frequencies of grey values, as in Deselaers, Keysers, Ney (2004, 2008).

    Parameters
    ----------
    bins : int
        Number of equal bins over 0..255, a divisor of 256. The baselines use 256.

    Notes
    -----
    Nothing is learned. The vector has ``bins`` values, all 0 or more, and sums to 1.
    DOI 10.1007/978-3-540-28649-3_28, 10.1007/s10791-007-9039-3.
    """

    distance = "Jensen-Shannon"

    def __init__(self, bins: int = 256):
        self.bins = bins

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> GreyHistogram:
        """Check the parameters; there is nothing to learn."""
        if not isinstance(self.bins, int) or not 2 <= self.bins <= 256 or 256 % self.bins:
            raise CbirError(f"bins {self.bins!r} is out of range", "give 2, 4, 8, ... or 256")
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 → (N, bins) float32."""
        self.fit(images)
        images = as_images(images).reshape(len(images), -1)
        per_bin = 256 // self.bins
        counts = np.stack([np.bincount(image // per_bin, minlength=self.bins) for image in images])
        return (counts / images.shape[1]).astype(np.float32)
