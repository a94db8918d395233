"""The file of what a search costs, and the way beyond what was measured."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbir_lib import CbirError, Index, paths
from cbir_lib.study import results, scaling

SIZES = (1_000, 10_000, 100_000)


def measured() -> scaling.Scaling:
    points = [
        scaling.Point(
            method="exact",
            settings={},
            vectors=size,
            build_s=1e-6 * size,
            bytes=512 * size,
            latency_ms=1e-4 * size,
            queries_per_s=1e7 / size,
            recall=1.0,
        )
        for size in SIZES
    ]
    return scaling.Scaling(
        dimensions=128,
        k=10,
        real_vectors=1_000,
        describe_per_s=500.0,
        descriptor="any",
        points=points,
        circumstances=results.record_circumstances({"all": 1.0}),
    )


def test_what_is_written_is_read(tmp_path):
    scaling.write(tmp_path / "scale.json", measured())
    assert scaling.read(tmp_path / "scale.json").points == measured().points
    assert list(scaling.tabulate(measured())["vectors"]) == list(SIZES)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "no JSON"])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "scale.json").write_text(text)
    with pytest.raises(CbirError, match="is not a file of scaling"):
        scaling.read(tmp_path / "scale.json")


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(CbirError, match=r"benchmarks/scale\.py"):
        scaling.read(tmp_path / "none.json")


@given(
    factor=st.floats(1e-6, 1e3),
    exponent=st.floats(-1, 2),
    wanted=st.integers(2, 10**9),
)
def test_a_power_is_found_again(factor, exponent, wanted):
    values = [factor * size**exponent for size in SIZES]
    predicted = scaling.predict(pd.Series(SIZES, index=[7, 8, 9]), values, [wanted])
    assert predicted.attrs["exponent"] == pytest.approx(exponent, abs=1e-6)
    assert predicted.loc[wanted, "value"] == pytest.approx(factor * wanted**exponent, rel=1e-4)


def test_the_interval_holds_the_next_measurement_as_often_as_it_says():
    rng = np.random.default_rng(0)
    sizes = np.array([1e3, 1e4, 1e5, 1e6])
    inside = []
    for _ in range(400):
        noisy = 2 * sizes**0.5 * np.exp(rng.normal(0, 0.1, 4))
        predicted = scaling.predict(sizes, noisy, [10**8]).loc[10**8]
        truth = 2 * 1e4 * np.exp(rng.normal(0, 0.1))
        inside.append(predicted["low"] <= truth <= predicted["high"])
    assert 0.92 <= np.mean(inside) <= 0.98


def test_two_sizes_are_too_few():
    with pytest.raises(CbirError, match="three sizes"):
        scaling.predict([10, 20, 20], [1, 2, 3], [100])


def test_made_vectors_lie_between_neighbours():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 6)).astype(np.float32)
    ids = np.arange(50).astype(str)
    near = Index("L2").add(vectors, ids).search(vectors, 3, ids=ids).rows
    made = scaling.interpolate_vectors(vectors, 500, near)
    assert made.shape == (500, 6) and made.dtype == np.float32
    np.testing.assert_array_equal(made[:50], vectors)
    # The way over the point is as long as the straight one for one pair of neighbours at least.
    ends = vectors[:, None], vectors[near]
    straight = np.linalg.norm(ends[1] - ends[0], axis=2)
    for point in made[50:]:
        over = sum(np.linalg.norm(end - point, axis=2) for end in ends)
        assert np.abs(over - straight).min() < 1e-5
    np.testing.assert_array_equal(made, scaling.interpolate_vectors(vectors, 500, near))
    assert len(scaling.interpolate_vectors(vectors, 20, near)) == 20


def test_every_quantity_is_predicted_of_methods_with_enough_sizes():
    points = scaling.tabulate(measured())
    one_size = points.iloc[:1].assign(method="rare")
    predicted = scaling.predict_all(pd.concat([points, one_size]), [10**6, 10**7])
    assert set(predicted) == {("exact", quantity) for quantity in scaling.QUANTITIES}
    assert predicted["exact", "bytes"]["value"].to_list() == pytest.approx([5.12e8, 5.12e9])


def test_a_plan_is_worked_out_by_hand():
    """Exact: 0.1 ms and 512 kB a thousand vectors. HNSW: 1 ms always, four times the memory."""
    sizes = [10**5, 10**7, 10**8]
    scaling_measured = measured()
    curves = {
        ("exact", "latency_ms"): [10, 1000, 10_000],
        ("exact", "bytes"): [5.12e7, 5.12e9, 5.12e10],
        ("HNSW", "latency_ms"): [1, 1, 1],
        ("HNSW", "bytes"): [2.048e8, 2.048e10, 2.048e11],
    }
    predicted = {key: pd.DataFrame({"value": v}, index=sizes) for key, v in curves.items()}
    limits = {"latency_ms": 100, "memory_gb": 64}
    prices = {"per_gb": 2.0, "per_core": 10.0}
    plan = scaling.plan_search(scaling_measured, predicted, sizes, limits, prices, queries_per_s=50)
    cores = scaling_measured.circumstances.cores
    assert [engine.split(",")[0] for engine in plan["engine"]] == ["exact search", "HNSW", "Milvus"]
    assert plan["memory (GB)"].to_list() == pytest.approx([0.0512, 20.48, 204.8])
    assert plan["machines"].to_list() == [1, 1, 4]
    assert plan["one query (ms)"].to_list() == [10, 1, 1]
    # 50 queries of 10 ms are half a second of all cores, and of 1 ms a twentieth.
    expected = [max(1, -(-cores // 2)), max(1, -(-cores // 20)), max(1, -(-cores // 20))]
    assert plan["cores"].to_list() == expected
    assert plan["describing (core hours)"].to_list() == pytest.approx(
        [size / 500 / 3600 * cores for size in sizes]
    )
    assert plan["price per month"].to_list() == pytest.approx(
        [2 * gb + 10 * n for gb, n in zip([0.0512, 20.48, 204.8], expected, strict=True)]
    )


@pytest.mark.parametrize(
    ("exact", "hnsw", "expected"),  # GB, ms
    [
        ((60, 100), (64, 1), "exact"),
        ((60, 100), (65, 1), "exact"),  # a graph takes more than the vectors
        ((60, 101), (64, 1), "HNSW"),
        ((60, 101), (65, 1), "Milvus"),
        ((65, 100), (70, 1), "Milvus"),
        ((1, 1000), (1, 101), "Milvus"),
    ],
)
def test_engines_take_over_at_the_limits(exact, hnsw, expected):
    limits = {"latency_ms": 100, "memory_gb": 64}
    memory, latency = ({"exact": a, "HNSW": b} for a, b in zip(exact, hnsw, strict=True))
    assert scaling.recommend_engine(memory, latency, limits).startswith(expected)


def test_the_published_file_is_readable_and_tells_what_it_must():
    published = scaling.read(paths.project_root() / "results" / "scale" / "scale.json")
    table = scaling.tabulate(published)
    assert {"exact", "HNSW"} <= set(table["method"])
    assert table["vectors"].max() >= 1_000_000
    assert (table[table["method"] == "exact"]["recall"] == 1).all()
