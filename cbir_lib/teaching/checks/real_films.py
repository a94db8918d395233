"""Exercises on real films as queries."""

from __future__ import annotations

from cbir_lib.study import real
from cbir_lib.study.results import find_family
from cbir_lib.teaching.answers import Expected, Number, Word
from cbir_lib.teaching.material import read_published_films


def read_both_regions() -> tuple[Expected, ...]:
    """Find the handcrafted method with the best mean over the regions."""
    means = real.tabulate(read_published_films())["P@1"].unstack("region").mean(axis=1)
    handcrafted = means[means.index.map(find_family) == "handcrafted"]
    return (
        Word(
            "best",
            handcrafted.idxmax(),
            tuple(means.index),
            "Unstack the regions into columns, take the mean of each row, keep the handcrafted.",
        ),
    )


def compare_shares() -> tuple[Expected, ...]:
    """Count the standard errors between the shares of two descriptors."""
    measured = read_published_films()
    hands = real.tabulate(measured).xs("upper extremity", level="region")["P@1"] / 100
    films = next(e.queries for e in measured.effects if e.level == "upper extremity")
    shares = hands[["Local binary patterns", "Oriented gradients (HOG)"]].to_numpy()
    difference, variances = abs(shares[0] - shares[1]), shares * (1 - shares) / films
    return (
        Number(
            "errors_apart",
            float(difference / variances.sum() ** 0.5),
            "Divide the difference of the shares by the square root of the sum of p (1 - p) / n.",
            tolerance=0.05,
            common=[
                (
                    float(difference / variances.max() ** 0.5),
                    "That is one standard error only; both shares have one.",
                )
            ],
        ),
    )


EXERCISES = (read_both_regions, compare_shares)
