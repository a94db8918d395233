"""What a search costs as its gallery grows: what was measured, and the way from there.

``benchmarks/scale.py`` measures and writes ``results/scale/scale.json``; the chapter on scale reads
it. Beyond the largest gallery measured everything is extrapolated, and comes with an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cbir_lib.errors import CbirError
from cbir_lib.schema import Strict, read_json, write_json
from cbir_lib.study.results import Circumstances

QUANTITIES = ("latency_ms", "build_s", "bytes")  # that grow with the gallery


class Point(Strict):
    """A method at one size of the gallery. Times are of the cores named in the file."""

    method: str  # as tables call it
    settings: dict
    vectors: int
    build_s: float  # from vectors to the first answer
    bytes: int  # in memory: the vectors, and what the method needs besides
    latency_ms: float  # of one query alone, median
    queries_per_s: float  # many at once
    recall: float  # of the exact ten nearest


class Scaling(Strict):
    """Points measured in one go on one machine."""

    format: Literal[1] = 1
    dimensions: int
    k: int
    real_vectors: int  # of images; galleries beyond are made from these
    describe_per_s: float  # images a second that the descriptor takes
    descriptor: str
    points: list[Point]
    circumstances: Circumstances


def write(path: Path | str, measured: Scaling) -> None:
    """Write the file, checked against its schema."""
    write_json(path, measured)


def read(path: Path | str) -> Scaling:
    """Read what :func:`write` wrote.

    Raises
    ------
    CbirError
        When it is missing, or no such file.
    """
    return read_json(path, Scaling, "no file of scale", "measure: python benchmarks/scale.py")


def table(measured: Scaling) -> pd.DataFrame:
    """One row a point, as :class:`Point` has them."""
    return pd.DataFrame([point.model_dump() for point in measured.points])


def between_neighbours(
    vectors: np.ndarray, count: int, neighbours: np.ndarray, seed: int = 0
) -> np.ndarray:
    """More vectors of the same kind: the given ones, then points between them and neighbours.

    Parameters
    ----------
    vectors : (N, D) float32
    count
        How many to return, the given ones included.
    neighbours : (N, K) int64
        Rows of near vectors of each.

    Returns
    -------
    (count, D) float32

    Notes
    -----
    Each new one lies at an even chance anywhere between a vector and one of its neighbours, as in
    SMOTE (Chawla et al., JAIR 16, 2002, DOI 10.1613/jair.953). Groups get denser, none is new: a
    million real images would hold more kinds, and a search among them would find others.
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
    """A power of the gallery's size, fitted to what was measured: value = a * size ** b.

    Returns
    -------
    DataFrame
        One row a wanted size: ``value``, and ``low`` and ``high``, the 95 % prediction interval of
        the straight line through the logarithms. ``attrs["exponent"]`` is b.

    Raises
    ------
    CbirError
        When fewer than three sizes were measured: a line through two has no interval.
    """
    import statsmodels.api as sm

    if len(set(sizes)) < 3:
        raise CbirError("a curve needs three sizes at least", "measure at more sizes")
    x = sm.add_constant(np.log(np.asarray(sizes, float)))
    fitted = sm.OLS(np.log(np.asarray(values, float)), x).fit()
    frame = fitted.get_prediction(sm.add_constant(np.log(wanted), has_constant="add"))
    frame = np.exp(frame.summary_frame(alpha=0.05)[["mean", "obs_ci_lower", "obs_ci_upper"]])
    frame.columns = ["value", "low", "high"]
    frame.index = pd.Index(wanted, name="vectors")
    frame.attrs["exponent"] = float(fitted.params[1])
    return frame


def engine(memory_gb: float, latency_ms: float, exact_ms: float, limits: dict[str, float]) -> str:
    """Which engine a gallery asks for; a rule, so that it can be argued with.

    Parameters
    ----------
    memory_gb
        That one machine would need for the approximate index.
    latency_ms
        That it would take for one query; ``exact_ms`` the exact search.
    limits
        ``latency_ms`` that a user waits, and ``memory_gb`` that one machine has.
    """
    if exact_ms <= limits["latency_ms"] and memory_gb <= limits["memory_gb"]:
        return "exact search, one machine"
    if latency_ms <= limits["latency_ms"] and memory_gb <= limits["memory_gb"]:
        return "HNSW, one machine"
    return "Milvus, several machines"
