"""Rows of effects arranged for figures: by method, by kind of vector, with and without a partner.

All functions take rows of :func:`cbir_lib.study.effects.tabulate` of one factor.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cbir_lib.study.effects import select_measure

Panels = dict[str, pd.DataFrame]  # by title: what select_measure returns
WHITENED = {False: "plain", True: "whitened"}


def split_components(pca: pd.DataFrame) -> Panels:
    """Return mAP by number of principal components: a panel per method, plain and whitened."""
    reduced = pca[pca["level"] != "all"]
    reduced = reduced.assign(level=reduced["level"].astype(float))
    return {
        method: select_measure(
            rows.assign(method=[WHITENED[bool(whitened)] for whitened in rows["whitened"]])
        )
        for method, rows in reduced.groupby("method", sort=False)
    }


def select_whole_vectors(
    rows: pd.DataFrame, column: str = "values"
) -> dict[str, list[tuple[float, float]]]:
    """Return, by method, one point for its whole vector: its size in a column, and its mAP.

    The whole vector is the row of level ``all``, or the one without a hash.
    """
    whole = rows[rows["hash"] == "none"] if "hash" in rows else rows[rows["level"] == "all"]
    return {row["method"]: [(row[column], row["mAP"])] for _, row in whole.iterrows()}


def split_codes(bits: pd.DataFrame, pca: pd.DataFrame) -> Panels:
    """Return mAP by bytes per image: a panel per method, with each hash and plain components."""
    hashed = bits[bits["hash"] != "none"]
    plain = pca[(pca["level"] != "all") & ~pca["whitened"].fillna(True).astype(bool)]
    panels = {}
    for method, rows in hashed.groupby("method", sort=False):
        components = plain[plain["method"] == method]
        shown = pd.concat([select_measure(rows), select_measure(components)], ignore_index=True)
        names = [*(rows["hash"] + " bits"), *["components"] * len(components)]
        panels[method] = shown.assign(level=[*rows["bytes"], *components["bytes"]], method=names)
    return panels


def split_fusion(fusion: pd.DataFrame) -> pd.DataFrame:
    """Return the descriptors with the network, then without it; ``level`` is their name."""
    level = fusion["level"].astype(str)
    joined = fusion[level.str.startswith("with ")]
    single = fusion[level.str.endswith(" alone")]
    return pd.concat(
        [
            joined.assign(method="with the network", level=level.str.removeprefix("with ")),
            single.assign(method="without", level=level.str.removesuffix(" alone")),
        ]
    )


def split_exposures(redrawn: pd.DataFrame, factors: list[str]) -> Panels:
    """Return mAP of re-rendered queries: a panel per factor of the exposure."""
    exposure = redrawn[redrawn["changed"] == "exposure"]
    exposure = exposure.assign(level=exposure["level"].astype(float))
    return {name: select_measure(exposure[exposure["factor"] == name]) for name in factors}


def name_transfers(transfer: pd.DataFrame) -> pd.DataFrame:
    """Return rows of a transfer with ``line``, the method and the set that it was trained on."""
    trained = transfer["trained on"].notna()
    named = transfer["method"] + ", trained on " + transfer["trained on"].fillna("")
    return transfer.assign(line=np.where(trained, named, transfer["method"]))


def split_transfers(transfer: pd.DataFrame) -> Panels:
    """Return mAP of a transfer: a panel per data set that is searched in, networks and others."""
    rows = name_transfers(transfer)
    kinds = np.where(rows["trained on"].notna(), "Networks", "Handcrafted")
    rows = rows.assign(method=kinds, set=rows["level"], level=rows["line"])
    return {
        f"searching in {name}": select_measure(of_set)
        for name, of_set in rows.groupby("set", sort=False)
    }
