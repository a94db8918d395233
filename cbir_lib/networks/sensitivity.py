"""Whether the most sensitive place of an occlusion map matters to the answer beyond its choice."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cbir_lib.networks.modules import TrainedNetwork
from cbir_lib.networks.occlusion import (
    compute_log_odds,
    measure_occlusion,
    place_patches,
    score_covered_images,
)

PLACES = ("the most sensitive place", "a random place")
COVERS = {"mean image": None, "grey": 128.0}


def compare_covers(
    trained: TrainedNetwork, images: np.ndarray, *, patch_px: int, stride_px: int, seed: int = 0
) -> pd.DataFrame:
    """Cover the place that an occlusion map finds most sensitive, and a random one, in two ways.

    The map is made with the mean image as a cover. The most sensitive place costs more than a
    random one with that cover by the way it was chosen; grey had no part in the choice.

    Parameters
    ----------
    images : (N, H, W) uint8
    patch_px, stride_px
        As for :func:`cbir_lib.networks.occlusion.measure_occlusion`.
    seed
        Of the random places.

    Returns
    -------
    DataFrame
        One row per image, place and cover: ``place``, ``cover``, ``image``, ``fall`` of the
        log-odds of the answer (nats), and ``changed``, whether the answer is another one.
    """
    starts = place_patches(trained.preprocessing.size, patch_px, stride_px)
    falls = measure_occlusion(trained, images, patch_px=patch_px, stride_px=stride_px)
    falls = falls.reshape(len(images), -1)
    rng = np.random.default_rng(seed)
    chosen = (falls.argmax(1), rng.integers(falls.shape[1], size=len(images)))
    corner = np.zeros(len(images), np.int64)
    whole = score_covered_images(trained, images, corner, corner, patch_px=0)
    answers = whole.argmax(1)
    before = compute_log_odds(whole, answers)
    rows = []
    for place, which in zip(PLACES, chosen, strict=True):
        down, across = np.divmod(which, len(starts))
        for cover, fill in COVERS.items():
            covered = score_covered_images(
                trained, images, starts[down], starts[across], patch_px=patch_px, fill=fill
            )
            rows.append(
                pd.DataFrame(
                    {
                        "place": place,
                        "cover": cover,
                        "image": range(len(images)),
                        "fall": before - compute_log_odds(covered, answers),
                        "changed": covered.argmax(1) != answers,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def tabulate_covers(compared: pd.DataFrame) -> pd.DataFrame:
    """Return what :func:`compare_covers` found, a row per place and cover.

    ``odds divided by``, the geometric mean, and ``answers that change``, in percent.
    """
    by_cover = compared.groupby(["place", "cover"], sort=False)
    return pd.DataFrame(
        {
            "odds divided by": np.exp(by_cover["fall"].mean()),
            "answers that change (%)": 100 * by_cover["changed"].mean(),
        }
    )
