import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbir_lib.datasets.radiographs import SPLITS, RadiographSet, apportion
from cbir_lib.errors import CbirError

CLASS_NAMES = ("skull", "hand", "foot")
# Images a split (rows) and class (columns).
COUNTS = {"train": (9, 7, 5), "validation": (2, 3, 1), "test": (4, 1, 6)}


def radiographs(counts=COUNTS):
    """One image a row, all of one grey value: the row's number."""
    cells = [
        (split, label)
        for split, numbers in counts.items()
        for label, number in enumerate(numbers)
        for _ in range(number)
    ]
    images = np.arange(len(cells), dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    records = pd.DataFrame(
        {
            "image_id": [f"image-{i:03}" for i in range(len(cells))],
            "split": [split for split, _ in cells],
        }
    )
    labels = np.array([label for _, label in cells])
    return RadiographSet("toy", images, labels, CLASS_NAMES, records, pd.DataFrame(), "")


def shuffled(data, seed):
    return data.take(np.random.default_rng(seed).permutation(len(data)))


DATA = radiographs()


def assert_rows_belong_together(data):
    """Image, label and record of a row are still those of one radiograph."""
    rows = data.images[:, 0, 0].astype(int)
    assert data.image_ids.tolist() == [f"image-{i:03}" for i in rows]
    assert np.array_equal(data.labels, DATA.labels[rows])
    assert data.records["split"].tolist() == DATA.records["split"].iloc[rows].tolist()
    assert data.records.index.tolist() == list(range(len(data)))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="37 images, 38 labels, 38 records"):
        RadiographSet("", DATA.images[:-1], DATA.labels, CLASS_NAMES, DATA.records, None, "")


def test_take_keeps_the_order_of_the_rows():
    taken = DATA.take(np.array([7, 2, 30]))
    assert taken.images[:, 0, 0].tolist() == [7, 2, 30]
    assert_rows_belong_together(taken)
    assert_rows_belong_together(taken.take(np.array([2, 0])))


def test_take_with_a_mask():
    taken = DATA.take(DATA.labels == 2)
    assert len(taken) == 5 + 1 + 6
    assert set(taken.labels) == {2}
    assert_rows_belong_together(taken)


def test_splits_are_the_parts_of_the_whole():
    parts = [shuffled(DATA, 0).split(name) for name in SPLITS]
    for name, part in zip(SPLITS, parts, strict=True):
        assert set(part.records["split"]) == {name}
        assert np.bincount(part.labels).tolist() == list(COUNTS[name])
        assert_rows_belong_together(part)
    assert sorted(np.concatenate([part.image_ids for part in parts])) == DATA.image_ids.tolist()


def test_unknown_split():
    with pytest.raises(CbirError, match="unknown split 'val'") as caught:
        DATA.split("val")
    assert "did you mean 'validation'?" in caught.value.hint


@given(wanted=st.tuples(*[st.integers(3, 30)] * 3), seed=st.integers(0, 2**32))
def test_sample_has_the_wanted_number_or_all(wanted, seed):
    sample = DATA.sample(dict(zip(SPLITS, wanted, strict=True)), seed)
    for split, number in zip(SPLITS, wanted, strict=True):
        counts = np.bincount(sample.split(split).labels, minlength=3)
        assert counts.sum() == min(sum(COUNTS[split]), number)
        assert (counts >= 1).all() and (counts <= COUNTS[split]).all()
    assert len(set(sample.image_ids)) == len(sample)  # without replacement
    assert_rows_belong_together(sample)


@given(st.permutations(range(3)).flatmap(lambda p: st.integers(1, 3).map(lambda n: p[:n])))
def test_only_keeps_images_order_and_labels_of_the_named_classes(chosen):
    for data in (DATA, shuffled(DATA, 3)):
        names = [CLASS_NAMES[label] for label in chosen]
        selected = data.select_classes(names)
        assert selected.class_names == tuple(names)
        rows = [row for row in range(len(data)) if data.labels[row] in chosen]
        assert selected.image_ids.tolist() == data.image_ids[rows].tolist()
        assert selected.images[:, 0, 0].tolist() == data.images[rows, 0, 0].tolist()
        assert selected.records["split"].tolist() == data.records["split"].iloc[rows].tolist()
        before = [CLASS_NAMES[label] for label in data.labels[rows]]
        assert [selected.class_names[label] for label in selected.labels] == before
        assert selected.labels.dtype == np.int64
        assert selected.records.index.tolist() == list(range(len(rows)))
        assert (selected.name, selected.checksum) == (data.name, data.checksum)


