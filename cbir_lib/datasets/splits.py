"""Training, validation and test splits for sources without any, from pixels and never from names.

Exact copies have the same pixels, so they always lie in the same split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from cbir_lib.datasets.radiographs import SPLITS

# Shares of train, validation, test: a fifth for test, the rest divided by the paper's 90:10.
SHARES = (0.72, 0.08, 0.20)
VALIDATION_SHARE = 0.10  # of a training set that has no validation split


def hash_pixels(image: np.ndarray) -> bytes:
    """Compute the SHA-256 of an image's pixels."""
    return hashlib.sha256(image.tobytes()).digest()


def split_by_content(image: np.ndarray) -> str:
    """Return the split of an image: a number in [0, 1) from its pixels is compared with ``SHARES``.

    The split depends on this image alone; for large sources, where every class gets about its share
    by chance.
    """
    return split_by_digest(hash_pixels(image))


def split_by_digest(digest: bytes) -> str:
    """Return the split of an image from the digest of its pixels: see :func:`split_by_content`."""
    draw = int.from_bytes(digest[:8], "big") / 2**64
    if draw < SHARES[0]:
        return "train"
    return "validation" if draw < SHARES[0] + SHARES[1] else "test"


def split_by_class(
    labels: Sequence[int], contents: Sequence[bytes], subjects: Sequence[str]
) -> list[str]:
    """Assign images to splits with their share of every class; for sources of any size.

    Images of one subject, and exact copies, form a group, and a group lies in one split. Of the
    groups of a class, in the order of a hash, the first fifth become test, the next twelfth
    validation, the others train; with three groups or more, each split has at least one. A group
    of several classes counts in each of them, and its rarest class decides.

    Parameters
    ----------
    labels : N class indices
    contents : N digests
        Equal for exact copies, as :func:`hash_pixels` gives them.
    subjects : N names
        Empty where the subject is unknown: such an image is grouped only with its copies.

    Returns
    -------
    N names of splits
        The same for the same images in any order and with any names.
    """
    return _split_by_group(labels, contents, subjects, _count_groups_per_split)


def _split_by_group(
    labels: Sequence[int],
    contents: Sequence[bytes],
    subjects: Sequence[str],
    wanted_of: Callable[[int], dict[str, int]],
) -> list[str]:
    """Assign images to splits, with as many groups of each class as ``wanted_of`` returns."""
    group_of = _group_images(contents, subjects)
    images = pd.DataFrame({"label": labels, "group": group_of, "content": contents})
    # Groups are ordered by a hash of their contents.
    rank = images.groupby("group")["content"].agg(
        lambda digests: hashlib.sha256(b"".join(sorted(digests))).digest()
    )
    groups_of = images.groupby("label")["group"].unique()
    split_of: dict[int, str] = {}
    for label in sorted(groups_of.index, key=lambda label: (len(groups_of[label]), label)):
        groups = sorted(groups_of[label], key=rank.__getitem__)
        wanted = wanted_of(len(groups))
        for group in groups:
            if group in split_of:
                wanted[split_of[group]] -= 1
        for group in groups:
            if group not in split_of:
                split_of[group] = next(
                    (s for s in ("test", "validation") if wanted[s] > 0), "train"
                )
                wanted[split_of[group]] -= 1
    return [split_of[group] for group in group_of]


def split_off_validation(
    labels: Sequence[int], contents: Sequence[bytes], subjects: Sequence[str]
) -> list[str]:
    """Divide a training set into train and validation, by the paper's 90:10.

    As in :func:`split_by_class`, images of one subject, and exact copies, stay together. The only
    group of a class stays in train.
    """
    return _split_by_group(labels, contents, subjects, _count_groups_of_train)


def _count_groups_of_train(groups: int) -> dict[str, int]:
    validation = max(min(1, groups // 2), round(VALIDATION_SHARE * groups))
    return {"train": groups - validation, "validation": validation, "test": 0}


def _count_groups_per_split(groups: int) -> dict[str, int]:
    """Count how many groups of a class go to each split."""
    minimum = [0, 0, 1] if groups == 2 else [min(1, groups // 3)] * 3
    test = max(minimum[2], round(SHARES[2] * groups))
    validation = max(minimum[1], round(SHARES[1] * groups))
    return dict(zip(SPLITS, (groups - validation - test, validation, test), strict=True))


def _group_images(contents: Sequence[bytes], subjects: Sequence[str]) -> np.ndarray:
    """Number the groups of images connected by content or subject: (N,) int."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(contents)
    # Images, contents and subjects are nodes; the content stands in for an unknown subject.
    contents_at, distinct = pd.factorize(np.asarray(contents, dtype=object))
    names = [subject or None for subject in subjects]
    subjects_at, known = pd.factorize(np.asarray(names, dtype=object))
    subjects_at = np.where(subjects_at < 0, contents_at, len(distinct) + subjects_at)
    rows = np.tile(np.arange(count), 2)
    nodes = count + np.concatenate([contents_at, subjects_at])
    size = count + len(distinct) + len(known)
    links = coo_array((np.ones(2 * count, dtype=bool), (rows, nodes)), shape=(size, size))
    return connected_components(links, directed=False)[1][:count]
