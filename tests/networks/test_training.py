import dataclasses
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from itertools import chain
from math import cos, pi
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing, compute_mean_image
from cbir_lib.networks import precision, training
from cbir_lib.networks.modules import Centre, build_network
from cbir_lib.networks.training import Batches, Settings, fit
from tests.fixtures import drawing


def drawings(per_class, seed):
    """Images of 32 px in six classes, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(6).repeat(per_class)
    images = np.stack([drawing(label, rng) for label in labels])
    return Preprocessing(size=32, clahe=False).transform(images), labels


IMAGES, LABELS = drawings(4, seed=0)
VALIDATION = drawings(2, seed=1)


def small_network(seed=0):
    torch.manual_seed(seed)
    return build_network("G", compute_mean_image(IMAGES), classes=6, reading="flattened")


def fit_cpu(network, *data, **settings):
    common = {"batch_size": min(24, len(data[1])), "precision": "float32"}
    settings = Settings(**common | settings)
    return fit(network, *data, settings, accelerator="cpu")


# What is learnt


def test_small_batch_is_learnt_by_heart():
    network = small_network()
    history = fit_cpu(network, IMAGES, LABELS, IMAGES, LABELS, epochs=40, learning_rate=0.02)
    assert history.train_loss[-1] < history.train_loss[0] / 20
    assert history.validation_accuracy[history.best_epoch - 1] == 1
    with torch.no_grad():
        answers = network(torch.tensor(IMAGES)).argmax(1)
    assert np.array_equal(answers, LABELS)


@pytest.mark.parametrize("early_stopping", [True, False])
def test_history_is_of_the_weights_that_were_kept(early_stopping):
    network = small_network()
    images, labels = VALIDATION
    labels = np.append(labels[:-2], [0, 0])  # wrong, so that the last batch is worse
    # 12 images in batches of 5, 5 and 2: a mean of the batches' means is another number.
    settings = {"epochs": 9, "batch_size": 5, "early_stopping": early_stopping}
    history = fit_cpu(network, IMAGES, LABELS, images, labels, **settings)
    with torch.no_grad():
        scores = network(torch.tensor(images)).double()
    losses = functional.cross_entropy(scores, torch.tensor(labels), reduction="none")
    right = scores.argmax(1).numpy() == labels
    kept = history.best_epoch - 1
    lowest = int(np.argmin(history.validation_loss))
    assert kept == (lowest if early_stopping else 8)
    assert lowest != 8  # so that the two are not the same
    assert history.validation_loss[kept] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert history.validation_accuracy[kept] == pytest.approx(right.mean())
    assert right.mean() != pytest.approx(np.mean([right[:5].mean(), right[5:10].mean(), 0]))
    assert history.seconds > 0


def test_progress_is_printed_as_it_is_recorded(capsys):
    history = fit_cpu(small_network(), IMAGES, LABELS, *VALIDATION, epochs=2)
    curves = zip(
        history.train_loss, history.validation_loss, history.validation_accuracy, strict=True
    )
    assert capsys.readouterr().out.splitlines() == [
        f"epoch {i}/2: training loss {train:.4f}, validation loss {loss:.4f}, accuracy {right:.1%}"
        for i, (train, loss, right) in enumerate(curves, start=1)
    ]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_step_is_momentum_with_an_l2_penalty(schedule):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 2, 2), dtype=np.uint8)
    labels = np.arange(8) % 3
    settings = Settings(
        epochs=4,
        patience=4,
        batch_size=8,
        learning_rate=0.3,
        schedule=schedule,
        momentum=0.7,
        weight_decay=0.05,
        precision="float32",
    )
    torch.manual_seed(0)
    network = nn.Sequential(Centre(torch.zeros(2, 2)), nn.Flatten(), nn.Linear(4, 3))

    # By hand, in double precision: softmax regression on the grey values and a constant.
    x = np.column_stack([images.reshape(8, 4) / 255, np.ones(8)])
    linear = network[2]
    weights = np.column_stack([linear.weight.detach(), linear.bias.detach()]).astype(float)
    velocity = np.zeros_like(weights)

    def loss():
        scores = np.exp(x @ weights.T)
        shares = scores / scores.sum(1, keepdims=True)
        gradient = (shares - np.eye(3)[labels]).T @ x / 8
        return -np.log(shares[range(8), labels]).mean(), gradient

    losses = []
    for epoch in range(4):
        rate = 0.3 if schedule == "constant" else 0.3 * (1 + cos(pi * epoch / 4)) / 2
        value, gradient = loss()
        losses.append(value)
        velocity = 0.7 * velocity + gradient + 0.05 * weights
        weights = weights - rate * velocity
    losses.append(loss()[0])
    assert losses == sorted(losses, reverse=True)  # it does learn

    history = fit(network, images, labels, images, labels, settings, accelerator="cpu")
    assert np.allclose(linear.weight.detach(), weights[:, :4], atol=1e-6)
    assert np.allclose(linear.bias.detach(), weights[:, 4], atol=1e-6)
    assert np.allclose(history.train_loss, losses[:-1], rtol=1e-5)  # before each step
    assert np.allclose(history.validation_loss, losses[1:], rtol=1e-5)  # after it


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_learning_rate_is_the_closed_form_epoch_by_epoch(schedule):
    rates = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
    )
    try:
        fit_cpu(
            *(Recorder(), IMAGES, LABELS % 2, IMAGES, LABELS % 2),
            epochs=5,
            batch_size=7,
            learning_rate=0.04,
            schedule=schedule,
        )
    finally:
        hook.remove()
    falling = [0.04 / 2 * (1 + cos(pi * epoch / 5)) for epoch in range(5)]
    expected = falling if schedule == "cosine" else [0.04] * 5
    assert rates == pytest.approx(np.repeat(expected, 4).tolist(), rel=1e-9)  # 4 batches an epoch


def linear_network():
    torch.manual_seed(0)
    centre = Centre(torch.tensor(compute_mean_image(IMAGES)))
    return nn.Sequential(centre, nn.Flatten(), nn.Linear(32 * 32, 6))


def test_products_in_16_bits_lead_close_to_those_in_32():
    networks, histories = {}, {}
    for name in ("float32", "bfloat16"):
        networks[name] = linear_network()
        histories[name] = fit_cpu(
            *(networks[name], IMAGES, LABELS, *VALIDATION),
            epochs=15,
            learning_rate=0.01,
            precision=name,
        )
    plain, rough = (histories[p] for p in ("float32", "bfloat16"))
    assert (plain.precision, rough.precision) == ("float32", "bfloat16")
    assert plain.train_loss[-1] < plain.train_loss[0] / 2
    assert rough.train_loss != plain.train_loss  # it is not the same computation
    # Eight significant bits: the losses agree within 2 %.
    assert rough.train_loss == pytest.approx(plain.train_loss, rel=0.02)
    assert rough.validation_loss == pytest.approx(plain.validation_loss, rel=0.02)
    weights = {p: network[2].weight.detach() for p, network in networks.items()}
    assert weights["bfloat16"].dtype == torch.float32
    assert not torch.equal(weights["bfloat16"].bfloat16().float(), weights["bfloat16"])
    way = weights["float32"] - linear_network()[2].weight.detach()
    assert (weights["bfloat16"] - weights["float32"]).norm() < 0.05 * way.norm()


# Seeds and order


def test_same_seed_gives_the_same_bits_and_another_does_not():
    def run(seed):
        network = small_network()
        history = fit_cpu(network, IMAGES, LABELS, *VALIDATION, epochs=3, batch_size=7, seed=seed)
        return dataclasses.replace(history, seconds=0), network.state_dict()

    (first, weights), (again, same), (other, _) = run(5), run(5), run(6)
    assert first == again
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    assert first.train_loss != other.train_loss


def order(batches, epoch):
    batches.epoch = epoch
    rows = [images.tolist() for images, labels in batches]
    assert rows == [labels.tolist() for images, labels in batches]
    return rows


@given(st.integers(1, 40), st.integers(1, 45), st.integers(0, 2**32), st.integers(0, 2000))
def test_an_epoch_has_every_image_once(number, batch_size, seed, epoch):
    rows = torch.arange(number)
    for batches in (Batches(rows, rows, batch_size), Batches(rows, rows, batch_size, seed)):
        batched = order(batches, epoch)
        assert len(batched) == len(batches)
        assert all(len(batch) == batch_size for batch in batched[:-1])
        assert sorted(chain(*batched)) == list(range(number))
        assert order(batches, epoch) == batched  # from the seed and the epoch alone
    in_order = order(Batches(rows, rows, batch_size), epoch)
    assert list(chain(*in_order)) == list(range(number))


def test_order_differs_by_epoch_and_seed():
    rows = torch.arange(30)
    orders = {
        str(order(Batches(rows, rows, 30, seed), epoch)) for seed in range(4) for epoch in range(4)
    }
    assert len(orders) == 16


class Recorder(nn.Module):
    """Remembers the first pixels of the images it was shown."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(2))
        self.shown = {True: [], False: []}

    def forward(self, images):
        self.shown[self.training].append(images[:, 0, 0].tolist())
        return self.scores.expand(len(images), 2)


