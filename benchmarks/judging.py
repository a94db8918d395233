"""What judging a run's vectors costs at the full size of the phantom: seconds and peak memory.

    python benchmarks/judging.py            800 values, as a network's
    python benchmarks/judging.py 8192       as many as VLAD's

The vectors are drawn at random around the mean of each class: only their number matters.
"""

import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # as in a study

import resource
import time

import numpy as np

from cbir_lib import Index, load
from cbir_lib.datasets.radiographs import SPLITS
from cbir_lib.evaluation.protocol import judge_vectors

values = int(sys.argv[1]) if len(sys.argv) > 1 else 800
data = load("phantom")
rng = np.random.default_rng(0)
centres = rng.random((len(data.class_names), values), np.float32)
vectors = {}
for split in SPLITS:
    labels = data.split(split).labels
    vectors[split] = centres[labels] + 3 * rng.random((len(labels), values), np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
started = time.perf_counter()
index = Index("cosine").add(vectors["train"], data.split("train").image_ids)
judge_vectors(vectors, index, data)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(
    f"{len(data):,} vectors of {values}: {time.perf_counter() - started:.0f} s on one core, "
    f"peak memory {peak:.2f} GB ({before:.2f} GB of it images and vectors)"
)
