"""Losses that ask for the IRMA code: what they want, what they teach, and what they refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from cbir_lib.errors import CbirError
from cbir_lib.irma_code import Branching, compute_hierarchical_error
from cbir_lib.networks.classifier import CODE_LOSSES, Settings
from cbir_lib.networks.code_tree import SHARPNESS, compute_targets, prepare
from cbir_lib.networks.training import fit
from tests.networks.test_metric_learning import IMAGES, LABELS, VALIDATION
from tests.networks.test_training import (
    BrokenError,
    breaking,
    every_epoch,  # noqa: F401
    same,
    small_network,
)

# A chest, and two hands that differ in the direction alone.
CODES = np.array(["1121-110-500-000", "1121-110-411-700", "1121-120-411-700"])
OF_TRAIN, OF_VALIDATION = CODES[LABELS % 3], CODES[VALIDATION[1] % 3]
DATA = (IMAGES, LABELS, *VALIDATION)
code = st.builds(
    lambda digits: "-".join(("1121", digits[:3], digits[3:6], digits[6:])),
    st.text("0123", min_size=9, max_size=9),
)


def train(network, loss, codes=(OF_TRAIN, OF_VALIDATION), path=None, **settings):
    settings = Settings(
        **{"epochs": 4, "batch_size": 24, "learning_rate": 0.02, "precision": "float32"} | settings,
        loss=loss,
    )
    return fit(network, *DATA, settings, accelerator="cpu", checkpoint=path, codes=codes)


@given(st.lists(code, min_size=1, max_size=4), st.lists(code, min_size=1, max_size=6, unique=True))
def test_wanted_probabilities_fall_with_the_error_of_each_answer(true, answers):
    branching = Branching.from_codes(answers)
    wanted = compute_targets(true, answers, 7.0, branching)
    for row, truth in zip(wanted, true, strict=True):
        errors = np.array([compute_hierarchical_error(truth, a, branching) for a in answers])
        np.testing.assert_allclose(row, np.exp(-7 * errors) / np.exp(-7 * errors).sum(), rtol=1e-5)
    nearest = compute_targets(true, answers, np.inf, branching)
    np.testing.assert_allclose(nearest.sum(1), 1, rtol=1e-6)
    for row, truth in zip(nearest, true, strict=True):
        if truth in answers:
            assert row[answers.index(truth)] == 1


def test_the_tree_forgives_a_wrong_direction_more_than_a_wrong_region():
    wanted = compute_targets(CODES, CODES, SHARPNESS["code-tree"], Branching.from_codes(CODES))
    hand, other_direction, chest = wanted[1, [1, 2, 0]]
    assert hand > other_direction > chest > 0
    none = compute_targets(CODES, CODES, SHARPNESS["codes"], Branching.from_codes(CODES))
    np.testing.assert_array_equal(none, np.eye(3))


@pytest.mark.parametrize("loss", CODE_LOSSES)
def test_the_class_is_learnt_beside_and_teaches_the_network_nothing(loss):
    network = small_network()
    tensors = [torch.tensor(array) for array in DATA]
    learner, batches, _ = prepare(network, tensors, (OF_TRAIN, OF_VALIDATION), Settings(loss=loss))
    images, labels, codes = next(iter(batches))
    of_image = {(image.tobytes(), c) for image, c in zip(IMAGES, OF_TRAIN, strict=True)}
    named = np.unique(CODES)[codes]
    assert {(i.numpy().tobytes(), c) for i, c in zip(images, named, strict=True)} <= of_image
    _, loss_of_codes, minimised = learner._compute(images, labels, codes)
    expected = torch.autograd.grad(
        loss_of_codes, [*network[:-1].parameters(), *learner.codes.parameters()], retain_graph=True
    )
    of_scores = functional.cross_entropy(network(images), labels)
    expected += torch.autograd.grad(of_scores, [*network[-1].parameters()])
    minimised.backward()
    parameters = (
        *network[:-1].parameters(),
        *learner.codes.parameters(),
        *network[-1].parameters(),
    )
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def test_with_codes_that_are_the_classes_it_is_cross_entropy_over_the_classes():
    codes = np.array([f"1121-110-{c}00-000" for c in "234589"])
    tensors = [torch.tensor(array) for array in DATA]
    learner, batches, _ = prepare(
        small_network(), tensors, (codes[LABELS], codes[VALIDATION[1]]), Settings(loss="codes")
    )
    images, labels, rows = next(iter(batches))
    assert torch.equal(labels, rows)
    _, loss, _ = learner._compute(images, labels, rows)
    vectors = learner.network[:-1](images)
    torch.testing.assert_close(loss, functional.cross_entropy(learner.codes(vectors), labels))


@pytest.mark.parametrize("loss", CODE_LOSSES)
def test_a_training_learns_codes_and_classes_and_keeps_the_last_epoch(loss):
    history = train(small_network(), loss, epochs=15)
    assert history.train_loss[-1] < history.train_loss[0]
    assert history.validation_accuracy[-1] > history.validation_accuracy[0]
    assert history.best_epoch == 15 and history.validation_mean_average_precision is None


def test_a_killed_training_goes_on_and_other_codes_make_another(tmp_path, every_epoch):  # noqa: F811
    whole = small_network()
    train(whole, "code-tree")
    path = tmp_path / "state.ckpt"
    broken = small_network()
    breaking(broken[0], 2 * 2 + 2)  # 2 batches an epoch
    with pytest.raises(BrokenError):
        train(broken, "code-tree", path=path)
    with pytest.raises(CbirError, match="of another training"):
        train(small_network(), "code-tree", (OF_TRAIN[::-1], OF_VALIDATION), path=path)
    again = small_network()
    train(again, "code-tree", path=path)
    assert same((0, again.state_dict()), (0, whole.state_dict()))


def test_a_code_that_no_training_image_has_wants_the_nearest():
    codes = OF_TRAIN.copy()
    codes[codes == CODES[2]] = CODES[1]
    history = train(small_network(), "codes", (codes, OF_VALIDATION), epochs=1)
    assert np.isfinite(history.validation_loss[0])


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ((), f"{len(LABELS) + len(VALIDATION[1])} of {len(LABELS) + len(VALIDATION[1])} have none"),
        ((np.where(LABELS == 0, "", OF_TRAIN), OF_VALIDATION), "8 of"),
        ((np.full(len(LABELS), CODES[0]), OF_VALIDATION), "nothing to learn"),
        ((np.where(LABELS == 0, "1121-1", OF_TRAIN), OF_VALIDATION), "axes"),
    ],
)
def test_what_cannot_be_learnt_is_refused(codes, message):
    with pytest.raises(CbirError, match=message):
        train(small_network(), "code-tree", codes)
