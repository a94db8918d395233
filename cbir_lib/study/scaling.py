"""Search cost versus gallery size: the measurements and their extrapolation.

``benchmarks/scale.py`` measures and writes ``results/scale/scale.json``; the chapter on scale reads
it. Beyond the largest measured gallery everything is extrapolated, with an interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cbir_lib.errors import CbirError
from cbir_lib.schema import StrictModel, read_json, write_json
from cbir_lib.study.results import Circumstances

QUANTITIES = ("latency_ms", "build_s", "bytes")  # grow with the gallery
MIN_SIZES = 3  # that a curve needs: a line through two has no interval


class Point(StrictModel):
    """A method at one gallery size. Times hold for the cores named in the file."""

    method: str  # its name in tables
    settings: dict
    vectors: int
    build_s: float  # from vectors to the first answer
    bytes: int  # in memory: the vectors, and what else the method needs
    latency_ms: float  # of a single query, median
    queries_per_s: float  # in a batch
    recall: float  # of the ten exact nearest neighbours


class Scaling(StrictModel):
    """Points measured in one session on one machine."""

    format: Literal[1] = 1
    dimensions: int
    k: int
    real_vectors: int  # of images; larger galleries are interpolated from these
    describe_per_s: float  # images per second that the descriptor describes
    descriptor: str
    points: list[Point]
    circumstances: Circumstances


def write(path: Path | str, measured: Scaling) -> None:
    """Write the file and check it against its schema."""
    write_json(path, measured)


def read(path: Path | str) -> Scaling:
    """Read what :func:`write` wrote.

    Raises
    ------
    CbirError
        When it is missing, or is not such a file.
    """
    return read_json(
        path, Scaling, "not a file of scaling measurements", "measure: python benchmarks/scale.py"
    )


def tabulate(measured: Scaling) -> pd.DataFrame:
    """Return one row per point, with the fields of :class:`Point`."""
    return pd.DataFrame([point.model_dump() for point in measured.points])


def interpolate_vectors(
    vectors: np.ndarray, count: int, neighbours: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Enlarge a gallery: the given vectors, then points between vectors and their neighbours.

    Parameters
    ----------
    vectors : (N, D) float32
    count
        How many to return, including the given ones.
    neighbours : (N, K) int64
        Rows of the near vectors of each vector.

    Returns
    -------
    (count, D) float32

    Notes
    -----
    Each new vector is drawn uniformly between a vector and one of its neighbours, as in SMOTE
    (Chawla et al., JAIR 16, 2002, DOI 10.1613/jair.953). Clusters get denser and no new ones
    appear: a million real images would be more varied, and a search would find other neighbours.
    """
    rng = np.random.default_rng(seed)
    made = np.empty((count, vectors.shape[1]), np.float32)
    made[: len(vectors)] = vectors[:count]
    for start in range(len(vectors), count, 1 << 16):
        part = made[start : start + (1 << 16)]
        first = rng.integers(len(vectors), size=len(part))
        second = neighbours[first, rng.integers(neighbours.shape[1], size=len(part))]
        share = rng.random((len(part), 1), np.float32)
        part[:] = vectors[first] + share * (vectors[second] - vectors[first])
    return made


def predict(sizes: Sequence[int], values: Sequence[float], wanted: Sequence[int]) -> pd.DataFrame:
    """Fit a power law of the gallery size to the measurements, value = a * size ** b.

    Returns
    -------
    DataFrame
        One row per wanted size: ``value``, and ``low`` and ``high``, the 95 % prediction interval
        of the straight line through the logarithms. ``attrs["exponent"]`` is b.

    Raises
    ------
    CbirError
        When fewer than three sizes were measured: a line through two has no interval.
    """
    import statsmodels.api as sm

    if len(set(sizes)) < MIN_SIZES:
        raise CbirError("a curve needs at least three sizes", "measure at more sizes")
    x = sm.add_constant(np.log(np.asarray(sizes, float)))
    fitted = sm.OLS(np.log(np.asarray(values, float)), x).fit()
    frame = fitted.get_prediction(sm.add_constant(np.log(wanted), has_constant="add"))
    frame = np.exp(frame.summary_frame(alpha=0.05)[["mean", "obs_ci_lower", "obs_ci_upper"]])
    frame.columns = ["value", "low", "high"]
    frame.index = pd.Index(wanted, name="vectors")
    frame.attrs["exponent"] = float(fitted.params[1])
    return frame


def predict_all(points: pd.DataFrame, wanted: Sequence[int]) -> dict[tuple[str, str], pd.DataFrame]:
    """Predict by method and quantity; methods measured at too few sizes are left out."""
    predicted = {}
    for method, rows in points.groupby("method", sort=False):
        if rows["vectors"].nunique() >= MIN_SIZES:
            for quantity in QUANTITIES:
                predicted[method, quantity] = predict(rows["vectors"], rows[quantity], wanted)
    return predicted


def plan_search(
    measured: Scaling,
    predicted: Mapping[tuple[str, str], pd.DataFrame],
    sizes: Sequence[int],
    limits: Mapping[str, float],
    prices: Mapping[str, float],
    queries_per_s: float,
) -> pd.DataFrame:
    """Plan the engine, the machines and the price of a search, one row per gallery size.

    Parameters
    ----------
    predicted
        As returned by :func:`predict_all`, for these sizes.
    limits
        ``latency_ms`` and ``memory_gb``, as for :func:`recommend_engine`.
    prices
        ``per_gb`` of memory and ``per_core``, a month.
    queries_per_s
        At peak load.
    """
    cores = measured.circumstances.cores
    rows = {}
    for size in sizes:
        wait, memory = {}, {}  # ms, GB
        for method in ("exact", "HNSW"):
            wait[method] = predicted[method, "latency_ms"].loc[size, "value"]
            memory[method] = predicted[method, "bytes"].loc[size, "value"] / 1e9
        engine = recommend_engine(memory, wait, limits)
        chosen = "exact" if engine.startswith("exact") else "HNSW"
        needed = max(1, math.ceil(queries_per_s * wait[chosen] / 1000 * cores))
        rows[size] = {
            "engine": engine,
            "memory (GB)": memory[chosen],
            "machines": math.ceil(memory[chosen] / limits["memory_gb"]),
            "one query (ms)": wait[chosen],
            "cores": needed,
            "describing (core hours)": size / measured.describe_per_s / 3600 * cores,
            "price per month": memory[chosen] * prices["per_gb"] + needed * prices["per_core"],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("images")


def recommend_engine(
    memory_gb: Mapping[str, float], latency_ms: Mapping[str, float], limits: Mapping[str, float]
) -> str:
    """Recommend an engine for a gallery, by a rule that can be discussed.

    Parameters
    ----------
    memory_gb, latency_ms
        Memory that one machine would need, and time of one query, with ``exact`` search and with
        ``HNSW``.
    limits
        ``latency_ms`` that a user accepts, and ``memory_gb`` that one machine has.
    """
    for method, engine in (("exact", "exact search"), ("HNSW", "HNSW")):
        if latency_ms[method] <= limits["latency_ms"] and memory_gb[method] <= limits["memory_gb"]:
            return f"{engine}, one machine"
    return "Milvus, several machines"
