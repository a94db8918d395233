"""Training steps with channels last against the default layout: one thread, one run."""

import time

import numpy as np
import torch
from torch.nn import functional

from cbir_lib.networks.modules import build_network

BATCH, STEPS, RUNS, SIZE_PX = 64, 3, 3, 64


def images_per_second(name: str, layout: torch.memory_format) -> float:
    torch.manual_seed(0)
    network = build_network(name, np.full((SIZE_PX, SIZE_PX), 100, np.float32), classes=6)
    network = network.to(memory_format=layout)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    images = torch.randint(0, 256, (BATCH, SIZE_PX, SIZE_PX), dtype=torch.uint8)
    labels = torch.randint(0, 6, (BATCH,))
    for step in range(STEPS + 1):
        if step == 1:  # the first one warms up
            started = time.perf_counter()
        optimiser.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimiser.step()
    return BATCH * STEPS / (time.perf_counter() - started)


def main() -> None:
    torch.set_num_threads(1)
    for name in "BE":
        ratios = [
            images_per_second(name, torch.channels_last)
            / images_per_second(name, torch.contiguous_format)
            for _ in range(RUNS)
        ]
        print(
            f"network {name}, times faster with channels last: {np.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
