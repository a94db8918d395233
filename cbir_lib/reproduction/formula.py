"""The paper's formula for accuracy, and what its published values mean if it was used.

The paper defines accuracy as (TP + TN) / (TP + TN + FP + FN), which is for two classes. With more
classes, it can be computed for each class against the rest and averaged over the classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cbir_lib.reproduction import paper


def apply_paper_formula(share: float, classes: int) -> float:
    """Compute the paper's formula for each class against the rest, averaged over the classes.

    Each wrong answer is a false positive of one class and a false negative of another, and counts
    as correct for all others: of ``classes`` times N decisions, 2 (1 - share) N are wrong.

    Parameters
    ----------
    share
        Share of images that are classified correctly, in percent.
    """
    return 100 - 2 * (100 - share) / classes


def invert_paper_formula(value: float, classes: int) -> float | None:
    """Compute the share of correctly classified images for which the formula gives ``value``.

    Both in percent. None if ``value`` is below what it gives when every answer is wrong,
    ``100 (1 - 2 / classes)``: then it cannot have been computed in this way.
    """
    share = 100 - classes * (100 - value) / 2
    return share if value >= apply_paper_formula(0, classes) else None


def tabulate_readings(classes: Sequence[int] = (3, 4, 5)) -> pd.DataFrame:
    """Return the share behind each value of Table 4, if it came from the formula, in percent.

    One row per row of the table, one column per number of classes; NaN if the formula cannot give
    that value.
    """
    return pd.DataFrame(
        {
            row: {k: invert_paper_formula(value, k) for k in classes}
            for row, value in paper.TABLE_4.items()
        }
    ).T.astype(float)


def list_excluded_networks() -> list[str]:
    """Return the networks of Table 4 whose value the formula cannot give.

    It cannot for any of the numbers of classes that the paper gives for the network.
    """
    return [
        name
        for name in paper.TRAINED
        if all(invert_paper_formula(paper.TABLE_4[name], k) is None for k in paper.CLASSES[name])
    ]
