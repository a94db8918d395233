"""The answers of a classifier image by image: which are wrong, how sure, and for which images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint


def compute_margins(scores: np.ndarray) -> np.ndarray:
    """Compute the margin of each answer, (N,): the highest of its scores minus the second highest.

    >>> compute_margins(np.array([[1.0, 4.0, 2.0]])).tolist()
    [2.0]
    """
    in_order = np.sort(scores, axis=1)
    return in_order[:, -1] - in_order[:, -2]


def select_by_margin(
    scores: np.ndarray, labels: np.ndarray, *, correct: bool, place: float
) -> list[int | None]:
    """Select one answer of each class by a rule: correct or wrong, at a place in order of margin.

    Parameters
    ----------
    scores : (N, classes)
    labels : (N,) int64
    correct
        Whether to select among the correct answers or the wrong ones.
    place
        0 for the smallest margin, 0.5 for the median, 1 for the largest.

    Returns
    -------
    list
        A row of ``scores`` per class; None if a class has no such answer.
    """
    which = (scores.argmax(axis=1) == labels) == correct
    margins = compute_margins(scores)
    selected = []
    for label in range(scores.shape[1]):
        rows = np.flatnonzero(which & (labels == label))
        in_order = rows[np.argsort(margins[rows], kind="stable")]
        selected.append(int(in_order[int(place * (len(rows) - 1))]) if len(rows) else None)
    return selected


def find_frequent_errors(confusion: np.ndarray, number: int) -> list[tuple[int, int]]:
    """Find the most frequent confusions as (true class, answer), at most ``number``.

    ``confusion`` is (classes, classes), rows the true classes; of equal counts the first.
    """
    wrong = np.array(confusion)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:number]
    pairs = [divmod(int(place), len(wrong)) for place in order]
    return [pair for pair in pairs if wrong[pair]]


def tabulate_accuracy(correct: np.ndarray, groups: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return the accuracy of groups of images in percent, with Wilson's 95 % interval.

    Parameters
    ----------
    correct : (N,) bool
    groups
        (N,) bool by name; empty groups are left out.

    Returns
    -------
    DataFrame
        One row per group: ``images``, ``accuracy``, ``low`` and ``high``.
    """
    rows = {}
    for name, mask in groups.items():
        images, hits = int(mask.sum()), int(correct[mask].sum())
        if images:
            low, high = proportion_confint(hits, images, method="wilson")
            shares = (hits / images, low, high)
            rows[name] = [images, *(100 * share for share in shares)]
    columns = ["images", "accuracy", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def tabulate_views(
    views: Sequence[str], labels: np.ndarray, answers: np.ndarray, class_names: Sequence[str]
) -> pd.DataFrame:
    """Return the errors of each view, the one with the most errors first.

    ``region``, ``images``, ``wrong``; ``accuracy``, ``low`` and ``high`` in percent; ``mostly``,
    the most frequent wrong answer, empty without any.
    """
    views = np.asarray(views)
    groups = {view: views == view for view in sorted(set(views))}
    table = tabulate_accuracy(answers == labels, groups)
    missed = {view: answers[mask & (answers != labels)] for view, mask in groups.items()}
    table.insert(0, "region", [class_names[labels[mask][0]] for mask in groups.values()])
    table.insert(2, "wrong", [len(missed[view]) for view in table.index])
    table["mostly"] = [
        class_names[np.bincount(missed[view]).argmax()] if len(missed[view]) else ""
        for view in table.index
    ]
    return table.sort_values(["wrong", "images"], ascending=[False, True], kind="stable")
