"""Building an archive against its parts: the descriptor alone, and reading the files alone.

On simulated radiographs in a temporary folder, all timed in turn, in one run. ``python
benchmarks/archive.py`` measures a few descriptors, with names of descriptors or runs those.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import cbir_lib
from cbir_lib.archive.scan import scan_folder
from cbir_lib.archive.store import SHARD, SIZE_PX
from cbir_lib.archive.update import build, read_image_file
from cbir_lib.descriptors import DESCRIPTORS, build_descriptor
from cbir_lib.images.decoding import fit_to_square

IMAGES = 3 * SHARD
RUNS = 3
NAMES = ("grey-histogram", "hog", "phantom-F-augment-s0", "phantom-G-augment-s0")
EXPLANATION = f"""\
Images per second of building an archive of {IMAGES} PNG files of {SIZE_PX} pixels, over those of
the descriptor alone, given the images in memory, and over those of reading, decoding and hashing
the files alone, one after another; and the time of a build that finds nothing to do, in hundredths
of the first. Median of {RUNS} runs, least and most in brackets."""


def seconds(function) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def ratio(values: list[float]) -> str:
    return f"{np.median(values):6.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    names = sys.argv[1:] or NAMES
    data = cbir_lib.load("phantom")
    images = np.stack([fit_to_square(image, SIZE_PX) for image in data.images[:IMAGES]])
    print(EXPLANATION)
    print(f"{'':26}{'over describing':>22} {'over reading':>22} {'nothing to do':>22}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images"
        for number, image in enumerate(images):
            file = folder / f"{number // 100}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
        paths = list(scan_folder(folder).images)
        for name in names:
            handcrafted = name in DESCRIPTORS
            descriptor = build_descriptor(name) if handcrafted else cbir_lib.load_network(name)
            descriptor.fit(images).transform(images[:SHARD])  # compiled loops, warm caches
            describing, reading, nothing = [], [], []
            for run in range(RUNS):
                archive = Path(place) / f"{name}-{run}"
                whole = seconds(lambda to=archive, name=name: build(folder, to, name))
                alone = seconds(
                    lambda made=descriptor: [
                        made.transform(images[start : start + SHARD])
                        for start in range(0, IMAGES, SHARD)
                    ]
                )
                describing.append(alone / whole)
                reading.append(
                    seconds(lambda: [read_image_file(folder, p, SIZE_PX) for p in paths]) / whole
                )
                nothing.append(100 * seconds(lambda to=archive: build(folder, to)) / whole)
            columns = (ratio(values) for values in (describing, reading, nothing))
            print(f"{name:26}" + " ".join(f"{column:>22}" for column in columns))


if __name__ == "__main__":
    main()
