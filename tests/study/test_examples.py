"""One image of each region: those of the result, or the phantom's if they are not here."""

import numpy as np
import pytest

from cbir_lib.datasets import get_source
from cbir_lib.study import results, summaries
from cbir_lib.study.examples import load_embedded_images, load_region_images


@pytest.fixture(autouse=True)
def decoded(phantom_set, phantom_cache, monkeypatch):
    monkeypatch.setenv("CBIR_CACHE", str(phantom_cache))


@pytest.fixture(scope="module")
def published():
    return summaries.select_descriptor(results.read_published("quick"), "lbp")


def test_images_are_the_median_queries(published, phantom_set):
    loaded = load_region_images(published)
    assert loaded.regions == list(phantom_set.class_names)
    queries = [e.query for e in published.examples if e.choice == "median"]
    assert [e.query for e in loaded.examples] == queries
    by_id = {name: row for row, name in enumerate(phantom_set.image_ids)}
    for image, query, region in zip(loaded.images, queries, loaded.regions, strict=True):
        row = by_id[query]
        assert (image == phantom_set.images[row]).all()
        assert phantom_set.class_names[phantom_set.labels[row]] == region
    assert get_source("phantom").CAPTION in loaded.caption and "median" in loaded.caption


def test_the_phantom_takes_the_place_of_images_that_are_not_here(published, phantom_set):
    elsewhere = published.model_copy(
        update={"data": published.data.model_copy(update={"dataset": "irma"})}
    )
    loaded = load_region_images(elsewhere)
    test = phantom_set.split("test")
    assert loaded.examples == [] and loaded.regions == list(test.class_names)
    for label, image in enumerate(loaded.images):
        assert (image == test.images[np.flatnonzero(test.labels == label)[0]]).all()
    assert get_source("irma").TITLE in loaded.caption


def test_the_images_of_a_map_are_as_many_as_its_points_and_of_their_classes(published, phantom_set):
    thumbnails = load_embedded_images(published)
    assert len(thumbnails) == len(published.embedding.labels) > 10
    images = phantom_set.images
    labels = {image.tobytes(): k for image, k in zip(images, phantom_set.labels, strict=True)}
    for image, label in zip(thumbnails, published.embedding.labels, strict=True):
        assert labels[image.tobytes()] == label


def test_a_map_of_other_images_has_none(published):
    data = published.data
    other = data.model_copy(update={"test_labels": data.test_labels[::-1]})
    assert len(load_embedded_images(published.model_copy(update={"data": other}))) == 0
    parameters = published.parameters | {"dataset": "irma"}
    assert len(load_embedded_images(published.model_copy(update={"parameters": parameters}))) == 0
