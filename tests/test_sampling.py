"""Some of many rows, evenly spaced."""

import numpy as np
import pytest

from cbir_lib.sampling import space_evenly


@pytest.mark.parametrize(
    ("count", "most"), [(1, 5), (5, 5), (6, 5), (7, 1), (2500, 600), (599, 600)]
)
def test_some_of_many_rows_are_evenly_spaced(count, most):
    rows = space_evenly(count, most)
    assert len(rows) == len(set(rows)) == min(count, most)
    assert rows[0] == 0
    if len(rows) > 1:
        assert rows[-1] == count - 1
        gaps = np.diff(rows)
        assert set(gaps) <= {(count - 1) // (len(rows) - 1), (count - 1) // (len(rows) - 1) + 1}
        assert gaps.sum() == count - 1