def test_only_of_no_class_in_particular_is_all():
    assert DATA.select_classes([]) is DATA
    whole = DATA.select_classes(CLASS_NAMES)
    assert np.array_equal(whole.labels, DATA.labels)
    assert_rows_belong_together(whole)


def test_only_some_classes_are_sampled_as_a_set_of_their_own():
    sample = DATA.select_classes(["foot", "skull"]).sample(
        {"train": 6, "validation": 2, "test": 5}, seed=1
    )
    assert np.bincount(sample.split("train").labels).tolist() == [2, 4]  # 6 * (5, 9) / 14
    assert sample.counts().index.tolist() == ["foot", "skull"]


@pytest.mark.parametrize("names", [["knee"], ["hand", "Foot"]])
def test_only_refuses_an_unknown_class(names):
    with pytest.raises(CbirError, match=f"unknown class {names[-1]!r}") as caught:
        DATA.select_classes(names)
    assert "skull, hand, foot" in caught.value.hint


def test_sample_keeps_the_share_of_each_class():
    sample = DATA.sample({"train": 7, "validation": 6, "test": 5}, seed=1)
    shares = {split: np.bincount(sample.split(split).labels).tolist() for split in SPLITS}
    assert shares["train"] == [3, 2, 2]  # 7 * (9, 7, 5) / 21 = 3, 2.33, 1.67
    assert shares["validation"] == [2, 3, 1]
    assert shares["test"] == [2, 1, 2]  # 5 * (4, 1, 6) / 11 = 1.8, 0.5, 2.7: one of the last less


@given(
    counts=st.lists(st.integers(1, 1000), min_size=1, max_size=8),
    share=st.floats(0, 1),
)
def test_in_proportion_is_within_one_of_the_exact_share(counts, share):
    total = max(len(counts), round(share * sum(counts)))
    shares = apportion(total, counts)
    assert sum(shares) == total
    exact = total * np.array(counts) / sum(counts)
    assert min(shares) >= 1
    if min(exact) >= 1:
        assert (np.abs(shares - exact) < 1).all()


def test_fewer_images_than_classes():
    with pytest.raises(CbirError, match="2 images of split 'train' are fewer than the classes"):
        DATA.sample({"train": 2, "validation": 3, "test": 3}, seed=0)


@given(order=st.integers(0, 2**32), seed=st.integers(0, 2**32))
def test_sample_is_the_same_whatever_the_order_of_the_source(order, seed):
    wanted = {"train": 8, "validation": 4, "test": 5}
    one, other = DATA.sample(wanted, seed), shuffled(DATA, order).sample(wanted, seed)
    assert set(one.image_ids) == set(other.image_ids)


def test_sample_differs_by_seed_and_draws_every_image_alike():
    wanted = {"train": 9, "validation": 4, "test": 5}
    draws = [DATA.sample(wanted, seed).image_ids for seed in range(600)]
    frequency = pd.Series(np.concatenate(draws)).value_counts() / len(draws)
    drawn = np.concatenate(
        [
            np.full(there, taken / there)
            for split in SPLITS
            for taken, there in zip(
                apportion(wanted[split], COUNTS[split]), COUNTS[split], strict=True
            )
        ]
    )
    deviation = np.sqrt(drawn * (1 - drawn) / len(draws))
    assert (np.abs(frequency[DATA.image_ids] - drawn) <= 4 * deviation).all()


def test_sample_names_the_class_and_split_without_images():
    data = radiographs({**COUNTS, "validation": (2, 0, 1)})
    with pytest.raises(CbirError, match="class 'hand' of toy has no image in split 'validation'"):
        data.sample({"train": 3, "validation": 3, "test": 3}, seed=0)


def test_counts_of_every_class_and_split_even_of_none():
    counts = shuffled(radiographs({**COUNTS, "validation": (2, 0, 1)}), 0).counts()
    assert counts.index.tolist() == list(CLASS_NAMES)
    assert counts.columns.tolist() == list(SPLITS)
    assert counts.to_numpy().tolist() == [[9, 2, 4], [7, 0, 1], [5, 1, 6]]
    # A class or a split that nothing is left of has its row or column still.
    assert DATA.take(DATA.labels != 1).split("test").counts().to_numpy().tolist() == [
        [0, 0, 4],
        [0, 0, 0],
        [0, 0, 6],
    ]
