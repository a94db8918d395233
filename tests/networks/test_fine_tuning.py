"""The pretrained network that learns further, against its features and its own frozen parts."""

import numpy as np
import pytest
import torch

from cbir_lib.descriptors.pretrained import PretrainedFeatures
from cbir_lib.networks.fine_tuning import PARTS, FineTuned
from cbir_lib.networks.training import Settings, fit

IMAGES = np.random.default_rng(1).integers(0, 256, (8, 32, 32)).astype(np.uint8)
LABELS = np.arange(8) % 2


def test_before_training_it_sees_what_the_features_are():
    network = FineTuned(2, 32, "last stage").eval()
    torch.nn.init.eye_(network.scores.weight)
    with torch.inference_mode():
        scores = network(torch.from_numpy(IMAGES)).numpy()
    features = PretrainedFeatures("head", 32, "average", "float32").fit_transform(IMAGES)
    np.testing.assert_allclose(scores, features[:, :2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", PARTS)
def test_only_the_named_part_learns_and_the_loss_falls(part):
    torch.manual_seed(0)
    network = FineTuned(2, 32, part)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    settings = Settings(epochs=8, batch_size=8, learning_rate=0.001, precision="float32")
    history = fit(network, IMAGES, LABELS, IMAGES, LABELS, settings, "cpu")
    assert history.train_loss[-1] < history.train_loss[0]
    changed = {
        name.split(".")[0]
        for name, value in network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"learning", "scores"}


def test_another_network_starts_from_the_pretrained_weights_again():
    first = FineTuned(2, 32, "whole network")
    with torch.no_grad():
        next(first.learning.parameters()).zero_()
    second = FineTuned(2, 32, "whole network")
    assert next(second.learning.parameters()).abs().sum() > 0
