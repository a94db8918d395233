"""Several descriptors at once: the weighted sum of their distances."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cbir_lib.errors import CbirError, is_number, unknown_name_error


def compute_mean_distance(distances: np.ndarray) -> float:
    """Compute what a descriptor's distances are divided by: their mean over the training gallery.

    Parameters
    ----------
    distances : (N, N) or (Q, G)
        Between training images: all with all, or a sample of them with a sample.

    Returns
    -------
    float
        More than 0. Equal images at distance 0 count as any other pair.

    Raises
    ------
    CbirError
        When the distances are not a matrix of finite values, 0 or more, or all are 0.
    """
    mean = float(check_distances("the training distances", distances).mean(dtype=np.float64))
    if mean == 0:
        raise CbirError(
            "the training distances are all 0 and cannot be scaled",
            "leave this descriptor out: it cannot tell the images apart",
        )
    return mean


def combine(
    distances: Mapping[str, np.ndarray],
    scales: Mapping[str, float],
    weights: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Sum weighted distances, each of mean 1 over the training gallery, in the manner of FIRE.

    d(q, x) = sum over m of w_m d_m(q, x) / s_m, with s_m the
    :func:`compute_mean_distance` of descriptor m.

    Parameters
    ----------
    distances
        Of each descriptor, by name: (Q, G), 0 or more.
    scales
        Of each descriptor: its mean distance over the training gallery, more than 0. It comes from
        training images only, so a query's ranking does not depend on the other queries.
    weights
        Of each descriptor: 0 or more, not all 0; 1 each unless given. Only their proportions matter
        to a ranking. Choose them on the validation split.

    Returns
    -------
    (Q, G) float32

    Raises
    ------
    CbirError
        When the matrices have different shapes, a name has no scale or weight, or a value is out of
        range.

    Notes
    -----
    Deselaers, Keysers, Ney, Information Retrieval 11(2), 2008, DOI 10.1007/s10791-007-9039-3.
    """
    if not distances:
        raise CbirError("no distances to combine", "give one matrix or more, by descriptor")
    weights = dict.fromkeys(distances, 1.0) if weights is None else weights
    for kind, values, zero in (("scale", scales, False), ("weight", weights, True)):
        for name in values:
            if name not in distances:
                raise unknown_name_error(f"descriptor of a {kind}", name, distances)
        for name in distances:
            if name not in values:
                raise CbirError(f"{kind} of {name!r} is missing", f"give every descriptor a {kind}")
            value = values[name]
            if not is_number(value) or not (value > 0 or (zero and value == 0)):
                allowed = "0 or more" if zero else "more than 0"
                raise CbirError(
                    f"{kind} {value!r} of {name!r} is out of range", f"give a number, {allowed}"
                )
    if not any(weights.values()):
        raise CbirError("weights are all 0", "give one descriptor a weight of more than 0")
    first = next(iter(distances))
    total = np.zeros(np.shape(distances[first]), np.float64)
    for name, values in distances.items():
        matrix = check_distances(f"the distances of {name!r}", values)
        if matrix.shape != total.shape:
            raise CbirError(
                f"the distances of {name!r} have shape {matrix.shape}, those of {first!r} "
                f"{total.shape}",
                "give (Q, G) of the same queries and the same gallery",
            )
        total += matrix * (weights[name] / scales[name])
    return total.astype(np.float32)


def check_distances(what: str, distances: np.ndarray) -> np.ndarray:
    """Return the argument as an array, if it is a matrix of finite numbers, 0 or more."""
    matrix = np.asarray(distances)
    if matrix.ndim != 2 or not matrix.size or matrix.dtype.kind not in "fiu":
        raise CbirError(
            f"{what} are no matrix of numbers, but {matrix.shape} {matrix.dtype}",
            "give (Q, G), as pairwise returns it",
        )
    if not (np.isfinite(matrix).all() and (matrix >= 0).all()):
        raise CbirError(
            f"{what} have a value that is negative or not finite", "give finite values, 0 or more"
        )
    return matrix
