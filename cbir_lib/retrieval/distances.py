"""Distances between two sets of vectors; smaller is more alike.

All are zero between equal vectors, but for the inner product, and symmetric, but for the image
distortion.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.loops import compile_loops
from cbir_lib.retrieval import distance_loops

CACHED_VALUES = 1 << 17  # of a gallery, in half a megabyte


def pairwise(
    distance: str, queries: np.ndarray, gallery: np.ndarray, device: str | None = None
) -> np.ndarray:
    """Compute the distance of every query to every vector of the gallery.

    Parameters
    ----------
    distance
        ``L1``, ``L2``, ``cosine``, ``inner product``, ``Jensen-Shannon``, ``chi-square``,
        ``intersection``, ``earth mover`` or ``image distortion``.
    queries : (Q, D) float32
    gallery : (G, D) float32
    device
        Of torch, as ``cuda``: computed there in float32, so last digits differ. None: by NumPy and
        SciPy, as the study does; so is the image distortion always.

    Returns
    -------
    (Q, G) float32

    Raises
    ------
    CbirError
        When the distance is unknown, the dimensions differ, or a value is not finite; for
        distances of histograms, when a value is negative or, but for chi-square, a vector all zero;
        for the image distortion, when the vectors are no square thumbnails of values in 0..1.

    Examples
    --------
    >>> pairwise("L1", np.array([[0.0, 0.0]]), np.array([[1.0, 2.0], [3.0, 3.0]])).tolist()
    [[3.0, 6.0]]
    """
    if distance not in DISTANCES:
        raise unknown_name_error("distance", distance, DISTANCES)
    a, b = (np.asarray(vectors, dtype=np.float32) for vectors in (queries, gallery))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise CbirError(
            f"vectors of shapes {a.shape} and {b.shape} cannot be compared",
            "give (Q, D) and (G, D), both of one descriptor",
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise CbirError("a vector has a value that is not finite", "look for NaN in the vectors")
    if device is not None and distance != "image distortion":  # by compiled loops alone
        return compute_on_device(distance, a, b, device)
    return DISTANCES[distance](a, b).astype(np.float32, copy=False)


def l1(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of absolute differences."""
    return compare_in_blocks(a, b, distance_loops.add_absolute_differences)


