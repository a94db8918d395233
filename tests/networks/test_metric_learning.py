"""Learned metrics: the losses by hand, the batches, and what a training with them keeps."""

import dataclasses
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.distances import LpDistance
from torch.nn import functional

from cbir_lib.errors import CbirError
from cbir_lib.evaluation import measures
from cbir_lib.networks import metric_learning, training
from cbir_lib.networks.classifier import CROSS_ENTROPY, LOSSES, METRIC_LOSSES, Settings
from cbir_lib.networks.metric_learning import (
    BUILDERS,
    PER_CLASS,
    BalancedBatches,
    MetricLearner,
    build_loss,
    compute_mean_average_precision,
)
from cbir_lib.networks.training import fit
from cbir_lib.retrieval.ranking import Ranking
from tests.networks.test_training import (
    BrokenError,
    breaking,
    drawings,
    every_epoch,  # noqa: F401
    lively_network,
    same,
    small_network,
)

METRICS = tuple(BUILDERS)


def noisy_drawings(per_class, seed):
    """Drawings under so much noise that a network has something to learn."""
    images, labels = drawings(per_class, seed)
    noise = np.random.default_rng(seed).integers(0, 256, images.shape)
    return ((images + noise) // 2).astype(np.uint8), labels


OWN_WEIGHTS = ("proxy-anchor", "arcface")
IMAGES, LABELS = noisy_drawings(8, seed=0)
VALIDATION = noisy_drawings(5, seed=1)
ROOT = Path(__file__).parents[2]


def train(network, loss, path=None, data=(IMAGES, LABELS, *VALIDATION), **settings):
    common = {"epochs": 4, "batch_size": 24, "learning_rate": 0.02, "precision": "float32"}
    settings = Settings(**common | settings, loss=loss)
    history = fit(network, *data, settings, accelerator="cpu", checkpoint=path)
    return dataclasses.replace(history, seconds=0), network.state_dict()


def draw_vectors(classes=3, each=6, values=4, seed=0):
    """Vectors on and off the unit sphere, near the middle of their class, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(classes).repeat(each)
    middles = rng.normal(size=(classes, values))
    vectors = middles[labels] + rng.normal(size=(len(labels), values))
    return torch.tensor(vectors, dtype=torch.float32), torch.tensor(labels)


# The losses


def triplet_by_hand(unit, labels, weights):
    squared = ((unit[:, None] - unit) ** 2).sum(-1)
    found = []
    for a in range(len(unit)):
        for p in set(np.flatnonzero(labels == labels[a])) - {a}:
            for n in np.flatnonzero(labels != labels[a]):
                farther = squared[a, n] - squared[a, p]
                if 0 < farther < 0.2:
                    found.append(0.2 - farther)
    assert len(found) > 10
    return np.mean(found)


def supervised_contrastive_by_hand(unit, labels, weights):
    similar, found = np.exp(unit @ unit.T / 0.1), []
    for a in range(len(unit)):
        others = [i for i in range(len(unit)) if i != a]
        positive = [i for i in others if labels[i] == labels[a]]
        found.append(-np.log(similar[a, positive] / similar[a, others].sum()).mean())
    return np.mean(found)


def proxy_anchor_by_hand(unit, labels, weights):
    proxies = weights["proxies"]
    cosine = unit @ (proxies / np.linalg.norm(proxies, axis=1, keepdims=True)).T
    alpha, margin = metric_learning.ALPHA, 0.1
    near, far = 0, 0
    for k in range(len(proxies)):
        near += np.log(1 + np.exp(-alpha * (cosine[labels == k, k] - margin)).sum())
        far += np.log(1 + np.exp(alpha * (cosine[labels != k, k] + margin)).sum())
    return near / len(np.unique(labels)) + far / len(proxies)


def arcface_by_hand(unit, labels, weights):
    middles = weights["W"].T
    angle = np.arccos(unit @ (middles / np.linalg.norm(middles, axis=1, keepdims=True)).T)
    rows = np.arange(len(unit))
    turned = angle[rows, labels] + np.radians(28.6)
    # Beyond half a turn the cosine would rise again; there the loss goes on as a straight line.
    beyond = turned > np.pi
    logits = np.cos(angle)
    line = logits[rows, labels] - np.radians(28.6) * np.sin(np.radians(28.6))
    logits[rows, labels] = np.where(beyond, line, np.cos(turned))
    scores = np.exp(metric_learning.SCALE * logits)
    return -np.log(scores[rows, labels] / scores.sum(1)).mean()


BY_HAND = {
    "triplet": triplet_by_hand,
    "supervised-contrastive": supervised_contrastive_by_hand,
    "proxy-anchor": proxy_anchor_by_hand,
    "arcface": arcface_by_hand,
}


@pytest.mark.parametrize("name", METRICS)
def test_a_loss_is_the_formula_of_its_paper(name):
    vectors, labels = draw_vectors()
    loss = build_loss(name, classes=3, values=4)
    weights = {k: v.detach().numpy().astype(float) for k, v in loss.loss.named_parameters()}
    unit = vectors.numpy().astype(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    expected = BY_HAND[name](unit, labels.numpy(), weights)
    assert loss(vectors, labels).item() == pytest.approx(expected, rel=1e-4)
    assert expected > 0.05


@pytest.mark.parametrize("name", METRICS)
def test_a_loss_is_that_of_pytorch_metric_learning(name):
    vectors, labels = draw_vectors(seed=1)
    built = build_loss(name, classes=3, values=4)
    squared = LpDistance(normalize_embeddings=True, p=2, power=2)
    mined = None
    if name == "triplet":
        mined = miners.TripletMarginMiner(0.2, "semihard", distance=squared)(vectors, labels)
    theirs = {
        "triplet": losses.TripletMarginLoss(0.2, distance=squared),
        "supervised-contrastive": losses.SupConLoss(0.1),
        "proxy-anchor": losses.ProxyAnchorLoss(3, 4, margin=0.1, alpha=metric_learning.ALPHA),
        "arcface": losses.ArcFaceLoss(3, 4, margin=28.6, scale=metric_learning.SCALE),
    }[name]
    theirs.load_state_dict(built.loss.state_dict())
    assert torch.equal(built(vectors, labels), theirs(vectors, labels, mined))


def test_every_loss_that_can_be_built_compares_images_and_no_other_does():
    assert METRICS == METRIC_LOSSES
    assert [name for name in LOSSES if Settings(loss=name).compares_images] == [*METRICS]


@pytest.mark.parametrize("name", METRICS)
def test_own_weights_follow_from_the_seed_and_leave_the_random_numbers_alone(name):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, again, other = (build_loss(name, 3, 4, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [list(loss.parameters()) for loss in (first, again, other)]
    assert len(weights[0]) == (name in OWN_WEIGHTS)
    for one, same_seed, other_seed in zip(*weights, strict=True):
        assert torch.equal(one, same_seed) and not torch.equal(one, other_seed)


@pytest.mark.parametrize("name", METRICS)
def test_the_last_layer_teaches_the_others_nothing(name):
    network = small_network()
    learner = MetricLearner(network, Settings(loss=name, batch_size=24))
    images, labels = torch.tensor(IMAGES), torch.tensor(LABELS)
    scores, loss, minimised = learner._compute(images, labels)
    assert torch.equal(scores, network(images))
    *_, last = network
    expected = torch.autograd.grad(loss, [*network[:-1].parameters()], retain_graph=True)
    of_scores = functional.cross_entropy(network(images), labels)
    expected += torch.autograd.grad(of_scores, [*last.parameters()])
    minimised.backward()
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_a_pull_is_a_step_that_lowers_the_loss_and_keeps_the_length(name):
    vectors, labels = draw_vectors(values=3)
    pulls = metric_learning.compute_pulls(name, vectors.numpy(), labels.numpy())
    assert np.linalg.norm(pulls, axis=1).max() == pytest.approx(1)
    along = (pulls * vectors.numpy()).sum(1)  # only directions count
    np.testing.assert_allclose(along, 0, atol=1e-4)
    loss = build_loss(name, 3, 3)
    before, after = (loss(vectors + step * torch.tensor(pulls), labels) for step in (0, 1e-4))
    assert after < before


# Batches


@pytest.mark.parametrize(
    ("classes", "batch_size", "per_class", "together"),
    [(5, 64, 12, 5), (2, 9, 4, 2), (40, 64, PER_CLASS, 16), (3, 11, PER_CLASS, 2)],
)
def test_a_batch_has_as_many_images_of_each_class(classes, batch_size, per_class, together):
    counts = np.arange(classes) % 7 * 5 + 2  # of some there are fewer than a batch shows
    labels = torch.arange(classes).repeat_interleave(torch.tensor(counts))
    batches = BalancedBatches(labels, labels, batch_size, seed=1)
    shown = [Counter(drawn.tolist()) for _, drawn in batches]
    assert [sorted(drawn.values()) for drawn in shown] == [[per_class] * together] * len(batches)
    assert len(batches) == len(labels) // (per_class * together) > 0
    if together == classes:
        assert all(len(drawn) == classes for drawn in shown)


def test_no_image_comes_twice_in_a_batch_where_there_are_enough():
    labels = torch.arange(3).repeat_interleave(20)
    batches = BalancedBatches(torch.arange(60), labels, 24, seed=0)
    assert all(len(set(rows.tolist())) == 24 for rows, _ in batches)


def test_order_follows_from_seed_and_epoch_alone():
    labels = torch.arange(4).repeat_interleave(10)

    def order(seed, epoch, visited=()):
        batches = BalancedBatches(labels, labels, 16, seed)
        for one in (*visited, epoch):
            batches.epoch = one
            rows = [row.tolist() for row in batches.rows]
        return str(rows)

    state = np.random.get_state()[1].tolist()
    assert order(1, 3) == order(1, 3, visited=(0, 1, 2))  # as after a kill
    assert len({order(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9
    assert np.random.get_state()[1].tolist() == state


# Validation


@pytest.mark.parametrize("seed", range(3))
def test_mean_average_precision_is_that_of_the_evaluation(seed):
    vectors, labels = draw_vectors(classes=4, each=9, seed=seed)
    vectors, labels = torch.cat([vectors, vectors.mean(0)[None]]), [*labels.tolist(), 9]  # alone
    unit = functional.normalize(vectors.double())
    distances = 1 - unit @ unit.T
    distances.fill_diagonal_(torch.inf)
    ranking = Ranking.of(distances.numpy())
    relevant = measures.find_relevant(ranking, np.array(labels), np.array(labels))[:, :-1]
    precisions = measures.average_precision(relevant)
    measured = compute_mean_average_precision(vectors, torch.tensor(labels))
    assert measured == pytest.approx(np.nanmean(precisions[:-1]), rel=1e-6)


def test_collapsed_vectors_have_the_mean_average_precision_of_chance():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(5).repeat(60))
    order = [rng.permutation(np.delete(labels, i)) == labels[i] for i in range(300)]
    chance = np.mean(measures.average_precision(np.array(order)))
    measured = compute_mean_average_precision(torch.ones(300, 4), torch.tensor(labels))
    assert measured == pytest.approx(chance, abs=0.01)


# Training


@pytest.mark.parametrize("name", METRICS)
def test_a_short_training_ranks_better_than_chance_and_than_no_training(name):
    network = small_network()
    images, labels = torch.tensor(VALIDATION[0]), torch.tensor(VALIDATION[1])

    def rank():
        with torch.no_grad():
            vectors = network.eval()[:-1](images)
        mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        chance = compute_mean_average_precision(vectors, labels[mixed])
        return compute_mean_average_precision(vectors, labels), chance

    before, _ = rank()
    history, _ = train(network, name, epochs=15)
    after, chance = rank()
    assert after > 2 * chance and after > before + 0.03
    assert history.train_loss[-1] < history.train_loss[0]
    curve = history.validation_mean_average_precision
    assert history.best_epoch == np.argmax(curve) + 1
    assert curve[history.best_epoch - 1] == pytest.approx(after, abs=1e-6)


def test_weights_of_the_highest_mean_average_precision_are_kept(monkeypatch):
    planned = iter([0.3, 0.8, 0.8, 0.5, 0.4, 0.9])
    monkeypatch.setattr(
        metric_learning, "compute_mean_average_precision", lambda vectors, labels: next(planned)
    )
    network = small_network()
    how = {"epochs": 6, "schedule": "constant", "early_stopping": True, "patience": 3}
    history, weights = train(network, "triplet", **how)
    assert history.validation_mean_average_precision == pytest.approx([0.3, 0.8, 0.8, 0.5, 0.4])
    assert history.best_epoch == 2
    planned = iter([0.3, 0.8])
    assert same((0, weights), (0, train(small_network(), "triplet", **how | {"epochs": 2})[1]))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.usefixtures("every_epoch")
def test_a_training_broken_off_goes_on_with_the_same_bits(name, tmp_path):
    whole = train(lively_network(), name)
    path = tmp_path / "training.ckpt"
    network = lively_network()
    breaking(network[0], 2 * 2 + 2)  # 2 batches an epoch
    with pytest.raises(BrokenError):
        train(network, name, path)
    stored = torch.load(path, weights_only=True)["state_dict"]
    assert any(key.startswith("loss.") for key in stored) == (name in OWN_WEIGHTS)
    assert same(train(lively_network(), name, path), whole)
    assert not path.exists()


@pytest.mark.parametrize("name", OWN_WEIGHTS)
def test_own_weights_of_a_loss_are_learnt(name, monkeypatch):
    learners = []
    prepare = metric_learning.prepare
    monkeypatch.setattr(
        metric_learning,
        "prepare",
        lambda *given: learners.append(prepare(*given)) or learners[-1],
    )
    train(small_network(), name, weight_decay=0.0)
    (learnt,) = learners[0][0].loss.parameters()
    (start,) = build_loss(name, 6, learners[0][0].network[-1].in_features, 0).parameters()
    assert (learnt - start).norm() > 1e-4


def test_the_papers_loss_is_as_before(monkeypatch):
    first = train(lively_network(), CROSS_ENTROPY)
    assert first[0].validation_mean_average_precision is None
    train(lively_network(), "arcface")  # leaves nothing behind
    monkeypatch.setattr(training, "find_spec", lambda name: None)  # and needs no package
    assert same(train(lively_network(), CROSS_ENTROPY), first)


# What is refused


def test_one_class_only():
    one = np.zeros(len(LABELS), np.int64)
    with pytest.raises(CbirError, match="all images are of one class") as caught:
        train(small_network(), "triplet", data=(IMAGES, one, *VALIDATION))
    assert len(str(caught.value).splitlines()) == 2
    images, labels = VALIDATION
    for answers, reason in (
        (np.zeros_like(labels), "of one class only"),
        (np.arange(6), "of a class each"),
        ([3], "of a class each"),
    ):
        data = IMAGES, LABELS, images[: len(answers)], np.array(answers)
        with pytest.raises(CbirError, match=f"validation images cannot be searched .*{reason}"):
            train(small_network(), "triplet", data=data)


@pytest.mark.parametrize("name", METRICS)
def test_a_batch_of_one_class_only(name):
    with pytest.raises(CbirError, match="a batch of 7 is of one class only") as caught:
        train(small_network(), name, batch_size=7)
    assert caught.value.hint.startswith("give a batch_size of 8 or more")
    assert len(str(caught.value).splitlines()) == 2
    train(small_network(), name, batch_size=8, epochs=1)


def test_an_unknown_loss():
    with pytest.raises(CbirError, match="unknown loss 'arcfase'") as caught:
        Settings(loss="arcfase")
    assert "did you mean 'arcface'?" in caught.value.hint


def test_a_missing_package(monkeypatch):
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(CbirError, match="needs the package pytorch-metric-learning") as caught:
        train(small_network(), "arcface")
    assert "[metric]" in caught.value.hint


def test_the_package_is_imported_only_where_it_is_needed():
    code = (
        "import sys, cbir_lib.networks.training, cbir_lib.study.config\n"
        "assert 'pytorch_metric_learning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
