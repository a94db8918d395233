"""Exercises on the size of a gallery."""

from __future__ import annotations

import numpy as np

from cbir_lib.study import scaling
from cbir_lib.teaching.answers import Array, Expected, Number
from cbir_lib.teaching.material import read_published_scaling


def pay_for_graph() -> tuple[Expected, ...]:
    """Compute after how many queries a graph has paid for itself, at the largest gallery."""
    table = scaling.tabulate(read_published_scaling())
    largest = table[table["vectors"] == table["vectors"].max()].set_index("method")
    exact, graph = largest.loc["exact"], largest.loc["HNSW"]
    gain_s = (exact["latency_ms"] - graph["latency_ms"]) / 1000
    return (
        Number(
            "queries",
            float((graph["build_s"] - exact["build_s"]) / gain_s),
            "Divide what building takes longer, in seconds, by what each query saves, in seconds.",
            tolerance=5.0,
            common=[
                (
                    float((graph["build_s"] - exact["build_s"]) / gain_s / 1000),
                    "latency_ms is in milliseconds, build_s in seconds.",
                )
            ],
        ),
    )


def end_exact_search() -> tuple[Expected, ...]:
    """Find the gallery size at which exact search takes 20 ms, by a power law."""
    table = scaling.tabulate(read_published_scaling())
    exact = table[table["method"] == "exact"]
    sizes = np.geomspace(10_000, 10_000_000, 2001).astype(int)
    predicted = scaling.predict(exact["vectors"], exact["latency_ms"], sizes)["value"]
    size = int(sizes[np.argmax(predicted.to_numpy() > 20)])
    return (
        Number(
            "vectors",
            size,
            "Fit a straight line to log(latency) over log(vectors), and solve it for 20 ms.",
            tolerance=0.02 * size,
        ),
    )


def fit_in_memory() -> tuple[Expected, ...]:
    """Count the bytes of a code of 64 bits, and the gigabytes of 100 million of them."""
    return (
        Array(
            "sizes",
            [64 / 8, 64 / 8 * 100e6 / 1e9],
            "Eight bits are one byte; a gigabyte is 10^9 bytes.",
            tolerance=1e-6,
        ),
    )


EXERCISES = (pay_for_graph, end_exact_search, fit_in_memory)