def test_training_shuffles_anew_in_each_epoch_and_validation_does_not():
    images = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    images.flags.writeable = False  # as a memory map is
    network = Recorder()
    labels = np.arange(20) % 2
    fit_cpu(network, images, labels, images[:7], labels[:7], epochs=3, batch_size=6, seed=1)
    epochs = [list(chain(*network.shown[True][i : i + 4])) for i in (0, 4, 8)]
    assert [sorted(shown) for shown in epochs] == [list(range(20))] * 3
    assert len({tuple(shown) for shown in epochs}) == 3
    assert network.shown[False] == [[0, 1, 2, 3, 4, 5], [6]] * 3


# When it stops


class Scheduled(nn.Module):
    """Gives a certain validation loss in each epoch; its state tells the epoch."""

    def __init__(self, losses):
        super().__init__()
        self.losses = losses
        self.unused = nn.Parameter(torch.zeros(1))
        self.register_buffer("epoch", torch.tensor(0))

    def forward(self, images):
        if self.training:
            self.epoch += 1
            return self.unused.expand(len(images), 2)
        # Cross-entropy of the scores (s, 0) for the first class: log(1 + exp(-s)).
        loss = torch.tensor(self.losses[int(self.epoch) - 1])
        return torch.stack([-torch.log(torch.expm1(loss)), torch.zeros(())]).expand(len(images), 2)


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([3.0, 2.0, 1.0, 1.5, 1.0, 2.0, 0.5], 3, 6, 3),  # an equal loss is not a lower one
        ([3.0, 2.0, 1.0, 1.5, 1.0, 2.0, 0.5], 4, 7, 7),
        ([1.0, 2.0, 0.9, 2.0, 0.8, 2.0, 2.0], 2, 7, 5),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 1, 2, 1),
    ],
)
def test_stops_patience_epochs_after_the_best_and_keeps_the_best(losses, patience, epochs, best):
    network = Scheduled(losses)
    images, labels = np.zeros((1, 8, 8), np.uint8), np.zeros(1, np.int64)
    settings = {"epochs": 7, "early_stopping": True, "patience": patience}
    history = fit_cpu(network, images, labels, images, labels, **settings)
    assert np.allclose(history.validation_loss, losses[:epochs])
    assert history.best_epoch == best
    assert network.epoch == best