def l2(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the Euclidean distance: the root of the sum of squared differences."""
    return compare_in_blocks(a, b, distance_loops.add_squared_differences)


def compare_in_blocks(a: np.ndarray, b: np.ndarray, loops: Callable) -> np.ndarray:
    """Compare vectors by compiled loops, block by block of the gallery: (Q, G) float32."""
    compare = compile_loops(loops, reorder=True)
    distances = np.empty((len(a), len(b)), np.float32)
    # The loops need no version for other orders or memory maps.
    a = np.require(a, requirements=["C", "W"])
    for rows in split_gallery(b, 16):
        compare(a, np.require(b[rows], requirements=["C", "W"]), rows.start, distances)
    return distances


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute one minus the cosine of the angle, 0 to 2.

    A zero vector has no direction: it is 1 away from any other vector and 0 from another zero one.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = [np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (a, b)]
    scaled = [v / np.where(norm > 0, norm, 1) for v, norm in zip((a, b), norms, strict=True)]
    # Products of equal vectors differ in the last bits, by their place in the matrix: rounded,
    # equal vectors are at equal distances, and at zero from one another.
    distances = scaled[0] @ scaled[1].T
    np.subtract(1, distances, out=distances)
    np.clip(np.round(distances, 9, out=distances), 0, 2, out=distances)
    distances[(norms[0] == 0) & (norms[1] == 0).T] = 0
    return distances


def inner_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute minus the inner product, so that smaller is more alike: any sign, not 0 of equals."""
    return -(a.astype(np.float64) @ b.astype(np.float64).T)


def jensen_shannon(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of p ln(2p / (p + q)) + q ln(2q / (p + q)), 0 to 2 ln 2, of vectors scaled to sum 1.

    As in Deselaers, Keysers, Ney, Information Retrieval 11(2), 2008, DOI 10.1007/s10791-007-9039-3:
    natural logarithm, no factor 1/2, no root. A bin empty in both adds nothing, and a bin empty in
    one adds ln 2 times the other.
    """
    a, b = normalise_sums("Jensen-Shannon", a.astype(np.float64), b.astype(np.float64))
    a, b = (np.ascontiguousarray(v, np.float32) for v in (a, b))
    compare = compile_loops(distance_loops.add_divergences, distance_loops.take_logarithm)
    entropies = compute_entropy_terms(a)
    distances = np.empty((len(a), len(b)), np.float32)
    for rows in split_gallery(b, 512):
        bins = np.ascontiguousarray(b[rows].T)
        compare(a, entropies, bins, compute_entropy_terms(bins), rows.start, distances)
    return distances


def split_gallery(gallery: np.ndarray, least: int) -> list[slice]:
    """Split the rows of a (G, D) gallery into blocks that stay in a processor's cache.

    Of ``least`` vectors and more, all of nearly one size, so that sums of equal vectors are rounded
    alike in each.
    """
    vectors = max(least, CACHED_VALUES // max(1, gallery.shape[1]))
    count = max(1, len(gallery) // vectors)
    ends = np.cumsum([len(block) for block in np.array_split(gallery, count)]).tolist()
    return [slice(*both) for both in zip([0, *ends[:-1]], ends, strict=True)]


def compute_entropy_terms(p: np.ndarray) -> np.ndarray:
    """Compute p ln p of each value of (N, D) float32, where 0 ln 0 is 0."""
    terms = np.empty_like(p)
    compile_loops(distance_loops.write_entropy_terms, distance_loops.take_logarithm)(p, terms)
    return terms


def chi_square(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of (p - q)^2 / (p + q), of vectors as they are; 0 to 2 if they sum to 1.

    As in Deselaers, Keysers, Ney (2008): no factor 1/2. A bin empty in both adds nothing, and
    vectors may be all zero, but no value negative.
    """
    if (a < 0).any() or (b < 0).any():
        raise no_histograms_error("chi-square", "no negative value")
    return compare_in_blocks(a, b, distance_loops.add_relative_differences)


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute one minus the sum of min(p, q), 0 to 1, of vectors scaled to sum 1.

    Swain, Ballard, IJCV 7(1), 1991, DOI 10.1007/BF00130487. Of vectors that sum to 1 this is half
    of L1. A bin empty in both adds nothing.
    """
    a, b = normalise_sums("intersection", a.astype(np.float64), b.astype(np.float64))
    return compare_in_blocks(a, b, distance_loops.add_absolute_differences) / 2


def earth_mover(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the least work that turns one histogram into the other, 0 to D - 1, both of sum 1.

    Work is share times the number of bins it is moved by: the bins lie in a row, one apart, so
    their order matters, and the distance is L1 of the cumulative sums (Rubner, Tomasi, Guibas,
    IJCV 40(2), 2000, DOI 10.1023/A:1026543900054). Not for joint histograms, nor for circular ones.
    """
    a, b = normalise_sums("earth mover", a.astype(np.float64), b.astype(np.float64))
    return compare_in_blocks(a.cumsum(1), b.cumsum(1), distance_loops.add_absolute_differences)


def image_distortion(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute it from query to gallery, of square thumbnails of values 0 to 1; not symmetric.

    See :func:`cbir_lib.descriptors.thumbnail.compute_image_distortion`.
    """
    from cbir_lib.descriptors import thumbnail  # needs torch

    side = math.isqrt(a.shape[1])
    if side**2 != a.shape[1] or min(a.min(), b.min()) < 0 or max(a.max(), b.max()) > 1:
        raise CbirError(
            "the image distortion needs square thumbnails of values 0 to 1",
            "describe the images by the thumbnail, or choose L2",
        )
    images = (np.round(v * 255).astype(np.uint8).reshape(-1, side, side) for v in (a, b))
    return thumbnail.compute_image_distortion(*images)


BLOCK_VALUES = 1 << 26  # of a block of differences on a device


def compute_on_device(distance: str, a: np.ndarray, b: np.ndarray, device: str) -> np.ndarray:
    """Compute the distances by torch: (Q, G) float32."""
    import torch

    if distance in ("Jensen-Shannon", "intersection", "earth mover"):
        a, b = normalise_sums(distance, a.astype(np.float64), b.astype(np.float64))
        if distance == "earth mover":
            a, b = a.cumsum(1), b.cumsum(1)
        a, b = a.astype(np.float32), b.astype(np.float32)
    if distance == "chi-square" and min(a.min(initial=0), b.min(initial=0)) < 0:
        raise no_histograms_error(distance, "no negative value")
    x, y = (torch.from_numpy(np.ascontiguousarray(v)).to(check_device(device)) for v in (a, b))
    if distance in ("L1", "intersection", "earth mover"):
        return (torch.cdist(x, y, p=1) / (2 if distance == "intersection" else 1)).cpu().numpy()
    if distance == "L2":
        apart = "donot_use_mm_for_euclid_dist"  # products would cancel between near vectors
        return torch.cdist(x, y, compute_mode=apart).cpu().numpy()
    if distance in ("cosine", "inner product"):
        x, y = x.double(), y.double()
        if distance == "inner product":
            return (-(x @ y.T)).float().cpu().numpy()
        norms = [v.norm(dim=1, keepdim=True) for v in (x, y)]
        x, y = (v / torch.where(n > 0, n, 1) for v, n in zip((x, y), norms, strict=True))
        distances = torch.round(1 - x @ y.T, decimals=9).clamp(0, 2)
        distances[(norms[0] == 0) & (norms[1] == 0).T] = 0
        return distances.float().cpu().numpy()
    distances = torch.empty(len(x), len(y), device=x.device)
    step = max(1, BLOCK_VALUES // max(1, y.numel()))
    for start in range(0, len(x), step):
        p, q = x[start : start + step, None], y[None]
        total = p + q
        if distance == "chi-square":
            terms = (p - q) ** 2 / total.clamp_min(torch.finfo(total.dtype).tiny)
        else:
            terms = torch.xlogy(p, p) + torch.xlogy(q, q) - torch.xlogy(total, total / 2)
        distances[start : start + step] = terms.sum(dim=2).clamp_min(0)
    return distances.cpu().numpy()


def check_device(device: str) -> str:
    """Return the device, if torch has it.

    Raises
    ------
    CbirError
        When there is no such device.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CbirError(
            f"there is no device {device!r} here", "leave device out to search on the processor"
        ) from error
    return device


def normalise_sums(distance: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide each histogram of both sets by its sum."""
    if (a < 0).any() or (b < 0).any() or not (a.any(1).all() and b.any(1).all()):
        raise no_histograms_error(distance, "no negative value, no empty vector")
    return a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)


def no_histograms_error(distance: str, rule: str) -> CbirError:
    """Build the error for vectors that a distance of histograms cannot compare."""
    return CbirError(
        f"the {distance} distance needs histograms: {rule}",
        "choose L1, L2 or cosine for this descriptor",
    )


DISTANCES = {
    "L1": l1,
    "L2": l2,
    "cosine": cosine,
    "inner product": inner_product,
    "Jensen-Shannon": jensen_shannon,
    "chi-square": chi_square,
    "intersection": intersection,
    "earth mover": earth_mover,
    "image distortion": image_distortion,
}
