"""Training, validation and test for sources that come without: from the pixels, never from names.

Exact copies have the same pixels, so they never lie on two sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from cbir_lib.datasets.radiographs import SPLITS

# Shares of train, validation, test: a fifth for the test, then the paper's 90:10.
SHARES = (0.72, 0.08, 0.20)
VALIDATION_SHARE = 0.10  # of a training set that comes without validation


def content(image: np.ndarray) -> bytes:
    """The SHA-256 of an image's pixels."""
    return hashlib.sha256(image.tobytes()).digest()


def split_by_content(image: np.ndarray) -> str:
    """The split an image belongs to: a number in [0, 1) from its pixels, against ``SHARES``.

    It depends on this one image alone; for large sources, where chance gives each class its share.
    """
    return split_of(content(image))


def split_of(digest: bytes) -> str:
    """:func:`split_by_content`, from the digest of the pixels."""
    draw = int.from_bytes(digest[:8], "big") / 2**64
    if draw < SHARES[0]:
        return "train"
    return "validation" if draw < SHARES[0] + SHARES[1] else "test"


def split_by_class(
    labels: Sequence[int], contents: Sequence[bytes], subjects: Sequence[str]
) -> list[str]:
    """The split of each image, with its share of every class; for sources of any size.

    Images of one subject, and exact copies, form a group, and a group lies in one split. Of the
    groups of a class, in the order of a hash, the first fifth become test, the next twelfth
    validation, the others train; with three groups or more, each split has at least one. A group
    of several classes counts in each and goes where the rarest of them sends it.

    Parameters
    ----------
    labels : N class indices
    contents : N digests
        Equal for exact copies, as :func:`content` gives them.
    subjects : N names
        Empty where the subject is unknown: such an image has only its copies for company.

    Returns
    -------
    N names of splits
        The same for the same images in any order and under any names.
    """
    return _divided(labels, contents, subjects, _wanted)


def _divided(
    labels: Sequence[int],
    contents: Sequence[bytes],
    subjects: Sequence[str],
    wanted_of: Callable[[int], dict[str, int]],
) -> list[str]:
    """The split of each image, with as many groups of each class as ``wanted_of`` says."""
    group_of = _groups(contents, subjects)
    images = pd.DataFrame({"label": labels, "group": group_of, "content": contents})
    # A group's place in the order: a hash of what is in it.
    rank = images.groupby("group")["content"].agg(
        lambda found: hashlib.sha256(b"".join(sorted(found))).digest()
    )
    groups_of = images.groupby("label")["group"].unique()
    given: dict[int, str] = {}
    for label in sorted(groups_of.index, key=lambda label: (len(groups_of[label]), label)):
        groups = sorted(groups_of[label], key=rank.__getitem__)
        wanted = wanted_of(len(groups))
        for group in groups:
            if group in given:
                wanted[given[group]] -= 1
        for group in groups:
            if group not in given:
                given[group] = next((s for s in ("test", "validation") if wanted[s] > 0), "train")
                wanted[given[group]] -= 1
    return [given[group] for group in group_of]


def validation_of_train(
    labels: Sequence[int], contents: Sequence[bytes], subjects: Sequence[str]
) -> list[str]:
    """The split, train or validation, of each image of a training set: the paper's 90:10.

    As :func:`split_by_class` goes: images of one subject, and exact copies, stay together. A class
    of one group keeps it for training.
    """
    return _divided(labels, contents, subjects, _wanted_of_train)


def _wanted_of_train(groups: int) -> dict[str, int]:
    validation = max(min(1, groups // 2), round(VALIDATION_SHARE * groups))
    return {"train": groups - validation, "validation": validation, "test": 0}


def _wanted(groups: int) -> dict[str, int]:
    """How many of a class's groups go to each split."""
    least = [0, 0, 1] if groups == 2 else [min(1, groups // 3)] * 3
    test = max(least[2], round(SHARES[2] * groups))
    validation = max(least[1], round(SHARES[1] * groups))
    return dict(zip(SPLITS, (groups - validation - test, validation, test), strict=True))


def _groups(contents: Sequence[bytes], subjects: Sequence[str]) -> np.ndarray:
    """(N,) int: images that hang together, by content or by subject, have the same number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(contents)
    # Each image, its content and its subject are nodes; an unknown subject is the content again.
    contents_at, distinct = pd.factorize(np.asarray(contents, dtype=object))
    names = [subject or None for subject in subjects]
    subjects_at, known = pd.factorize(np.asarray(names, dtype=object))
    subjects_at = np.where(subjects_at < 0, contents_at, len(distinct) + subjects_at)
    rows = np.tile(np.arange(count), 2)
    nodes = count + np.concatenate([contents_at, subjects_at])
    size = count + len(distinct) + len(known)
    links = coo_array((np.ones(2 * count, dtype=bool), (rows, nodes)), shape=(size, size))
    return connected_components(links, directed=False)[1][:count]