def test_by_default_all_epochs_are_done_and_the_last_weights_kept():
    losses = [3.0, 0.5, 1.0, 2.0, 4.0, 5.0, 6.0]
    network = Scheduled(losses)
    images, labels = np.zeros((1, 8, 8), np.uint8), np.zeros(1, np.int64)
    data = (images, labels, images, labels)
    history = fit_cpu(network, *data, epochs=7, patience=1)
    assert np.allclose(history.validation_loss, losses)
    assert history.best_epoch == network.epoch == 7


class Raises(Recorder):
    """Raises in the second training step."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, images):
        if len(self.shown[True]) == 1:
            raise self.error
        return super().forward(images)


# Lightning turns Ctrl-C into sys.exit, and must not go on ignoring Ctrl-C; a notebook lives on.
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_what_stops_it_comes_out_as_it_is(error):
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(error):
            fit_cpu(Raises(error), IMAGES, LABELS % 2, IMAGES, LABELS % 2, epochs=3)
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)


# What is refused


def test_diverging_loss():
    with pytest.raises(CbirError, match="loss is not finite any more in epoch") as caught:
        fit_cpu(small_network(), IMAGES, LABELS, *VALIDATION, epochs=9, learning_rate=1e20)
    assert caught.value.hint.startswith("lower the learning rate")


class Poisoned(Recorder):
    """Knows no score for one image, from some epoch on; what it has learnt from it spoils it."""

    def __init__(self, image, epoch, training):
        super().__init__()
        self.image, self.epoch, self.when = image, epoch, training

    def forward(self, images):
        scores = super().forward(images)
        if self.training != self.when:
            return scores.nan_to_num()
        batches = len(self.shown[self.training])
        epoch = -(-batches // self.batches)
        bad = (images[:, 0, 0] == self.image) & torch.tensor(epoch >= self.epoch)
        return torch.where(bad[:, None], torch.nan, scores)


@pytest.mark.parametrize(("where", "epoch"), [("train", 1), ("train", 3), ("validation", 2)])
@pytest.mark.parametrize("batch_size", [3, 8, 12])
def test_a_loss_that_is_not_finite_names_epoch_batch_and_images(where, epoch, batch_size):
    images = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    network = Poisoned(image=13, epoch=epoch, training=where == "train")
    network.batches = -(-20 // batch_size)
    labels = np.arange(20) % 2
    with pytest.raises(CbirError, match="not finite") as caught:
        fit_cpu(network, images, labels, images, labels, epochs=5, batch_size=batch_size)
    shown = network.shown[where == "train"][(epoch - 1) * network.batches :]
    number = next(i for i, batch in enumerate(shown) if 13 in batch)
    named = ", ".join(map(str, shown[number][:8])) + ", ..." * (len(shown[number]) > 8)
    assert caught.value.what == (
        f"the loss is not finite any more in epoch {epoch}, {where} batch {number + 1} of "
        f"{network.batches} (images {named})"
    )
    assert len(str(caught.value).splitlines()) == 2


def test_a_batch_may_be_one_image_or_all_but_no_more():
    images = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    data = (images, np.arange(5) % 2, images, np.arange(5) % 2)
    for batch_size, batches in ((1, 5), (5, 1)):
        network = Recorder()
        history = fit_cpu(network, *data, epochs=2, batch_size=batch_size)
        assert [len(batch) for batch in network.shown[True]] == [batch_size] * batches * 2
        assert history.batch_size == batch_size
    with pytest.raises(CbirError, match="a batch of 6 is larger than the 5 training") as caught:
        fit_cpu(Recorder(), *data, epochs=2, batch_size=6)
    assert caught.value.hint == "give a batch_size of 5 or less"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_where_there_is_none():
    settings = Settings(epochs=1, batch_size=8)
    with pytest.raises(CbirError, match="a GPU is asked for and none is there"):
        fit(small_network(), IMAGES, LABELS, *VALIDATION, settings, accelerator="gpu")


def test_unknown_accelerator():
    settings = Settings(epochs=1, batch_size=8)
    with pytest.raises(CbirError, match="unknown accelerator 'tpu'"):
        fit(small_network(), IMAGES, LABELS, *VALIDATION, settings, accelerator="tpu")


@pytest.mark.parametrize("empty", ["training", "validation"])
def test_no_images(empty):
    some, none = (IMAGES, LABELS), (IMAGES[:0], LABELS[:0])
    data = (*none, *some) if empty == "training" else (*some, *none)
    with pytest.raises(CbirError, match="no image to train or to validate on"):
        fit_cpu(small_network(), *data, epochs=1, batch_size=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("patience", 0),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", True),
        ("momentum", -0.1),
        ("momentum", 1),
        ("momentum", 5),
        ("weight_decay", -1e-9),
        ("weight_decay", float("inf")),
        ("seed", -1),
        ("seed", 2**32),
        *((name, 2.5) for name in ("epochs", "patience", "batch_size", "seed")),
        *((name, True) for name in ("epochs", "patience", "batch_size", "seed")),
        ("epochs", "3"),
        ("early_stopping", "no"),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(CbirError, match=f"{name} {value!r} is out of range"):
        Settings(**{name: value})


def test_numbers_of_numpy_are_settings_too():
    numbers = {"epochs": np.int64(2), "learning_rate": np.float32(0.5), "momentum": np.int8(0)}
    assert Settings(**numbers, seed=2**32 - 1).epochs == 2


@pytest.mark.parametrize(
    ("name", "value", "meant"), [("schedule", "cosin", "cosine"), ("precision", "float", "float32")]
)
def test_an_unknown_schedule_or_precision(name, value, meant):
    with pytest.raises(CbirError, match=f"unknown {name} {value!r}") as caught:
        Settings(**{name: value})
    assert f"did you mean {meant!r}?" in caught.value.hint


def test_defaults_are_the_papers():
    settings = Settings()
    assert (settings.momentum, settings.weight_decay, settings.batch_size) == (0.9, 5e-4, 256)
    assert 1000 <= settings.epochs <= 2000
    # Not the paper's, which says neither: a rate that falls to 0, and the last weights.
    assert (settings.schedule, settings.early_stopping) == ("cosine", False)


# Products in 16 bits, where they are native


@pytest.mark.parametrize("times", [0.6, 0.99, 1.49, 1.5, 1.51, 7.0])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_auto_is_bfloat16_exactly_where_it_costs_less_than_emulated(
    times, on_gpu, monkeypatch, capsys
):
    asked = []
    monkeypatch.setattr(precision, "EMULATED", 1.5)
    monkeypatch.setattr(
        precision, "measure_bfloat16_cost", lambda gpu=False: asked.append(gpu) or times
    )
    expected = "bfloat16" if times < 1.5 else "float32"
    assert precision.resolve_precision("auto", on_gpu) == expected
    assert asked == [on_gpu]
    assert capsys.readouterr().out == ""  # it needs no warning: nobody asked for 16 bits
    assert precision.resolve_precision("float32", on_gpu) == "float32"
    assert asked == [on_gpu]  # measured only where it matters


@pytest.mark.parametrize(("times", "shown"), [(1.4, None), (1.5, "2"), (6.7, "7"), (19.9, "20")])
def test_bfloat16_is_taken_where_asked_for_and_warned_of_where_emulated(
    times, shown, monkeypatch, capsys
):
    monkeypatch.setattr(precision, "measure_bfloat16_cost", lambda gpu=False: times)
    assert precision.resolve_precision("bfloat16") == "bfloat16"
    warning = (
        f"warning: bfloat16 is emulated on this device and takes {shown} times as long as float32; "
        "leave precision to auto\n"
    )
    assert capsys.readouterr().out == (warning if shown else "")


@pytest.mark.parametrize(("times", "expected"), [(0.6, "bfloat16"), (9.0, "float32")])
def test_what_auto_became_is_recorded_and_is_what_it_says(times, expected, monkeypatch):
    monkeypatch.setattr(precision, "measure_bfloat16_cost", lambda gpu=False: times)
    data = (IMAGES, LABELS, *VALIDATION)

    def curves(asked):
        network = linear_network()
        history = fit_cpu(network, *data, epochs=2, precision=asked)
        assert next(network.parameters()).device.type == "cpu"
        return dataclasses.replace(history, seconds=0), network.state_dict()

    chosen = curves("auto")
    assert chosen[0].precision == expected
    assert same(chosen, curves(expected))
    other = curves({"bfloat16": "float32", "float32": "bfloat16"}[expected])
    assert other[0].train_loss != chosen[0].train_loss


def test_the_cost_of_bfloat16_is_a_ratio_of_times_measured_once(monkeypatch):
    clock, ticks = [0.0], iter([8, 4, 7, 3, 9, 2, 6, 5, 8, 4, 7, 3] * 2)

    def tick():  # before and after: each measurement lasts as long as the next number
        if tick.started:
            clock[0] += next(ticks)
        tick.started = not tick.started
        return clock[0]

    tick.started = False
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    monkeypatch.setattr(precision.time, "perf_counter", tick)
    precision.measure_bfloat16_cost.cache_clear()
    try:
        # bfloat16 first: of 8, 7, 9, 6, 8, 7 and 4, 3, 2, 5, 4, 3 the shortest count.
        assert precision.measure_bfloat16_cost() == precision.measure_bfloat16_cost() == 6 / 2
        assert clock[0] == 66  # twelve measurements in all
    finally:
        precision.measure_bfloat16_cost.cache_clear()


@pytest.mark.parametrize("native", [True, False])
def test_auto_follows_the_processor_and_not_the_clock(monkeypatch, native):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: native)
    times = iter(float(n) for n in range(100))  # both precisions take as long
    monkeypatch.setattr(precision.time, "perf_counter", lambda: next(times))
    precision.measure_bfloat16_cost.cache_clear()
    try:
        expected = "bfloat16" if native else "float32"
        assert precision.resolve_precision("auto") == expected
    finally:
        precision.measure_bfloat16_cost.cache_clear()


# Killed and gone on

EPOCHS, STEPS = 6, 4  # of the training that is broken off, with all that is random in it


def lively_network(seed=0, **options):
    torch.manual_seed(seed)
    chosen = {"dropout": 0.5, "turns": True, "crop": 24, "shifts": True} | options
    options = {"classes": 6, "reading": "flattened", "batch_norm": True, **chosen}
    return build_network("F", compute_mean_image(IMAGES), **options)


def train(network, path=None, images=IMAGES, labels=LABELS, **settings):
    """The curves and the bits that a training ends with."""
    common = {"epochs": EPOCHS, "batch_size": 7, "learning_rate": 0.01, "precision": "float32"}
    settings = Settings(**common | settings)
    history = fit(network, images, labels, *VALIDATION, settings, "cpu", path)
    return dataclasses.replace(history, seconds=0), network.state_dict()


def same(one, other):
    return one[0] == other[0] and all(torch.equal(v, other[1][k]) for k, v in one[1].items())


class BrokenError(Exception):
    """What breaks a training off."""


def breaking(network, step, training=True, act=None):
    """The network, with something done before one step of training or validation, from 1."""
    steps = []

    def count(module, _):
        if module.training == training:
            steps.append(step)
            if len(steps) == step:
                if act is None:
                    raise BrokenError
                act()

    network.register_forward_pre_hook(count)
    return network


@pytest.fixture(scope="module")
def undisturbed():
    return train(lively_network())


@pytest.fixture
def every_epoch(monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_S", 0)


@pytest.fixture
def checkpoint(every_epoch, tmp_path):
    """Of a training broken off in the middle of epoch 3."""
    path = tmp_path / "new" / "training.ckpt"
    with pytest.raises(BrokenError):
        train(breaking(lively_network(), 2 * STEPS + 2), path)
    return path


def test_what_is_broken_off_is_random_in_every_way(undisturbed):
    # Otherwise the tests below would say little: dropout, augmentation and order all matter.
    assert len(undisturbed[0].train_loss) == EPOCHS
    for options in ({"dropout": 0.0}, {"turns": False}, {"shifts": False}):
        assert not same(train(lively_network(**options)), undisturbed)
    assert not same(train(lively_network(), seed=1), undisturbed)


@pytest.mark.parametrize(
    ("step", "in_training"),
    [(2 * STEPS + 1, True), (2 * STEPS + 3, True), (3 * STEPS, True), (2 * 2 + 1, False)],
    ids=["start of epoch 3", "middle", "last step", "validation"],
)
def test_a_training_broken_off_goes_on_with_the_same_bits(
    step, in_training, undisturbed, every_epoch, tmp_path, capsys
):
    path = tmp_path / "training.ckpt"
    with pytest.raises(BrokenError):
        train(breaking(lively_network(), step, in_training), path)
    assert path.exists()
    capsys.readouterr()
    assert same(train(lively_network(), path), undisturbed)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "going on after epoch 2"
    assert [line.split(":")[0] for line in said[1:]] == [f"epoch {i}/6" for i in (3, 4, 5, 6)]
    assert not path.exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "constant"},
        {"precision": "bfloat16", "learning_rate": 0.05},
        {"early_stopping": True, "patience": 1, "learning_rate": 0.2},  # stops early
    ],
    ids=str,
)
def test_a_training_goes_on_after_every_epoch_even_the_last(
    settings, every_epoch, tmp_path, monkeypatch
):
    path, kept = tmp_path / "training.ckpt", []
    write = training.Checkpoints.on_train_epoch_end

    def keep(self, *arguments):
        write(self, *arguments)
        if path.exists():
            kept.append(path.read_bytes())

    monkeypatch.setattr(training.Checkpoints, "on_train_epoch_end", keep)
    whole = train(lively_network(), path, **settings)
    epochs = len(whole[0].train_loss)
    assert (epochs < EPOCHS) == (settings.get("patience") == 1)
    assert len(kept) >= epochs - 1 >= 1
    for state in kept.copy():
        path.write_bytes(state)
        assert same(train(lively_network(), path, **settings), whole)


def test_a_network_in_evaluation_is_trained_as_any_other(undisturbed):
    assert same(train(lively_network().eval()), undisturbed)


def test_a_checkpoint_is_written_now_and_then_and_removed_at_the_end(
    undisturbed, tmp_path, monkeypatch
):
    path, clock, written = tmp_path / "training.ckpt", [0.0], []
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    write = training.pl.Trainer.save_checkpoint
    monkeypatch.setattr(
        training.pl.Trainer,
        "save_checkpoint",
        lambda self, *a: (written.append(self.current_epoch + 1), write(self, *a)),
    )

    def wait():
        clock[0] += 3

    network = lively_network()
    network.register_forward_pre_hook(lambda module, _: wait() if module.training else None)
    assert same(train(network, path), undisturbed)
    assert training.CHECKPOINT_S == 30
    assert written == [3, 6]  # 12 seconds an epoch
    assert not path.exists()


def test_without_a_checkpoint_nothing_is_written(every_epoch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(lively_network(), epochs=1)
    assert list(tmp_path.iterdir()) == []


# In a process of its own; its second argument says where it waits for a line: before its third
# step, or before its tenth epoch, so that a kill comes in time however busy the machine is.
PROCESS = """
import sys
import numpy as np
import torch
torch.set_num_threads(1)
sys.path.insert(0, {root!r})
from cbir_lib.networks import training
training.CHECKPOINT_S = 0
from tests.networks.test_training import breaking, lively_network, train
network = lively_network()
if step := dict(wait=3, kill=37).get(sys.argv[2]):
    breaking(network, step, act=sys.stdin.readline)
