"""Bootstrap intervals over queries, of one subject together, and over seeds."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

from cbir_lib.evaluation.measures import divide

DRAWS = 2000  # of a bootstrap


def compute_balanced_interval(confusion: np.ndarray, seed: int = 0) -> list[float]:
    """Compute the 95 % percentile bootstrap interval of balanced accuracy, from 2,000 draws.

    Drawing images with replacement draws their numbers by class and rightness from a multinomial
    distribution. A class that a draw leaves out has no recall in it.
    """
    right = np.diag(confusion)
    cells = np.concatenate([right, confusion.sum(axis=1) - right])
    draws = np.random.default_rng(seed).multinomial(cells.sum(), cells / cells.sum(), DRAWS)
    right, wrong = np.split(draws, 2, axis=1)
    recalls = np.divide(
        right, right + wrong, out=np.full(right.shape, np.nan), where=right + wrong > 0
    )
    low, high = np.quantile(np.nanmean(recalls, axis=1), [0.025, 0.975])
    return [float(low), float(high)]


def compute_bootstrap_interval(values: np.ndarray, seed: int = 0) -> list[float]:
    """Compute the 95 % percentile bootstrap interval of the mean of (Q,) values, from 2,000 draws.

    For values that are independent: images of one subject are alike, and this is too narrow.
    """
    if np.ptp(values) == 0:  # SciPy has no interval for a constant
        return [float(values[0])] * 2
    interval = stats.bootstrap(
        (values,), np.mean, n_resamples=DRAWS, batch=100, method="percentile", rng=seed
    ).confidence_interval
    return [float(interval.low), float(interval.high)]


def compute_paired_interval(
    differences: np.ndarray, seed: int = 0, subjects: np.ndarray | None = None
) -> list[float]:
    """Compute the 95 % interval of a mean difference, from 2,000 draws of seeds and of images.

    Parameters
    ----------
    differences : (S, Q)
        Of two methods trained with the same S seeds, on the same Q images: such as 1 where only the
        first is right, -1 where only the second is.
    subjects : (Q,)
        Whose each image is: subjects are drawn instead, each with all its images.

    Notes
    -----
    Seeds and images are drawn with replacement, independently. With few seeds their share of the
    spread is underestimated: three seeds give an interval that is too narrow.
    """
    differences = np.asarray(differences, float)
    owners = None if subjects is None else pd.factorize(np.asarray(subjects))[0].tobytes()
    of_seeds, of_images = _draw_pairs(*differences.shape, seed, owners, DRAWS)
    means = np.einsum("ds,sq,dq->d", of_seeds, differences, of_images, optimize=True)
    low, high = np.quantile(means, [0.025, 0.975])
    return [float(low), float(high)]


@lru_cache(maxsize=2)  # a study compares hundreds of methods on the same images
def _draw_pairs(
    seeds: int, images: int, seed: int, owners: bytes | None, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the shares of seeds and of images, whose subjects are int64."""
    rng = np.random.default_rng(seed)
    of_seeds = draw_rows(seeds, rng)
    return of_seeds, draw_rows(images, rng, None if owners is None else np.frombuffer(owners, int))


def number_subjects(records: pd.DataFrame) -> np.ndarray | None:
    """Number each image's subject, in the order of their first images: (N,) int.

    An image whose subject is not known has one of its own; None where no subject is known.
    """
    names = records["subject_id"].to_numpy(dtype=str) if "subject_id" in records else np.array([""])
    if not (names != "").any():
        return None
    return pd.factorize(np.where(names == "", [f"?{row}" for row in range(len(names))], names))[0]


def draw_rows(
    number: int, rng: np.random.Generator, subjects: np.ndarray | None = None
) -> np.ndarray:
    """Draw with replacement: (DRAWS, number), what share of each draw every item has."""
    if subjects is None:
        return rng.multinomial(number, np.full(number, 1 / number), DRAWS) / number
    owner = pd.factorize(np.asarray(subjects))[0]
    units = owner.max() + 1
    times = rng.multinomial(units, np.full(units, 1 / units), DRAWS)[:, owner]
    return times / times.sum(axis=1, keepdims=True)


def draw_means(
    shares: np.ndarray, values: np.ndarray, groups: np.ndarray | None = None
) -> np.ndarray:
    """Compute (DRAWS, G) means of draws, group by group; NaN where a draw has nothing of one."""
    names, group = np.unique(np.zeros(len(values)) if groups is None else groups, return_inverse=1)
    member = (group[:, None] == np.arange(len(names))).astype(float)  # (Q, G)
    return divide(shares @ (member * values[:, None]), shares @ member)


def compute_percentile_interval(means: np.ndarray) -> list[float]:
    """Compute the middle 95 % of (DRAWS,) or (DRAWS, G) drawn means, of groups their mean."""
    if means.ndim == 2:
        means = np.nanmean(means, axis=1)
    low, high = np.nanquantile(means, [0.025, 0.975])
    return [float(low), float(high)]
