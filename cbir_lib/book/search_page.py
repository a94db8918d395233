"""The data of the book's page ``search_in_page.html``, which searches in the reader's browser.

A sample of the phantom's training images is the archive, described by a network of ``models/``, by
a pretrained network and by the grey histogram. The page describes a query in the same ways, the
networks as ONNX, and compares the vectors. Its scripts are in ``book/assets/search/``.

Files of the folder that :func:`write` makes (numbers are little-endian; ``.zst`` is Zstandard):

=========================  ========================================================================
``search.json``            what the archive holds, the methods, and what the page has to know
``network.onnx``           (N, S, S) uint8, preprocessed → (N, D) float32
``network.u16.zst``        (N, D) vectors, each divided by its largest value, in 65,535ths: first
                           the low bytes of all values, then the high ones
``pretrained.onnx``,       the same of the pretrained network, which the page loads when it is
``pretrained.u16.zst``     asked to
``grey-histogram.u8.zst``  (N, bins) pixels in each bin
``noise.f32.zst``          (128, 128) the noise of :func:`cbir_lib.images.perturbations.add_noise`
``thumbnails.webp``        a sheet of the archive's images, row by row
``samples/*.jpg``          queries of the test split, as in the phantom's shards
=========================  ========================================================================
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from cbir_lib import paths
from cbir_lib.datasets import phantom
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.descriptors import DESCRIPTORS, Descriptor
from cbir_lib.descriptors.histogram import GreyHistogram
from cbir_lib.descriptors.learned import LearnedDescriptor
from cbir_lib.descriptors.pretrained import LAYERS, PretrainedFeatures
from cbir_lib.errors import CbirError
from cbir_lib.files import replacing
from cbir_lib.images import dicom, perturbations
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks.efficientnet import load_network
from cbir_lib.networks.modules import read_network
from cbir_lib.networks.onnx_export import export_network, export_pretrained
from cbir_lib.reproduction import evidence, shipped
from cbir_lib.retrieval.index import Index
from cbir_lib.study.config import read_study

ARCHIVE = 2000  # images: more would not fit in a page that loads in seconds
QUERIES = 400  # of the test split, to say how good the methods are on this archive
SAMPLES = 2  # queries of each class that the page offers
SEED = 0
THUMBNAIL_PX = 64
THUMBNAIL_QUALITY = 45  # of WebP
LARGEST_PX = 40_000_000  # pixels that the page decodes: beyond, phones run out of memory
# What profile `full` chose on the validation split; a test compares.
HISTOGRAM = {"bins": 16, "grid": 8}
HISTOGRAM_SIZE = 64  # px
# Of the settings that were tried, the best whose network is a fifth of the whole one.
PRETRAINED = {"layer": "stage5", "size": 128, "pooling": "generalised-mean"}
MANIFEST = "search.json"


class Method(NamedTuple):
    """A way to describe an image: a descriptor, and the preprocessing."""

    name: str
    title: str
    descriptor: Descriptor
    preprocessing: Preprocessing
    facts: dict  # for the manifest
    graph: bytes = b""  # the network as ONNX

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 images: (N, D) float32."""
        if isinstance(self.descriptor, LearnedDescriptor):  # which preprocesses images itself
            return self.descriptor.transform(images)
        return self.descriptor.transform(self.preprocessing.transform(images))


def write(folder: Path) -> Path:
    """Write the data of the page to a folder; the manifest, ``search.json``, last.

    Raises
    ------
    CbirError
        When the phantom or the networks of ``models/`` are missing.
    """
    data = phantom.load()
    archive, queries = sample(data)
    methods = [_choose_network(), _choose_pretrained(), _choose_histogram()]
    described = []
    for method in methods:
        vectors = method.describe(archive.images)
        measured = measure(method, vectors, archive, queries)
        if method.graph:
            stored = _in_16_bits(vectors)
            _write(folder / method.facts["file"], method.graph)
        else:
            stored = np.rint(vectors * HISTOGRAM_SIZE**2).astype(np.uint8).tobytes()
        compressed = compress(stored)
        _write(folder / method.facts["vectors"], compressed)
        size = len(method.graph) + len(compressed)
        described.append(_describe_method(method, vectors, measured) | {"bytes": size})
    shape = (1, *archive.images.shape[1:])
    rng = np.random.default_rng(perturbations.SEED)
    noise = rng.standard_normal(shape, np.float32)
    _write(folder / "noise.f32.zst", compress(noise.astype("<f4").tobytes()))
    columns = int(np.ceil(np.sqrt(len(archive))))
    _write(folder / "thumbnails.webp", draw_sheet(archive.images, columns))
    samples = choose_samples(queries)
    for image_id, encoded in read_encoded(samples.image_ids).items():
        _write(folder / "samples" / f"{image_id}.jpg", encoded)
    views = sorted(set(archive.records["view"]))
    manifest = {
        "classes": data.class_names,
        "size": archive.images.shape[1],
        "largest_px": LARGEST_PX,
        "modalities": dicom.MODALITIES,
        "thumbnail": {"px": THUMBNAIL_PX, "columns": columns},
        "archive": {
            "labels": archive.labels.tolist(),
            "views": [views.index(view) for view in archive.records["view"]],
        },
        "views": views,
        "samples": [
            {"file": f"samples/{image_id}.jpg", "label": int(label), "view": view}
            for image_id, label, view in zip(
                samples.image_ids, samples.labels, samples.records["view"], strict=True
            )
        ],
        "methods": described,
    }
    _write(folder / MANIFEST, json.dumps(manifest, separators=(",", ":")).encode())
    return folder