history, weights = train(network, sys.argv[1] + ".ckpt", epochs=15)
curves = dict(train_loss=history.train_loss, validation_loss=history.validation_loss)
np.savez(sys.argv[1] + ".npz", **curves, **{{k: v.numpy() for k, v in weights.items()}})
"""


def start(path, how):
    script = PROCESS.format(root=str(Path(__file__).parents[2]))
    return subprocess.Popen(
        [sys.executable, "-u", "-c", script, str(path), how],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_process_and_a_second_one_on_the_same_checkpoint(tmp_path):
    # Two at a time, for starting one takes seconds: held up in its first epoch, and killed.
    processes = {how: start(tmp_path / how, how) for how in ("wait", "kill")}
    try:
        killed = processes["kill"]
        epochs, wait_s = random.randint(1, 8), random.uniform(0, 0.1)
        said = [killed.stdout.readline() for _ in range(epochs)]
        time.sleep(wait_s)
        killed.kill()
        said += killed.communicate(timeout=500)[0].splitlines()
        assert killed.returncode == -signal.SIGKILL, (epochs, wait_s)
        assert said[0].startswith("epoch 1/15")
        # An epoch is told before its checkpoint is written; killed between, the first has none.
        begun = (tmp_path / "kill.ckpt").exists()
        assert begun or len([line for line in said if line.startswith("epoch ")]) == 1
        processes["again"] = start(tmp_path / "kill", "again")

        # The one that waits in its first epoch holds its checkpoint.
        path = tmp_path / "wait.ckpt"
        lock = path.with_name(".wait.ckpt.lock")
        until = time.monotonic() + 500
        while not lock.exists() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.2)
        with pytest.raises(CbirError, match=f"another process is training with {path}") as caught:
            train(lively_network(), path)
        assert len(str(caught.value).splitlines()) == 2
        assert caught.value.hint == "wait until it ends, or stop it"
        assert processes["wait"].poll() is None

        processes["wait"].stdin.write("go on\n")
        processes["wait"].stdin.close()
        processes["wait"].stdin = None
        for how in ("wait", "again"):
            out, err = processes[how].communicate(timeout=500)
            assert processes[how].returncode == 0, err
            if how == "again":
                assert out.startswith("going on after epoch ") == begun, (epochs, wait_s)
                assert not begun or int(out.split()[4]) >= epochs - 1
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    with np.load(tmp_path / "wait.npz") as held_up, np.load(tmp_path / "kill.npz") as killed:
        assert held_up.files == killed.files
        for key in held_up.files:
            np.testing.assert_array_equal(killed[key], held_up[key], err_msg=key)
    assert not list(tmp_path.glob("*.ckpt"))


def test_a_full_disk_leaves_the_last_good_checkpoint(
    undisturbed, every_epoch, tmp_path, monkeypatch
):
    path, temporary = tmp_path / "runs" / "training.ckpt", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    states = []

    def fill():  # in epoch 4: no file may be longer than 100 kB from now on
        states.append(path.read_bytes())
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))

    try:
        with pytest.raises(CbirError, match=f"cannot write {path}: File too") as caught:
            train(breaking(lively_network(), 3 * STEPS + 1, act=fill), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(str(caught.value).splitlines()) == 2
    assert [path.read_bytes()] == states
    assert len(states[0]) > 100_000
    left = {file.name for file in path.parent.iterdir()} - {".training.ckpt.lock"}
    assert left == {"training.ckpt"}
    assert list(temporary.iterdir()) == []
    assert same(train(lively_network(), path), undisturbed)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def with_trap(path):
    state = torch.load(path, weights_only=True)
    torch.save(state | {"trap": Trap(path.with_name("trapped"))}, path)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "almost whole": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "foreign": lambda path: path.write_bytes(bytes(range(256)) * 100),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Trap(path.with_name("trapped")))),
    "torch pickle": lambda path: torch.save({"a": Trap(path.with_name("trapped"))}, path),
    "state and trap": with_trap,
    "other content": lambda path: torch.save({"callbacks": {}}, path),
    "weights": lambda path: torch.save(torch.zeros(3), path),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_or_disguised_checkpoint_is_refused_and_not_executed(damage, checkpoint):
    damage(checkpoint)
    with pytest.raises(CbirError, match="is damaged or no checkpoint of a training") as caught:
        train(lively_network(), checkpoint)
    assert str(checkpoint) in caught.value.what
    assert caught.value.hint == f"remove {checkpoint}; training then starts anew"
    assert len(str(caught.value).splitlines()) == 2
    assert not checkpoint.with_name("trapped").exists()
    assert checkpoint.exists()


OTHERS = {
    "settings": lambda path: train(lively_network(), path, learning_rate=0.02),
    "epochs": lambda path: train(lively_network(), path, epochs=EPOCHS + 1),
    "first weights": lambda path: train(lively_network(seed=1), path),
    "dropout": lambda path: train(lively_network(dropout=0.25), path),
    "turns": lambda path: train(lively_network(turns=False), path),
    "shifts": lambda path: train(lively_network(shifts=False), path),
    "images": lambda path: train(lively_network(), path, images=IMAGES[:, ::-1].copy()),
    "labels": lambda path: train(lively_network(), path, labels=LABELS[::-1].copy()),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_checkpoint_of_another_training_is_refused(other, checkpoint):
    before = checkpoint.read_bytes()
    with pytest.raises(CbirError, match="is of another training") as caught:
        other(checkpoint)
    assert caught.value.hint == f"remove {checkpoint}; training then starts anew"
    assert checkpoint.read_bytes() == before


def test_a_refused_checkpoint_may_be_removed_and_the_training_starts_anew(checkpoint, undisturbed):
    checkpoint.write_bytes(b"damaged")
    with pytest.raises(CbirError):
        train(lively_network(), checkpoint)
    checkpoint.unlink()
    assert same(train(lively_network(), checkpoint), undisturbed)


# Too little memory


ON_GPU = torch.OutOfMemoryError("no memory left.\nOf 8 GiB, all are taken.")
ON_CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 4503599627370496 bytes. Error code 12 (Cannot allocate memory)"
)


def starving(network, largest, step=1, error=ON_GPU):
    """The network, without memory for more than ``largest`` images from some step on."""
    steps = []

    def count(module, images):
        steps.append(len(images[0]))
        if len(steps) >= step and len(images[0]) > largest:
            raise error

    network.register_forward_pre_hook(count)
    return network


# In the first step; after one step, which has moved the weights; in the first validation (batches
# of 10, 10, 4 and 10, 2); in the second epoch, behind a checkpoint.
@pytest.mark.parametrize("step", [1, 2, 4, 6])
@pytest.mark.parametrize("error", [ON_GPU, ON_CPU], ids=["GPU", "CPU"])
def test_a_batch_too_large_for_the_memory_is_halved_once(
    step, error, every_epoch, tmp_path, capsys
):
    path = tmp_path / "training.ckpt"
    trained = train(starving(lively_network(), 5, step, error), path, batch_size=10)
    said = capsys.readouterr().out.splitlines()
    warning = "warning: no memory for a batch of 10; starting again with 5"
    assert [line for line in said if not line.startswith("epoch")] == [warning]
    assert trained[0].batch_size == 5
    assert same(trained, train(lively_network(), batch_size=5))
    assert not path.exists()


@pytest.mark.parametrize(("batch_size", "largest", "named"), [(12, 5, 6), (1, 0, 1), (3, 0, 1)])
def test_a_batch_that_is_still_too_large_is_an_error(batch_size, largest, named, capsys):
    with pytest.raises(CbirError) as caught:
        train(starving(lively_network(), largest), batch_size=batch_size)
    assert caught.value.what == f"no memory for a batch of {named}: no memory left."
    assert caught.value.hint.startswith("give a smaller batch_size")
    assert capsys.readouterr().out.count("warning") == (batch_size > 1)


def test_too_little_memory_of_the_processor_is_an_error_too(capsys):
    with pytest.raises(CbirError, match="no memory for a batch of 6: .*DefaultCPUAllocator"):
        train(starving(lively_network(), 5, error=ON_CPU), batch_size=12)


def test_another_fault_is_not_taken_for_too_little_memory(capsys):
    with pytest.raises(RuntimeError, match="shapes"):
        train(starving(lively_network(), 5, error=RuntimeError("shapes")), batch_size=10)
    assert "warning" not in capsys.readouterr().out


def test_a_halved_training_goes_on_as_any_other(every_epoch, tmp_path):
    path = tmp_path / "training.ckpt"
    network = breaking(starving(lively_network(), 5), 1 + 3 * 5)
    with pytest.raises(BrokenError):
        train(network, path, batch_size=10)
    assert path.exists()
    trained = train(starving(lively_network(), 5), path, batch_size=10)
    assert same(trained, train(lively_network(), batch_size=5))
