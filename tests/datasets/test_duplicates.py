import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cbir_lib.datasets import duplicates
from cbir_lib.datasets.duplicates import (
    compute_thumbnails,
    find_exact_duplicates,
    find_near_duplicates,
    find_nearest,
    find_subject_overlap,
)
from cbir_lib.datasets.radiographs import SPLITS, RadiographSet

RNG = np.random.default_rng(0)
COLUMNS = ["image_id", "split", "other_id", "other_split", "similarity"]


def cloudy(count, side=48, rng=RNG):
    """Images with coarse shades and a full range of grey: smooth noise, each its own."""
    coarse = rng.normal(size=(count, 6, 6))
    fine = np.kron(coarse, np.ones((1, side // 6, side // 6)))
    fine = fine + np.roll(fine, side // 12, axis=1) + np.roll(fine, side // 12, axis=2)
    fine -= fine.min(axis=(1, 2), keepdims=True)
    return np.rint(fine * 255 / fine.max(axis=(1, 2), keepdims=True)).astype(np.uint8)


def gathered(images, splits, subjects=None):
    records = pd.DataFrame(
        {
            "image_id": [f"image {i}" for i in range(len(images))],
            "split": splits,
            "subject_id": subjects or "",
        }
    )
    labels = np.zeros(len(images), dtype=np.int64)
    return RadiographSet("test", images, labels, ("one",), records, pd.DataFrame(), "")


def correlation(first, second):
    """Of two images, from their cell means, cell by cell."""
    means = [
        [
            np.mean(cell, dtype=np.float64)
            for row in np.split(image, 16)
            for cell in np.split(row, 16, axis=1)
        ]
        for image in (first, second)
    ]
    return np.corrcoef(means)[0, 1]


# Exact copies


@given(st.lists(st.integers(0, 5), max_size=12))
def test_exact_groups_are_those_of_equal_images(kinds):
    images = np.zeros((len(kinds), 3, 2), dtype=np.uint8)
    images[:, 2, 1] = kinds
    expected = [
        [i for i, other in enumerate(kinds) if other == kind] for kind in dict.fromkeys(kinds)
    ]
    assert [group.tolist() for group in find_exact_duplicates(images)] == [
        g for g in expected if len(g) > 1
    ]


# Thumbnails


@pytest.mark.parametrize("shape", [(64, 64), (48, 32), (16, 16)])
def test_products_of_thumbnails_are_correlations_of_cell_means(shape):
    images = RNG.integers(0, 256, (5, *shape), dtype=np.uint8)
    vectors = compute_thumbnails(images)
    expected = [[correlation(a, b) for b in images] for a in images]
    assert np.allclose(vectors @ vectors.T, expected, atol=1e-5)


@pytest.mark.parametrize("length", [8, 16, 25, 100])
def test_cells_may_divide_pixels(length):
    fine = duplicates._compute_areas(
        length * 16
    )  # cells of whole pixels, where each is cut in sixteen
    assert np.allclose(
        duplicates._compute_areas(length), fine.reshape(16, length, 16).sum(axis=2), atol=1e-6
    )
    assert np.allclose(duplicates._compute_areas(length).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("grey", [0, 1, 127, 255])
@pytest.mark.parametrize("shape", [(128, 128), (37, 61)])
def test_constant_image_is_zero_and_like_nothing(grey, shape):
    assert not compute_thumbnails(np.full((2, *shape), grey, np.uint8)).any()
    one_cell = np.full((1, *shape), grey, np.uint8)
    one_cell[0, :8, :8] ^= 1
    assert np.linalg.norm(compute_thumbnails(one_cell)) == pytest.approx(1, abs=1e-5)


# Nearest


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 70), st.integers(0, 99))
def test_nearest_is_that_of_all_products(queries, gallery, seed):
    rng = np.random.default_rng(seed)
    q, g = (rng.normal(size=(n, 5)).astype(np.float32) for n in (queries, gallery))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "BLOCK", 7)  # several blocks of both
        rows, products = find_nearest(q, g)
    for i in range(queries):
        all_products = [float(q[i] @ g[j]) for j in range(gallery)]
        assert products[i] == pytest.approx(max(all_products), abs=1e-5)
        assert all_products[rows[i]] == pytest.approx(max(all_products), abs=1e-5)


# Near copies across splits


def by_hand(data, threshold):
    """Each image of a later split with the most similar of the earlier ones, one by one."""
    splits, rows = data.records["split"].tolist(), []
    for i, image in enumerate(data.images):
        before = [j for j, s in enumerate(splits) if SPLITS.index(s) < SPLITS.index(splits[i])]
        similar = {j: correlation(image, data.images[j]) for j in before}
        if similar and max(similar.values()) >= threshold:
            best = max(similar, key=similar.get)
            rows.append((i, splits[i], best, splits[best], similar[best]))
    rows.sort(key=lambda row: -row[-1])
    return [(f"image {i}", s, f"image {j}", t) for i, s, j, t, _ in rows], [r[-1] for r in rows]


@pytest.mark.parametrize("threshold", [-1.0, 0.2, 0.5])
def test_pairs_are_those_of_brute_force(threshold):
    data = gathered(cloudy(30), RNG.choice(SPLITS, 30).tolist())
    table = find_near_duplicates(data, threshold)
    pairs, similar = by_hand(data, threshold)
    assert list(table.columns) == COLUMNS
    assert list(table[COLUMNS[:4]].itertuples(index=False, name=None)) == pairs
    assert np.allclose(table["similarity"], similar, atol=1e-5)


def jpeg(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


COPIES = {
    "the same": lambda image: image,
    "noise": lambda image: np.clip(image + RNG.integers(-1, 2, image.shape), 0, 255),
    "JPEG": lambda image: jpeg(image, 60),
    "dim": lambda image: image * 0.6 + 20,
    "turned": lambda image: np.asarray(Image.fromarray(image).rotate(1, Image.Resampling.BILINEAR)),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_planted_copies_are_found_and_no_others(change):
    images = cloudy(200)
    copies = np.stack([change(image) for image in images[:20]]).astype(np.uint8)
    data = gathered(
        np.concatenate([images, copies]), ["train"] * 180 + ["validation"] * 20 + ["test"] * 20
    )
    table = find_near_duplicates(data)
    assert set(zip(table["image_id"], table["other_id"], strict=True)) == {
        (f"image {200 + i}", f"image {i}") for i in range(20)
    }
    assert set(table["other_split"]) == {"train"}


def test_copies_inside_one_split_and_constant_images_are_no_pairs():
    flat = np.full((4, 48, 48), 9, np.uint8)
    images = np.concatenate([cloudy(10), flat])
    images[1] = images[0]
    data = gathered(images, ["train"] * 5 + ["test"] * 5 + ["train", "test"] * 2)
    assert find_near_duplicates(data).empty


@pytest.mark.parametrize("split", SPLITS)
def test_one_split_alone_has_no_pairs(split):
    table = find_near_duplicates(gathered(cloudy(3), [split] * 3))
    assert table.empty
    assert list(table.columns) == COLUMNS


# Subjects


def test_subjects_in_several_splits():
    subjects = ["a", "a", "b", "b", "", "", "c", "c", "c"]
    splits = ["train", "train", "train", "test", "train", "test", "test", "validation", "test"]
    table = find_subject_overlap(gathered(cloudy(9), splits, subjects))
    assert table.to_dict("index") == {
        "b": {"train": 1, "validation": 0, "test": 1},
        "c": {"train": 0, "validation": 1, "test": 2},
    }


def test_no_subject_known():
    assert find_subject_overlap(gathered(cloudy(2), ["train", "test"])).empty
