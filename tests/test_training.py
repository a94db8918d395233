import dataclasses
import signal
from itertools import chain

import numpy as np
import pytest
import torch
from fixtures import drawing
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from cbir_lib.errors import CbirError
from cbir_lib.models import Centre, build_network
from cbir_lib.preprocessing import Preprocessing, mean_image
from cbir_lib.training import Batches, Settings, fit


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
    return build_network("G", mean_image(IMAGES), classes=6, reading="flattened")


def fit_cpu(network, *data, **settings):
    settings = Settings(**{"batch_size": min(24, len(data[1])), **settings})
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


def test_history_is_of_the_weights_that_were_kept():
    network = small_network()
    images, labels = VALIDATION
    labels = np.append(labels[:-2], [0, 0])  # wrong, so that the last batch is worse
    # 12 images in batches of 5, 5 and 2: a mean of the batches' means is another number.
    history = fit_cpu(network, IMAGES, LABELS, images, labels, epochs=9, batch_size=5)
    with torch.no_grad():
        scores = network(torch.tensor(images)).double()
    losses = functional.cross_entropy(scores, torch.tensor(labels), reduction="none")
    right = scores.argmax(1).numpy() == labels
    kept = history.best_epoch - 1
    assert history.validation_loss[kept] == min(history.validation_loss)
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


def test_step_is_momentum_with_an_l2_penalty():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 2, 2), dtype=np.uint8)
    labels = np.arange(8) % 3
    settings = Settings(
        epochs=4, batch_size=8, learning_rate=0.3, momentum=0.7, weight_decay=0.05, patience=4
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
    for _ in range(4):
        value, gradient = loss()
        losses.append(value)
        velocity = 0.7 * velocity + gradient + 0.05 * weights
        weights = weights - 0.3 * velocity
    losses.append(loss()[0])
    assert losses == sorted(losses, reverse=True)  # so that the last weights are the best

    history = fit(network, images, labels, images, labels, settings, accelerator="cpu")
    assert np.allclose(linear.weight.detach(), weights[:, :4], atol=1e-6)
    assert np.allclose(linear.bias.detach(), weights[:, 4], atol=1e-6)
    assert np.allclose(history.train_loss, losses[:-1], rtol=1e-5)  # before each step
    assert np.allclose(history.validation_loss, losses[1:], rtol=1e-5)  # after it


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
        found = order(batches, epoch)
        assert len(found) == len(batches)
        assert all(len(batch) == batch_size for batch in found[:-1])
        assert sorted(chain(*found)) == list(range(number))
        assert order(batches, epoch) == found  # from the seed and the epoch alone
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
    history = fit_cpu(network, images, labels, images, labels, epochs=7, patience=patience)
    assert np.allclose(history.validation_loss, losses[:epochs])
    assert history.best_epoch == best
    assert network.epoch == best


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
    assert caught.value.hint == "lower the learning rate"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_where_there_is_none():
    with pytest.raises(CbirError, match="a GPU is asked for and none is there"):
        fit(small_network(), IMAGES, LABELS, *VALIDATION, Settings(epochs=1), accelerator="gpu")


def test_unknown_accelerator():
    with pytest.raises(CbirError, match="unknown accelerator 'tpu'"):
        fit(small_network(), IMAGES, LABELS, *VALIDATION, Settings(epochs=1), accelerator="tpu")


@pytest.mark.parametrize("empty", ["training", "validation"])
def test_no_images(empty):
    some, none = (IMAGES, LABELS), (IMAGES[:0], LABELS[:0])
    data = (*none, *some) if empty == "training" else (*some, *none)
    with pytest.raises(CbirError, match="no image to train or to validate on"):
        fit_cpu(small_network(), *data, epochs=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("patience", 0),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("momentum", -0.1),
        ("weight_decay", -1e-9),
        ("seed", -1),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(CbirError, match=f"{name} {value!r} is out of range"):
        Settings(**{name: value})


def test_defaults_are_the_papers():
    settings = Settings()
    assert (settings.momentum, settings.weight_decay, settings.batch_size) == (0.9, 5e-4, 256)
    assert 1000 <= settings.epochs <= 2000
