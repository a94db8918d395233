"""Exercises on what makes a good vector."""

from __future__ import annotations

import numpy as np

from cbir_lib.retrieval.hashing import HASHES, compute_hamming_distances
from cbir_lib.study import effects
from cbir_lib.teaching.answers import Array, Expected, Number, Word
from cbir_lib.teaching.material import read_published_effects


def relate_distances() -> tuple[Expected, ...]:
    """Compute the L2 distance of unit vectors from their cosine."""
    cosines = np.array([0.9, 0.5, 0.0])
    return (
        Array(
            "distances",
            np.sqrt(2 - 2 * cosines),
            "Expand |a - b|^2 with |a| = |b| = 1 and a·b = cosine.",
            tolerance=1e-3,
        ),
    )


def count_bytes() -> tuple[Expected, ...]:
    """Count the bytes of ten million vectors in three forms."""
    images = 10_000_000
    return (
        Array(
            "sizes",
            [images * 800 * 4, images * 64 * 4, images * 64 // 8],
            "A 32-bit number has 4 bytes, and 8 bits are one byte; give bytes, not gigabytes.",
        ),
    )


def choose_hash() -> tuple[Expected, ...]:
    """Find the best binary code of 64 bits, and what it costs."""
    table = effects.tabulate(read_published_effects("representation"))
    table = table[(table["factor"] == "bits") & (table["level"] == 64)]
    table = table[table["method"] == table["method"].iloc[0]]
    best = table.loc[table["mAP"].idxmax()]
    return (
        Word("best", best["hash"], HASHES, "Compare the column mAP of the three rows."),
        Number(
            "change",
            float(best["difference"]),
            "The column difference of that row, in percentage points.",
            tolerance=0.06,
        ),
    )


def count_differing_bits() -> tuple[Expected, ...]:
    """Compute Hamming distances of three codes by hand."""
    codes = np.array([[0b10110100], [0b10011100], [0b01001011]], np.uint8)
    return (
        Array(
            "distances",
            compute_hamming_distances(codes[:1], codes)[0].astype(int),
            "Write the codes one below the other and count the columns that differ.",
        ),
    )


EXERCISES = (relate_distances, count_bytes, choose_hash, count_differing_bits)
