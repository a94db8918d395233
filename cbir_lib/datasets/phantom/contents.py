"""What the phantom set contains: its images a class and split, and the file of its checksums.

Apart from how they are drawn, which decides nothing once they are.
"""

from __future__ import annotations

from cbir_lib.datasets.irma import CLASSES as TRAIN
from cbir_lib.datasets.radiographs import apportion

CHECKSUMS_FILE = "SHA256SUMS"
COUNT = 14410
# Images a class in IRMA's test (public label lists), as CLASSES of irma has those of its train.
TEST = {
    "cranium": 142,
    "spine": 213,
    "upper extremity": 596,
    "chest": 93,
    "lower extremity": 449,
}
TEST_SHARE, VALIDATION_SHARE = 1733 / 14410, 0.1


def share_out(total: int, weights: dict[str, int]) -> dict[str, int]:
    """Share ``total`` out in these proportions."""
    return dict(zip(weights, apportion(total, list(weights.values())), strict=True))


def compute_split_sizes(count: int) -> dict[str, dict[str, int]]:
    """Compute the images of each class in each split, for ``count`` in all."""
    test = round(count * TEST_SHARE)
    validation = round((count - test) * VALIDATION_SHARE)
    return {
        "train": share_out(count - test - validation, TRAIN),
        "validation": share_out(validation, TRAIN),
        "test": share_out(test, TEST),
    }
