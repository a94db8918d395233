"""Tables of the architectures, next to numbers worked out by hand and to the built modules."""

import numpy as np
import pytest

from cbir_lib.networks.architectures import NETWORKS
from cbir_lib.networks.costs import tabulate_architectures, tabulate_costs, tabulate_flattened
from cbir_lib.networks.modules import build_network


def test_the_table_is_that_of_the_paper():
    table = tabulate_architectures()
    assert list(table.index) == list("ABCDEFG")
    assert table.loc["F"].to_list() == ["c5 P c5 P c5 P", 5120, "3 or 4"]


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_those_of_the_module(name):
    module = build_network(name, np.zeros((64, 64), np.float32), classes=5)
    row = tabulate_costs(classes=5, size=64).loc[name]
    count = sum(p.numel() for p in module.parameters())
    convolutional = sum(p.numel() for key, p in module.named_parameters() if key.startswith("conv"))
    assert row["parameters (million)"] == pytest.approx(count / 1e6)
    assert row["of them convolutional (%)"] == pytest.approx(100 * convolutional / count)
    assert row["convolutions"] == sum(key.startswith("conv") for key, _ in module.named_children())


def test_receptive_fields_by_hand():
    fields = tabulate_costs(classes=5, size=128)["receptive field (px)"]
    # A: 3, 5, pool 6, +2*2 = 10, pool 12. F: 5, 6, +4*2 = 14, 16, +4*4 = 32, 36.
    assert fields["A"] == 12
    assert fields["F"] == 36


def test_multiply_adds_by_hand():
    # A at 8 pixels: 9*20*64 + 9*400*64 + 9*400*16 convolutions, 80*4500 + 4500*800 + 800*5.
    expected = 9 * 20 * 64 + 9 * 400 * 64 + 9 * 400 * 16 + 80 * 4500 + 4500 * 800 + 800 * 5
    costs = tabulate_costs(classes=5, size=128)
    assert costs.loc["A", "multiply-adds (million)"] > 0
    small = 20 * 2 * 2
    assert small == 80  # the flattened map of A at 8 pixels
    from cbir_lib.networks.architectures import list_layers

    assert sum(layer.multiply_adds for layer in list_layers("A", classes=5, size=8)) == expected


def test_where_n_is_the_flattened_map():
    table = tabulate_flattened((120, 128))
    assert table["equal at"].to_dict() == {
        **dict.fromkeys("AE", "neither"),
        **dict.fromkeys("BC", "120 px"),
        **dict.fromkeys("DFG", "128 px"),
    }
    assert table.loc["F", "flattened at 128 px"] == 20 * 16 * 16
