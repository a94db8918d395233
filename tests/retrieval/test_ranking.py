"""The order of a ranking is that of a stable sort, whatever the distances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cbir_lib.retrieval.ranking import Ranking

# Ties, both zeros, the smallest numbers, negative ones and infinity.
VALUES = [0.0, -0.0, 1e-45, -1e-45, 0.5, 1.0, -1.0, 3e38, -3e38, np.inf]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None, max_examples=200)
@given(
    data=st.data(), shape=array_shapes(min_dims=2, max_dims=2, max_side=12), k=st.integers(1, 12)
)
def test_a_ranking_is_a_stable_sort(dtype, data, shape, k):
    numbers = st.sampled_from(VALUES) | st.floats(-10, 10, width=32)
    distances = data.draw(arrays(dtype, shape, elements=numbers))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    expected = np.take_along_axis(distances, order, axis=1)
    ranking = Ranking.of(distances, k)
    np.testing.assert_array_equal(ranking.distances, expected)
    np.testing.assert_array_equal(ranking.rows, np.where(np.isinf(expected), -1, order))
    np.testing.assert_array_equal(Ranking.of(distances).rows[:, :k], ranking.rows)