def sample(data: RadiographSet) -> tuple[RadiographSet, RadiographSet]:
    """Draw the archive, from the training images, and queries, from the test images."""
    drawn = data.sample({"train": ARCHIVE, "validation": len(data), "test": QUERIES}, SEED)
    return drawn.split("train"), drawn.split("test")


def choose_samples(queries: RadiographSet) -> RadiographSet:
    """Return the first queries of each class."""
    rows = [np.flatnonzero(queries.labels == label) for label in range(len(queries.class_names))]
    return queries.take(np.concatenate([of_class[:SAMPLES] for of_class in rows]))


def measure(
    method: Method, vectors: np.ndarray, archive: RadiographSet, queries: RadiographSet
) -> dict:
    """Measure how many of the nearest image, and of the first ten, are of the query's class."""
    index = Index(method.descriptor.distance)
    index.add(vectors, archive.image_ids)
    rows = index.search(method.describe(queries.images), 10).rows
    relevant = archive.labels[rows] == queries.labels[:, None]
    return {
        "queries": len(queries),
        "P@1": float(relevant[:, 0].mean()),
        "P@10": float(relevant.mean()),
    }


def read_encoded(image_ids: np.ndarray) -> dict[str, bytes]:
    """Read the files of images of the phantom's test split as they are in its shards."""
    encoded = {}
    for shard in sorted(phantom.locate().glob("test-*.parquet")):
        table = pq.read_table(shard, filters=[("image_id", "in", set(image_ids))])
        files = table["image"].combine_chunks().field("bytes").to_pylist()
        encoded |= dict(zip(table["image_id"].to_pylist(), files, strict=True))
    return encoded


def draw_sheet(images: np.ndarray, columns: int) -> bytes:
    """Draw a sheet of (N, H, W) uint8 images as thumbnails, row by row, as a WebP file."""
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows, THUMBNAIL_PX, columns, THUMBNAIL_PX), np.uint8)
    for place, image in enumerate(images):
        small = cv2.resize(image, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
        sheet[place // columns, :, place % columns] = small
    file = io.BytesIO()
    picture = Image.fromarray(sheet.reshape(rows * THUMBNAIL_PX, -1))
    picture.save(file, "WEBP", quality=THUMBNAIL_QUALITY, method=6)
    return file.getvalue()


def compress(data: bytes) -> bytes:
    """Compress bytes as Zstandard does."""
    return pa.Codec("zstd", compression_level=19).compress(data, asbytes=True)


def _choose_network() -> Method:
    """Return the smallest network for films of patients, described at its last pooling layer.

    Of those in ``models/``; if none has been found to serve such films, the smallest of all. Up to
    the last hidden layer, which the study uses, there are a hundred times the weights.
    """
    files = paths.shipped_networks()
    if not files:
        raise CbirError(
            f"no network in {paths.models_folder()}", "get it again: git checkout models"
        )
    try:
        measured = evidence.find_evidence("phantom", None, read_study(paths.study_file())).results
    except CbirError:  # a study of other images has no evidence on these
        measured = []
    names = shipped.list_shipped_for_films(measured) or files
    file = min((files[name] for name in names), key=lambda file: file.stat().st_size)
    trained = read_network(file)
    pools = [name for name, _ in trained.module.named_children() if name.startswith("pool")]
    size, tile = trained.preprocessing.size, trained.preprocessing.tile_px
    if trained.preprocessing.clahe and size % max(1, size // tile):
        raise CbirError(
            f"{file.name} equalises tiles that do not divide {size} px",
            "the page does not: train it with tile_px a divisor of size",
        )
    return Method(
        "network",
        f"Network {trained.name}",
        LearnedDescriptor(trained, pools[-1]),
        trained.preprocessing,
        {
            "run": file.stem,
            "layer": pools[-1],
            "file": "network.onnx",
            "vectors": "network.u16.zst",
        },
        export_network(trained, pools[-1]),
    )


def _choose_pretrained() -> Method:
    layer, size = PRETRAINED["layer"], PRETRAINED["size"]
    blocks, channels = LAYERS[layer]
    network = load_network(torch.device("cpu"), "float32")
    return Method(
        "pretrained",
        DESCRIPTORS["pretrained"].title,
        PretrainedFeatures(**PRETRAINED, precision="float32"),
        Preprocessing(size=size, clahe=False),
        PRETRAINED | {"file": "pretrained.onnx", "vectors": "pretrained.u16.zst"},
        export_pretrained(network[: blocks + 1], size, channels),
    )


def _choose_histogram() -> Method:
    return Method(
        "grey-histogram",
        DESCRIPTORS["grey-histogram"].title,
        GreyHistogram(**HISTOGRAM),
        Preprocessing(size=HISTOGRAM_SIZE, clahe=False),
        HISTOGRAM | {"vectors": "grey-histogram.u8.zst"},
    )


def _describe_method(method: Method, vectors: np.ndarray, measured: dict) -> dict:
    prepared = method.preprocessing
    return {
        "name": method.name,
        "title": method.title,
        "distance": method.descriptor.distance,
        "values": vectors.shape[1],
        "preprocessing": {
            "size": prepared.size,
            "tiles": max(1, prepared.size // prepared.tile_px) if prepared.clahe else 0,
            "clip_limit": prepared.clip_limit,
        },
        "measured": measured,
        **method.facts,
    }


def _in_16_bits(vectors: np.ndarray) -> bytes:
    """Return (N, D) vectors without negative values in 16 bits; the cosine ignores the scale."""
    if vectors.min() < 0:
        raise ValueError("a negative value")
    largest = np.maximum(vectors.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    values = np.rint(vectors / largest * 65535).astype("<u2")
    return values.view(np.uint8).reshape(-1, 2).T.tobytes()


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(data)
