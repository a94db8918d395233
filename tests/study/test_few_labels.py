"""Learning from few labels: draws, tables, and a measurement on small images."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from cbir_lib.errors import CbirError
from cbir_lib.study import few_labels
from cbir_lib.study.config import read_study
from cbir_lib.study.few_labels import Labels, Share

ROOT = Path(__file__).parents[2]

RNG = np.random.default_rng(5)


def build(shares, published):
    return published.model_copy(update={"shares": shares})


@pytest.fixture(scope="module")
def published():
    return few_labels.read(few_labels.find_published_path())


def test_draws_have_as_many_of_each_class_and_are_nested_in_larger_ones(phantom_set):
    train = phantom_set.split("train")
    drawn = {n: few_labels.draw_labelled(train, n, 1) for n in (1, 5)}
    for number, labelled in drawn.items():
        assert np.bincount(labelled.labels).tolist() == [number] * len(train.class_names)
    assert set(drawn[1].image_ids) < set(drawn[5].image_ids) <= set(train.image_ids)
    other = few_labels.draw_labelled(train, 5, 2)
    assert set(other.image_ids) != set(drawn[5].image_ids)
    with pytest.raises(CbirError, match="fewer than 99999") as caught:
        few_labels.draw_labelled(train, 99999, 1)
    assert "per_class" in caught.value.hint


def test_frozen_features_are_classified_as_scikit_learn_does():
    labels = np.repeat([0, 1, 2], 6)
    known = RNG.normal(size=(18, 4)).astype(np.float32) + labels[:, None]
    asked, truth = RNG.normal(size=(50, 4)).astype(np.float32) + 1, RNG.integers(0, 3, 50)
    found = few_labels.classify_frozen(known, labels, asked, truth)
    neighbours = KNeighborsClassifier(1, metric="cosine").fit(known, labels)
    assert found[few_labels.NEAREST] == neighbours.score(asked, truth)


def test_the_table_has_means_and_ranges_of_the_draws(published):
    shares = [
        Share(method="a", per_class=1, accuracies=[0.5, 0.7]),
        Share(method="b", per_class=1, accuracies=[0.4, 0.4]),
        Share(method="a", per_class=9, accuracies=[0.6]),
        Share(method="b", per_class=9, accuracies=[0.9]),
    ]
    measured = build(shares, published)
    first = few_labels.tabulate(measured).iloc[0]
    assert (first["value"], first["low"], first["high"]) == pytest.approx((60, 50, 70))
    assert few_labels.find_overtaking(measured, "b") == 9
    assert few_labels.find_overtaking(measured, "a") == 1
    assert few_labels.find_overtaking(build(shares[:2], published), "b") is None


def test_every_way_to_learn_is_measured_on_small_images(phantom_set, monkeypatch):
    plan = read_study(ROOT / "study.yml").grid.effects.labels.model_dump()
    short = {"steps": 2, "batch_size": 8, "learning_rate": 0.001}
    plan |= {
        "images": {"train": 200, "validation": 10, "test": 20},
        "features": {"layer": "stage1", "pooling": "average", "size": 32},
        **{"size": 32, "per_class": [2], "seeds": [0, 1], "scratch": short, "further": short},
    }
    monkeypatch.setattr(few_labels, "load", lambda name: phantom_set)
    lines = []
    measured = few_labels.measure(few_labels.FewLabels(**plan), lines.append)
    assert isinstance(measured, Labels) and len(lines) == 2 * len(measured.shares)
    assert {s.method for s in measured.shares} == {
        *few_labels.WAYS.values(),
        "From scratch: network G",
    }
    for share in measured.shares:
        assert share.per_class == 2 and len(share.accuracies) == 2
        assert all(0 <= accuracy <= 1 for accuracy in share.accuracies)


@pytest.mark.parametrize(
    ("text", "wrong", "what"),
    [("size: 96}", "sizes: 96}", "features"), ("network: G\n      features", None, "'Z'")],
)
def test_a_wrong_plan_is_refused_when_it_is_read(tmp_path, text, wrong, what):
    study, file = (ROOT / "study.yml").read_text(), tmp_path / "study.yml"
    assert study.count(text) == 1
    file.write_text(study.replace(text, wrong or text.replace("G", "Z")))
    with pytest.raises(CbirError, match=what) as caught:
        read_study(file)
    assert "grid.effects.labels" in str(caught.value)


def test_the_published_measurement_is_of_the_study_file(published):
    assert published.parameters == read_study(ROOT / "study.yml").grid.effects.labels.model_dump()
