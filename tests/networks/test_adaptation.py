"""Statistics of batch normalisation taken from other images."""

import numpy as np
import pytest
import torch
from torch import nn

from cbir_lib.errors import CbirError
from cbir_lib.networks.adaptation import BATCH, adapt_statistics, has_batch_norm
from tests.networks.test_modules import IMAGES, trained

FILMS = np.random.default_rng(1).integers(100, 256, (20, 48, 40), dtype=np.uint8)


def test_values_are_normalised_by_the_images_statistics_and_by_nothing_random():
    original = trained(batch_norm=True, dropout=0.5, variations=("blur", "noise"))
    before = {key: value.clone() for key, value in original.module.state_dict().items()}
    adapted = adapt_statistics(original, FILMS)
    prepared = torch.from_numpy(original.preprocessing.transform(FILMS))
    values = prepared
    with torch.no_grad():
        for part in adapted.module:
            if isinstance(part, nn.BatchNorm2d):
                np.testing.assert_allclose(
                    part.running_mean, values.mean((0, 2, 3)), rtol=1e-2, atol=1e-3
                )
                np.testing.assert_allclose(part.running_var, values.var((0, 2, 3)), rtol=1e-2)
            values = part(values)
    assert torch.equal(adapt_statistics(original, FILMS).module(prepared), values)
    after = original.module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    weights = dict(adapted.module.named_parameters())
    assert all(torch.equal(weights[k], v) for k, v in original.module.named_parameters())
    assert not torch.equal(values, original.module(prepared))


def test_many_images_are_averaged_over_batches():
    original = trained(batch_norm=True)
    films = np.random.default_rng(2).integers(0, 256, (2 * BATCH + 2, 32, 32), dtype=np.uint8)
    first = next(m for m in adapt_statistics(original, films).module if has_statistics(m))
    halves = [
        next(m for m in adapt_statistics(original, part).module if has_statistics(m))
        for part in np.array_split(films, 3)
    ]
    mean = torch.stack([m.running_mean for m in halves]).mean(0)
    torch.testing.assert_close(first.running_mean, mean)


def has_statistics(module):
    return isinstance(module, nn.BatchNorm2d)


def test_what_cannot_be_adapted_is_refused():
    assert not has_batch_norm(trained()) and has_batch_norm(trained(batch_norm=True))
    with pytest.raises(CbirError, match="no batch normalisation"):
        adapt_statistics(trained(), IMAGES.numpy())
    with pytest.raises(CbirError, match="1 images have no variance"):
        adapt_statistics(trained(batch_norm=True), IMAGES.numpy()[:1])
