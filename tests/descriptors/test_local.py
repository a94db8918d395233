import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA

from cbir_lib.descriptors import local
from cbir_lib.descriptors.local import FEATURES, VLAD, BagOfWords, assign_words, place_grid
from cbir_lib.errors import CbirError
from cbir_lib.retrieval.distances import pairwise
from tests.fixtures import draw_blobs, draw_edge_cases

RNG = np.random.default_rng(0)


IMAGES = draw_blobs(12, 64, 64)
LENGTHS = {"sift-dense": 128, "sift-keypoints": 128, "patches": 40}
ALL = [
    (gather(features, words=8, step_px=8).fit(IMAGES), 8 if gather is BagOfWords else 8 * length)
    for gather in (BagOfWords, VLAD)
    for features, length in LENGTHS.items()
]
EACH = pytest.mark.parametrize(
    ("descriptor", "length"), ALL, ids=[f"{type(d).__name__}-{d.features}" for d, _ in ALL]
)
ODD = draw_edge_cases() | {
    "two pixels": np.array([[[3, 200]]], np.uint8),
    "wide": draw_blobs(3, 20, 50),
    "high": draw_blobs(3, 129, 9),
}


# The grid and its SIFT


@pytest.mark.parametrize("patch", [4, 11, 16])
@pytest.mark.parametrize("step", [1, 4, 7])
def test_grid_is_all_that_fits_and_in_the_middle(patch, step):
    for length in range(1, 70):
        points = place_grid(length, patch, step)
        assert len(points) == max(1, (length - patch) // step + 1)
        assert (np.diff(points) == step).all()
        assert ((points >= 0) & (points < length)).all()
        if length >= patch:  # patches lie inside, with equal margins but for rounding
            before = points[0] - patch // 2
            after = length - (points[-1] - patch // 2 + patch)
            assert before >= 0
            assert after >= 0
            assert abs(before - after) <= 1


@pytest.mark.parametrize(
    ("images", "patch"),
    [
        (IMAGES[:3], 16),
        (IMAGES[:2], 11),
        (IMAGES[:2], 40),
        (ODD["noise"], 16),
        (ODD["wide"], 16),
        (ODD["tiny"], 16),
        (ODD["high"], 24),
        (ODD["two pixels"], 4),
        (ODD["constant"], 16),
    ],
)
def test_dense_sift_is_opencvs(images, patch):
    rows, columns = (place_grid(side, patch, 4) for side in images.shape[1:])
    points = [cv2.KeyPoint(float(x), float(y), patch / 6, 0) for y in rows for x in columns]
    sift = cv2.SIFT_create()
    expected = np.stack([sift.compute(image, points)[1] for image in images])
    histograms = local.describe_upright(images, rows, columns, patch).reshape(expected.shape)
    # Whole numbers 0 to 255: OpenCV's arc tangent is not exact, and a half may round either way.
    assert np.abs(histograms - expected).max() <= 2
    assert np.abs(histograms - expected).mean() < 0.02


@pytest.mark.parametrize("features", ["sift-dense", "sift-keypoints"])
def test_root_sift_has_norm_one(features):
    owner, features_of = FEATURES[features](IMAGES, 8, 16)
    assert len(owner) == len(features_of) > 50
    assert np.allclose(np.linalg.norm(features_of, axis=1), 1, atol=1e-5)


def test_keypoint_sift_is_opencvs():
    owner, features = local.describe_keypoints(IMAGES, 8, 16)
    sift = cv2.SIFT_create()
    for i, image in enumerate(IMAGES):
        expected = sift.detectAndCompute(image, None)[1]
        expected = np.sqrt(expected / expected.sum(axis=1, keepdims=True))
        assert np.allclose(features[owner == i], expected, atol=1e-6)


@pytest.mark.parametrize("images", [IMAGES[:2], *ODD.values()], ids=["blobs", *ODD])
@pytest.mark.parametrize("patch", [5, 16])
def test_patches_are_cut_one_by_one(images, patch):
    half = patch // 2
    continued = np.pad(images, ((0, 0), (patch, patch), (patch, patch)), mode="edge")
    expected = [
        image[y + patch - half :][:patch, x + patch - half :][:, :patch].reshape(-1) / 255
        for image in continued
        for y in place_grid(images.shape[1], patch, 3)
        for x in place_grid(images.shape[2], patch, 3)
    ]
    owner, patches = local.cut_patches(images, 3, patch)
    assert np.allclose(patches, expected, atol=1e-6)
    assert np.array_equal(owner, np.repeat(np.arange(len(images)), len(patches) // len(images)))


# From local features to one vector


def literal(descriptor, image):
    """One image, one local feature at a time, from the definition."""
    _, local_features = FEATURES[descriptor.features](
        image[None], descriptor.step_px, descriptor.patch_px
    )
    if descriptor.features == "patches":
        local_features = (local_features - descriptor.mean_) @ descriptor.axes_
    words = descriptor.vocabulary_
    counts, residuals = np.zeros(len(words)), np.zeros(words.shape)
    for feature in local_features:
        word = ((words - feature) ** 2).sum(axis=1).argmin()
        counts[word] += 1
        residuals[word] += feature - words[word]
    if isinstance(descriptor, BagOfWords):
        return counts / counts.sum() if counts.any() else np.full(len(words), 1 / len(words))
    rooted = np.sign(residuals) * np.sqrt(np.abs(residuals))
    return (rooted / (np.linalg.norm(rooted) or 1)).reshape(-1)


@EACH
def test_vectors_are_the_definition(descriptor, length):
    vectors = descriptor.transform(IMAGES)
    expected = [literal(descriptor, image) for image in IMAGES]
    # A sum near 0 has a large root: of VLAD, 1e-7 becomes 3e-4.
    assert np.allclose(vectors, expected, atol=2e-4)
    assert len(np.unique(vectors.round(4), axis=0)) == len(IMAGES)


@EACH
@pytest.mark.parametrize("images", ODD.values(), ids=ODD)
def test_odd_images_give_finite_vectors_of_one_length(descriptor, length, images):
    vectors = descriptor.transform(images)
    assert vectors.shape == (len(images), length)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    if isinstance(descriptor, BagOfWords):
        assert (vectors >= 0).all()
        assert np.allclose(vectors.sum(axis=1), 1, atol=1e-5)
    else:
        norms = np.linalg.norm(vectors, axis=1)
        assert np.allclose(norms, 1, atol=1e-5)


@pytest.mark.parametrize("gather", [BagOfWords, VLAD])
def test_images_without_a_key_point(gather):
    descriptor = next(d for d, _ in ALL if type(d) is gather and d.features == "sift-keypoints")
    words, length = descriptor.vocabulary_.shape
    value = np.float32(1 / words if gather is BagOfWords else 1 / np.sqrt(words * length))
    for images in (ODD["black"], ODD["tiny"]):
        assert (descriptor.transform(images) == value).all()
    mixed = np.stack([np.zeros_like(IMAGES[0]), IMAGES[0]])  # one without beside one with
    assert (descriptor.transform(mixed)[0] == value).all()
    assert np.allclose(descriptor.transform(mixed)[1], literal(descriptor, IMAGES[0]), atol=2e-4)
    vectors = descriptor.transform(IMAGES)
    distances = pairwise(descriptor.distance, descriptor.transform(mixed), vectors)
    assert np.isfinite(distances).all()
    assert (distances[0] > 0).all()
    if gather is VLAD:  # as far as any two of these images, which have nothing in common
        between = pairwise(descriptor.distance, vectors, vectors)[~np.eye(len(vectors), dtype=bool)]
        assert distances[0].min() > 0.9 * np.median(between)


@EACH
def test_own_images_are_nearest(descriptor, length):
    vectors = descriptor.transform(IMAGES)
    distances = pairwise(descriptor.distance, vectors, vectors)
    assert (distances.argmin(axis=1) == np.arange(len(IMAGES))).all()


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_nearest_word(count, words, length, seed):
    rng = np.random.default_rng(seed)
    features = rng.integers(-3, 4, (count, length)).astype(np.float32)  # ties are exact
    vocabulary = rng.integers(-3, 4, (words, length)).astype(np.float32)
    expected = ((features[:, None] - vocabulary) ** 2).sum(-1).argmin(1)
    assert np.array_equal(assign_words(features, vocabulary), expected)


def test_bag_of_words_forgets_the_places():
    # Patches side by side: moving them, whole, moves no word.
    tiles = RNG.integers(0, 256, (16, 8, 8), dtype=np.uint8)
    images = np.stack([tiles[RNG.permutation(16)] for _ in range(5)])
    images = images.reshape(5, 4, 4, 8, 8).swapaxes(2, 3).reshape(5, 32, 32)
    for gather in (BagOfWords, VLAD):
        descriptor = gather("patches", words=4, step_px=8, patch_px=8, components=10).fit(images)
        vectors = descriptor.transform(images)
        assert np.allclose(vectors, vectors[0], atol=1e-3)


# Learning


@EACH
def test_the_same_seed_learns_the_same_bits(descriptor, length):
    again = clone(descriptor).fit(IMAGES)
    assert np.array_equal(again.vocabulary_, descriptor.vocabulary_)
    assert np.array_equal(again.transform(IMAGES), descriptor.transform(IMAGES))
    other = clone(descriptor).set_params(seed=1).fit(IMAGES)
    assert not np.array_equal(other.vocabulary_, descriptor.vocabulary_)


@EACH
def test_transform_learns_nothing(descriptor, length):
    before = descriptor.vocabulary_.copy()
    images = ODD["noise"].copy()
    images.flags.writeable = False
    first = descriptor.transform(images)
    descriptor.transform(IMAGES)
    assert np.array_equal(descriptor.vocabulary_, before)
    assert np.array_equal(descriptor.transform(images), first)


@pytest.mark.parametrize("block", [1, 2 * 64 * 64, 5 * 64 * 64])
@EACH
def test_blocks_do_not_matter(descriptor, length, block, monkeypatch):
    whole = descriptor.transform(IMAGES)
    monkeypatch.setattr(local, "BLOCK_PX", block)
    assert np.allclose(descriptor.transform(IMAGES), whole, atol=2e-4)
    small = clone(descriptor).set_params(sample=100, words=4)
    in_blocks = small.fit(IMAGES).vocabulary_
    monkeypatch.undo()
    assert np.allclose(small.fit(IMAGES).vocabulary_, in_blocks, atol=1e-3)


def test_words_are_learnt_from_so_many_features_of_all_images(monkeypatch):
    seen = []
    means = local.MiniBatchKMeans

    class Watched(means):
        def fit(self, features):
            seen.append(features)
            return super().fit(features)

    monkeypatch.setattr(local, "MiniBatchKMeans", Watched)
    BagOfWords(words=4, sample=300).fit(IMAGES)
    owner, described = local.describe_densely(IMAGES, 4, 16)
    assert seen[0].shape == (300, 128)
    place = {row.tobytes(): i for row, i in zip(described, owner, strict=True)}
    drawn = np.bincount([place[row.tobytes()] for row in seen[0]], minlength=len(IMAGES))
    assert len(np.unique(seen[0], axis=0)) == 300  # none twice
    assert drawn.min() >= 8  # 25 are expected of each
    assert drawn.max() <= 50


def test_patches_are_reduced_by_scikit_learns_components():
    descriptor = BagOfWords("patches", words=4, components=6).fit(IMAGES)
    _, patches = local.cut_patches(IMAGES, 4, 16)
    reference = PCA(6, svd_solver="full").fit(patches)
    ours, expected = descriptor._reduce(patches), reference.transform(patches)
    signs = np.sign((ours * expected).sum(axis=0))
    assert np.allclose(ours * signs, expected, atol=1e-3)
    assert descriptor.vocabulary_.shape == (4, 6)


def test_fewer_patches_than_components():
    descriptor = VLAD("patches", words=2, patch_px=16).fit(draw_blobs(3, 16, 16))  # one patch each
    vectors = descriptor.transform(IMAGES)
    assert vectors.shape == (12, 2 * 40)
    assert np.isfinite(vectors).all()


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(sorted(FEATURES)), st.integers(9, 40), st.integers(9, 40))
def test_images_of_other_sizes_than_those_learnt_from(features, height, width):
    for descriptor, length in ALL:
        if descriptor.features == features:
            vectors = descriptor.transform(draw_blobs(2, height, width, seed=height * width))
            assert vectors.shape == (2, length)
            assert np.isfinite(vectors).all()


# Bad input


@pytest.mark.parametrize("gather", [BagOfWords, VLAD])
@pytest.mark.parametrize(
    ("features", "images", "different"),
    [
        ("sift-dense", draw_blobs(2, 16, 16), 2),
        ("sift-dense", ODD["black"], 1),
        ("sift-keypoints", ODD["black"], 0),
        ("patches", np.repeat(draw_blobs(1, 16, 16), 9, axis=0), 1),
    ],
)
def test_fewer_features_than_words(gather, features, images, different):
    message = f"words 30 is out of range: the training images have {different} different"
    with pytest.raises(CbirError, match=message):
        gather(features, words=30).fit(images)


@pytest.mark.parametrize(
    ("parameter", "value", "hint"),
    [
        ("words", 1, "2 to 65536"),
        ("words", 8.0, "2 to 65536"),
        ("step_px", 0, "1 to 256"),
        ("patch_px", 3, "4 to 256"),
        ("components", 0, "1 to 256"),
        ("sample", 99, "100 to 10000000"),
        ("seed", -1, "0 to 4294967295"),
        ("seed", None, "0 to 4294967295"),
    ],
)
@pytest.mark.parametrize("gather", [BagOfWords, VLAD])
def test_parameter_out_of_range(gather, parameter, value, hint):
    with pytest.raises(CbirError, match=f"{parameter} {value} is out of range") as caught:
        gather(**{parameter: value}).fit(IMAGES)
    assert hint in caught.value.hint


def test_components_are_no_more_than_pixels():
    with pytest.raises(CbirError, match="components 40 is out of range\n.* 1 to 25"):
        BagOfWords("patches", patch_px=5).fit(IMAGES)


def test_unknown_features():
    with pytest.raises(CbirError, match="unknown features 'sift'") as caught:
        VLAD("sift").fit(IMAGES)
    assert "did you mean 'sift-" in caught.value.hint


def test_transform_before_fit():
    with pytest.raises(CbirError, match="has not been learnt\n.*call fit"):
        BagOfWords().transform(IMAGES)


@EACH
@pytest.mark.parametrize("images", [IMAGES / 255, IMAGES[0], IMAGES[:0]], ids=np.shape)
def test_no_batch_of_images(descriptor, length, images):
    for use in (descriptor.transform, clone(descriptor).fit):
        with pytest.raises(CbirError, match="expected images of shape"):
            use(images)
