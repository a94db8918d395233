"""What separates real radiographs from simulated ones, region by region, in numbers.

No film is written: of each region there are the means of some quantities on both sides, how well a
classifier tells the sides apart, and the names of simulated radiographs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances_argmin, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cbir_lib import paths
from cbir_lib.datasets import load
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.sampling import space_evenly
from cbir_lib.schema import StrictModel, read_json, write_json
from cbir_lib.study import real, results
from cbir_lib.study.config import Real

BLACK, WHITE = 8, 247  # grey values that count as black or below, as white or above
BORDER = 1 / 16  # of the side
TYPICAL = 4  # films of each region whose nearest simulated radiograph is named
FOLDS = 5
LARGE = 0.8  # a difference in standard deviations that Cohen (1988) calls large
# What another version of the phantom would have to change where a quantity differs.
CHANGES = {
    "mean grey": "display brighter: the grey curve puts too much of the body near black",
    "contrast": "steepen the grey curve",
    "black": "leave less air around the body",
    "white": "let the brightest parts saturate, as the window of a viewer does",
    "grey of the border": "collimate closer, so that the body reaches the borders",
    "symmetry": "place the body as symmetrically as a radiographer does",
    "1 to 2 cycles": "vary the size of the body in the image, and light and dark halves",
    "2 to 4 cycles": "vary the outlines of the large bones and organs",
    "4 to 8 cycles": "match the sharpness of ribs and shafts",
    "8 to 16 cycles": "draw small bones, joint spaces and vessels",
    "16 to 32 cycles": "add trabecular texture, detector noise and edge enhancement",
}


class Statistic(StrictModel):
    """A quantity of the images of one region: its means on both sides."""

    region: str
    name: str
    real: float
    simulated: float
    difference: float  # real minus simulated, in pooled standard deviations (Cohen's d)


class Separation(StrictModel):
    """How well a linear classifier tells the real images of a region from the simulated ones."""

    region: str
    images: int  # of each side
    auc: float  # area under the ROC curve, cross-validated: 0.5 is chance
    auc_interval: list[float]
    weights: dict[str, float]  # of the standardised quantities; positive: towards real


class Gap(StrictModel):
    """What separates the films of one data set from the phantom."""

    format: Literal[1] = 1
    name: str
    parameters: dict
    data: list[results.Data]
    statistics: list[Statistic]
    separations: list[Separation]
    neighbours: dict[str, list[str]]  # by region: simulated images nearest to typical films
    circumstances: results.Circumstances


def find_published_path(name: str, changes: Sequence[str] = ()) -> Path:
    """Return the path of a committed file of this kind, of a phantom with these changes."""
    return paths.results_folder("gap") / f"{'-'.join([name, *changes])}.json"


def read_changed(name: str) -> list[Gap]:
    """Read the committed files of a phantom with changes, the fewest changes first."""
    files = paths.results_folder("gap").glob(f"{name}-*.json")
    found = [read(path) for path in sorted(files)]
    return sorted(found, key=lambda measured: len(measured.parameters["changes"]))


def read(path: Path | str) -> Gap:
    """Read a file that :func:`write` wrote.

    Raises
    ------
    CbirError
        When it is missing, is not JSON, or does not fit the schema.
    """
    again = "measure it: cbir effects gap"
    return read_json(path, Gap, "not a measurement of what separates the sides", again)


def write(path: Path | str, measured: Gap) -> None:
    """Write a file and check it against its schema."""
    write_json(path, measured)


def compute_quantities(images: np.ndarray) -> pd.DataFrame:
    """Compute for (N, H, H) uint8 images what the sides are compared by, one row per image.

    Grey values 0..255, shares of the pixels 0..1, the correlation of an image with its mirror
    image, and the energy of octaves of spatial frequency in decibels: of grey values 0..1 with
    their mean taken off, under a Hann window, from 1-2 up to H/4-H/2 cycles per side.
    """
    grey = images.astype(np.float64)
    count, side = images.shape[:2]
    flat = grey.reshape(count, -1)
    edge = max(1, round(BORDER * side))
    border = np.ones((side, side), bool)
    border[edge:-edge, edge:-edge] = False
    centred = flat - flat.mean(axis=1, keepdims=True)
    mirrored = centred.reshape(grey.shape)[:, :, ::-1].reshape(count, -1)
    energy = (centred**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        symmetry = np.where(energy > 0, (centred * mirrored).sum(axis=1) / energy, 1.0)
    columns = {
        "mean grey": flat.mean(axis=1),
        "contrast": flat.std(axis=1),
        "black": (flat <= BLACK).mean(axis=1),
        "white": (flat >= WHITE).mean(axis=1),
        "grey of the border": grey[:, border].mean(axis=1),
        "symmetry": symmetry,
    }
    window = np.outer(*[np.hanning(side + 2)[1:-1]] * 2)
    spectrum = np.abs(np.fft.fft2(centred.reshape(grey.shape) / 255 * window)) ** 2 / side**2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side, 1 / side)] * 2))
    for octave in range(int(math.log2(side)) - 1):
        low, high = 2**octave, 2 ** (octave + 1)
        of_octave = (frequency >= low) & (frequency < high)
        mean = spectrum[:, of_octave].mean(axis=1)
        columns[f"{low} to {high} cycles"] = 10 * np.log10(mean + 1e-12)
    return pd.DataFrame(columns)


def measure(
    plan: Real,
    films: RadiographSet,
    phantom: RadiographSet | None = None,
    changes: Sequence[str] = (),
) -> Gap:
    """Compare real radiographs with the training images of the phantom of the same regions.

    Both sides have the same number of images, evenly spaced.

    Parameters
    ----------
    plan
        ``grid.effects.real`` of the study.
    films
        Real radiographs, as for :func:`cbir_lib.study.real.measure`.
    phantom, changes
        A phantom drawn otherwise, and the names of what was changed; by default the embedded one.

    Raises
    ------
    CbirError
        When the films are simulated, none of their classes is a region of the phantom, or a region
        has too few images on one of the sides.
    """
    clock = time.perf_counter()
    gallery = (phantom or load("phantom")).split("train")
    queries, labels = real.select_films(plan, films, gallery.class_names)
    _check_counts(plan, gallery, labels)
    prepare = Preprocessing(size=plan.size, clahe=False).transform
    statistics, separations, neighbours = [], [], {}
    for label in np.unique(labels):
        region = gallery.class_names[label]
        rows, of_real = np.flatnonzero(gallery.labels == label), np.flatnonzero(labels == label)
        count = min(len(rows), len(of_real))
        rows = rows[space_evenly(len(rows), count)]
        of_real = of_real[space_evenly(len(of_real), count)]
        ours, theirs = prepare(gallery.images[rows]), prepare(queries.images[of_real])
        sides = compute_quantities(theirs), compute_quantities(ours)
        statistics += compare_sides(region, *sides)
        separations.append(separate_sides(region, *sides))
        nearest = find_nearest(theirs, ours)
        neighbours[region] = gallery.image_ids[rows[nearest]].tolist()
    return Gap(
        name=films.name,
        parameters=plan.model_dump() | {"films": films.name, "changes": [*changes]},
        data=[results.describe_data(queries), results.describe_data(gallery)],
        statistics=statistics,
        separations=separations,
        neighbours=neighbours,
        circumstances=results.record_circumstances({"measuring": time.perf_counter() - clock}),
    )


def _check_counts(plan: Real, gallery: RadiographSet, labels: np.ndarray) -> None:
    """Refuse a region with fewer images than ``FOLDS``, of which each fold must have one a side."""
    for label in np.unique(labels):
        region = gallery.class_names[label]
        of_films, simulated = int((labels == label).sum()), int((gallery.labels == label).sum())
        if of_films < FOLDS:
            raise CbirError(
                f"{region}: {of_films} films, fewer than {FOLDS}",
                f"give {FOLDS} films or more of each region; the study takes {plan.queries}: "
                "grid.effects.real.queries",
            )
        if simulated < FOLDS:
            raise CbirError(
                f"{region}: {simulated} phantom images in training, fewer than {FOLDS}",
                "draw more: cbir phantom render --count",
            )


def compare_sides(region: str, real_side: pd.DataFrame, simulated: pd.DataFrame) -> list[Statistic]:
    """Compare the means of each quantity; each side has a row per image."""
    rows = []
    for name in real_side:
        a, b = real_side[name].to_numpy(), simulated[name].to_numpy()
        pooled = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
        change = float(a.mean() - b.mean())
        rows.append(
            Statistic(
                region=region,
                name=name,
                real=float(a.mean()),
                simulated=float(b.mean()),
                difference=change / pooled if pooled else 0.0,
            )
        )
    return rows


def separate_sides(region: str, real_side: pd.DataFrame, simulated: pd.DataFrame) -> Separation:
    """Tell the sides apart by logistic regression on their standardised quantities.

    The area under the curve is that of answers to images left out of the fit; its 95 % interval is
    that of Hanley and McNeil (1982, DOI 10.1148/radiology.143.1.7063747).
    """
    values = np.concatenate([real_side.to_numpy(), simulated.to_numpy()])
    sides = np.repeat([1, 0], [len(real_side), len(simulated)])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    scores = cross_val_predict(model, values, sides, cv=folds, method="decision_function")
    auc = float(roc_auc_score(sides, scores))
    deviation = compute_auc_deviation(auc, len(real_side), len(simulated))
    weights = model.fit(values, sides)[-1].coef_[0]
    return Separation(
        region=region,
        images=len(real_side),
        auc=auc,
        auc_interval=[max(0.0, auc - 1.96 * deviation), min(1.0, auc + 1.96 * deviation)],
        weights=dict(zip(real_side, map(float, weights), strict=True)),
    )


def compute_auc_deviation(auc: float, positives: int, negatives: int) -> float:
    """Compute the standard deviation of an area under the ROC curve (Hanley, McNeil 1982)."""
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (positives - 1) * (one - auc**2) + (negatives - 1) * (two - auc**2)
    return math.sqrt(max(0.0, variance / (positives * negatives)))


def find_nearest(films: np.ndarray, simulated: np.ndarray) -> np.ndarray:
    """Find the simulated image nearest to each of ``TYPICAL`` typical films: (T,) int64.

    Typical are the films nearest to the means of as many groups (k-means); near is what differs
    least in grey values. Both are (N, H, W) uint8.
    """
    ours = simulated.reshape(len(simulated), -1).astype(np.float32)
    theirs = films.reshape(len(films), -1).astype(np.float32)
    groups = KMeans(min(TYPICAL, len(films)), n_init=5, random_state=0).fit(theirs)
    typical = theirs[pairwise_distances_argmin(groups.cluster_centers_, theirs)]
    return pairwise_distances_argmin(typical, ours)


def tabulate(measured: Gap) -> pd.DataFrame:
    """Return one row per quantity, and per region the columns real, simulated and difference."""
    table = pd.DataFrame([s.model_dump() for s in measured.statistics])
    wide = table.set_index(["name", "region"]).unstack("region").swaplevel(axis=1)
    order = list(dict.fromkeys(table["name"]))
    columns = [
        (region, part)
        for region in dict.fromkeys(table["region"])
        for part in ("real", "simulated", "difference")
    ]
    return wide.loc[order, columns].rename_axis("quantity")


def rank_large_differences(measured: Gap) -> Mapping[str, float]:
    """Return the quantities with a large difference in some region, the largest first.

    The value is the largest absolute difference over the regions, in standard deviations.
    """
    largest: dict[str, float] = {}
    for statistic in measured.statistics:
        size = abs(statistic.difference)
        largest[statistic.name] = max(size, largest.get(statistic.name, 0.0))
    ranked = sorted(largest.items(), key=lambda item: -item[1])
    return {name: size for name, size in ranked if size >= LARGE}


def tabulate_changes(embedded: Gap, changed: Sequence[Gap]) -> pd.DataFrame:
    """Return what changes of the phantom bring, one row per set of changes, ``none`` the first.

    Three columns per region: ``difference``, the mean of the absolute differences of all
    quantities in standard deviations; ``AUC`` of telling the sides apart; ``images`` of each side.
    """
    rows = {}
    for measured in (embedded, *changed):
        name = ", ".join(measured.parameters.get("changes", [])) or "none"
        row = rows.setdefault(name, {})
        for separation in measured.separations:
            sizes = [
                abs(s.difference) for s in measured.statistics if s.region == separation.region
            ]
            row[separation.region, "difference"] = float(np.mean(sizes))
            row[separation.region, "AUC"] = separation.auc
            row[separation.region, "images"] = separation.images
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("changes")
