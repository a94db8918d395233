"""Binary hashing: a vector as a few bits, compared by how many of them differ."""

from __future__ import annotations

import faiss
import numpy as np

from cbir_lib.errors import CbirError, is_integer, unknown_name_error

HASHES = ("random", "PCA", "ITQ")


class BinaryHash:
    """Signs of projections of centred vectors, one bit each.

    Parameters
    ----------
    method
        ``random``: orthogonal projections in random directions (Charikar 2002), which learn nothing
        but the mean. ``PCA``: the principal axes. ``ITQ``: vectors of length 1 on the principal
        axes, turned so that they lie near the corners of a cube (Gong, Lazebnik 2011).
    bits
        A multiple of 8. ``PCA`` and ``ITQ`` have no more than vectors have values.
    seed
        Of the directions, and of the turn that ITQ begins with.

    References
    ----------
    M. Charikar: Similarity estimation techniques from rounding algorithms. STOC 2002.
    Y. Gong, S. Lazebnik: Iterative quantization, a Procrustean approach to learning binary codes.
    CVPR 2011. The projections are those of faiss.
    """

    def __init__(self, method: str, bits: int, seed: int = 0):
        if method not in HASHES:
            raise unknown_name_error("hash", method, HASHES)
        if not is_integer(bits) or bits < 8 or bits % 8:
            raise CbirError(f"{bits} bits do not fill bytes", "give a multiple of 8")
        self.method, self.bits, self.seed = method, bits, seed

    def fit(self, vectors: np.ndarray) -> BinaryHash:
        """Learn from (N, D) float32 vectors of the gallery.

        Raises
        ------
        CbirError
            When PCA or ITQ is asked for more bits than there are values, or vectors.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        self.mean_ = vectors.mean(axis=0)
        values, most = vectors.shape[1], min(vectors.shape)
        if self.method == "random":
            self._projection = faiss.RandomRotationMatrix(values, self.bits)
            self._projection.init(self.seed)
            return self
        if self.bits > most:
            raise CbirError(
                f"{self.bits} bits by {self.method} need as many values and vectors, not {most}",
                "take fewer bits, or random directions",
            )
        if self.method == "PCA":
            self._projection = faiss.PCAMatrix(values, self.bits)
        else:
            self._projection = faiss.ITQTransform(values, self.bits, True)
            self._projection.itq.seed = self.seed
        self._projection.train(vectors - self.mean_)
        return self

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """Hash (N, D) float32 to (N, bits / 8) uint8."""
        centred = np.ascontiguousarray(vectors - self.mean_, np.float32)
        return np.packbits(self._projection.apply(centred) > 0, axis=1)


def compute_hamming_distances(codes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Count how many bits of (Q, B) and (G, B) uint8 codes differ: (Q, G) float32."""
    words, others = map(_pack_words, (codes, gallery))
    distances = np.empty((len(words), len(others)), np.float32)
    for row, word in zip(distances, words, strict=True):
        row[:] = np.bitwise_count(word ^ others).sum(axis=1)
    return distances


def _pack_words(codes: np.ndarray) -> np.ndarray:
    """Pack (N, B) bytes into (N, W) words of 64 bits, filled up with zeros."""
    padded = np.zeros((len(codes), -(-codes.shape[1] // 8) * 8), np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded.view(np.uint64)
