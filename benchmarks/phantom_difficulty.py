"""How hard the phantom is for one nearest neighbour, without any training.

Thumbnail, grey histogram and Gabor vector, test split against training split. Run once, before any
network saw the set; `--write` keeps the accuracies beside the data and in its card.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.fft import fft2, ifft2

from cbir_lib import load, paths
from cbir_lib.datasets.phantom.card import write_card
from cbir_lib.descriptors import build_descriptor
from cbir_lib.files import replacing
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.retrieval.distances import pairwise

SIZE_PX = 64  # of the image that the Gabor filters see
PAD_PX = 32
ORIENTATIONS, FREQUENCIES = 5, 3


def thumbnails(images: np.ndarray) -> np.ndarray:
    """(N, H, W) uint8 -> (N, 256): 16 x 16 means."""
    small = Preprocessing(16, clahe=False).transform(images)
    return small.reshape(len(images), -1).astype(np.float32)


def gabor(images: np.ndarray) -> np.ndarray:
    """(N, H, W) uint8 -> (N, 30): mean and standard deviation of each response's magnitude.

    Centre frequencies and orientations as in the baselines (Deselaers, Keysers, Ney 2008); the
    study's own descriptor replaces this one.
    """
    grey = Preprocessing(SIZE_PX, clahe=False).transform(images) / np.float32(255)
    grey = np.pad(grey, ((0, 0), (PAD_PX, PAD_PX), (PAD_PX, PAD_PX)))
    side = grey.shape[1]
    bins = np.fft.fftfreq(side, 1 / side)
    v, u = np.meshgrid(bins, bins, indexing="ij")
    spectrum = fft2(grey, axes=(1, 2))
    columns = []
    for f in range(FREQUENCIES):
        centre = np.sqrt(2) * 2.0 ** (f + 2)
        for p in range(ORIENTATIONS):
            angle = p * np.pi / ORIENTATIONS
            away = (u - centre * np.cos(angle)) ** 2 + (v - centre * np.sin(angle)) ** 2
            response = ifft2(spectrum * np.exp(-away / (2 * (0.4 * centre) ** 2)), axes=(1, 2))
            inner = abs(response)[:, PAD_PX:-PAD_PX, PAD_PX:-PAD_PX]
            inner = inner / inner.max(axis=(1, 2), keepdims=True).clip(1e-12)
            columns += [inner.mean(axis=(1, 2)), inner.std(axis=(1, 2))]
    return np.stack(columns, axis=1).astype(np.float32)


def nearest(distance: str, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(N,) row of the nearest gallery vector."""
    blocks = np.array_split(queries, max(1, len(queries) // 200))
    return np.concatenate([pairwise(distance, block, gallery).argmin(axis=1) for block in blocks])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=paths.data_folder("phantom"))
    parser.add_argument("--write", action="store_true", help="keep the result beside the data")
    options = parser.parse_args()
    data = load("phantom", options.root)
    train, test = data.split("train"), data.split("test")
    histogram = build_descriptor("grey-histogram")
    descriptors = {
        "thumbnail 16 x 16, L2": (thumbnails, "L2"),
        "grey histogram, Jensen-Shannon": (histogram.transform, histogram.distance),
        "Gabor vector, L1": (gabor, "L1"),
    }
    accuracies = {}
    for name, (transform, distance) in descriptors.items():
        gallery = np.concatenate([transform(b) for b in np.array_split(train.images, 50)])
        queries = np.concatenate([transform(b) for b in np.array_split(test.images, 50)])
        if name.startswith("Gabor"):  # values of differing size: each scaled by the training split
            scale = gallery.std(axis=0)
            gallery, queries = gallery / scale, queries / scale
        answers = train.labels[nearest(distance, queries, gallery)]
        accuracies[name] = 100 * float((answers == test.labels).mean())
        table = pd.crosstab(test.labels, answers, normalize="index").round(2)
        print(f"{name}: {accuracies[name]:.1f} %\n{table.to_string()}")
    largest = 100 * float(np.bincount(test.labels).max() / len(test))
    print(f"largest class: {largest:.1f} %")
    if options.write:
        path = options.root / "difficulty.json"
        measured = json.loads(path.read_text()) if path.is_file() else {}  # drafts stay
        measured |= {"images": len(data), "queries": len(test)}
        measured |= {"accuracy": accuracies, "largest": largest}
        with replacing(path) as part:
            part.write_text(json.dumps(measured, indent=2) + "\n")
        recipe = json.loads((options.root / "recipe.json").read_text())
        labels = pd.read_csv(options.root / "labels.csv", dtype={"image_id": str})
        write_card(options.root, labels, recipe)


if __name__ == "__main__":
    main()
