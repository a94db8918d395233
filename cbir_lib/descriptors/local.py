"""Local features: many small vectors an image, gathered into one by a vocabulary learnt before.

Three kinds of local feature and two ways to gather them: how often each visual word occurs
(:class:`BagOfWords`), or how far the features lie from their words (:class:`VLAD`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA

from cbir_lib.errors import CbirError, check_integer, unknown_name_error
from cbir_lib.images.preprocessing import check_images

BLOCK_PX = 2**16  # pixels of the images that are looked at at a time: what caches hold
ROWS = 2**14  # local features compared with the vocabulary at a time
CELLS, ORIENTATIONS = 4, 8  # of a SIFT descriptor; orientations a power of two
# Of some images: how many, which of them each local feature is of, and the features.
Block = tuple[int, np.ndarray, np.ndarray]
SIGMA_PX = (1.6**2 - 0.5**2) ** 0.5  # what OpenCV smooths by at its lowest scale


class Vocabulary(TransformerMixin, BaseEstimator):
    """What the bag of words and VLAD share: local features, and words learnt from them.

    Parameters
    ----------
    features : str
        ``sift-dense``
            SIFT upright at one scale, at every point of a grid. 128 values.
        ``sift-keypoints``
            SIFT where OpenCV finds a key point, turned and scaled with it. 128 values. An image of
            64 x 64 has few of them, often 5 to 30, and a smooth or tiny one none.
        ``patches``
            Grey values of square patches at every point of a grid, reduced by PCA. ``components``
            values.
    words : int
        Number of visual words, 2 to 65536.
    step_px : int
        From one point of the grid to the next, 1 to 256 pixels. Not for key points.
    patch_px : int
        Side of a patch, or of the 4 x 4 cells of a dense SIFT, 4 to 256 pixels. Not for key points.
    components : int
        Principal components kept of a patch, 1 to 256, and at most ``patch_px`` ². For patches
        only. The baselines keep 40.
    sample : int
        Local features of the training images that the vocabulary is learnt from, drawn evenly;
        100 to 10 000 000.
    seed : int
        Of the sample and of the clustering, 0 to 2³² - 1.

    Attributes
    ----------
    vocabulary_ : (words, d) float32
        The words.
    mean_, axes_ : (patch_px²,) and (patch_px², components) float32
        Of the principal component analysis; for patches only.

    Notes
    -----
    The grid: points whose patch lies inside the image, every ``step_px``, in its middle. Where the
    image is narrower than a patch, the one point in its middle; a patch then continues the image by
    its border.

    SIFT is OpenCV's (Lowe 2004, DOI 10.1023/B:VISI.0000029664.99615.94), taken as RootSIFT: scaled
    to sum 1, then the root of each value (Arandjelovic, Zisserman 2012,
    DOI 10.1109/CVPR.2012.6248018). A flat region has the vector 0. The dense one is OpenCV's
    descriptor of an upright key point of size ``patch_px`` / 6, computed for whole batches by
    products of matrices: the weight of a pixel in a cell is one of its row times one of its column.
    Patches are grey values from 0 to 1 (Deselaers, Keysers, Ney 2005, DOI 10.1109/CVPR.2005.134).
    Words are centres of k-means in small batches (scikit-learn), with a fixed number of steps.

    Differs from the papers: the dense SIFT is smoothed as OpenCV smooths its lowest scale, whatever
    ``patch_px``; patches of one size, on a grid only, their words from k-means instead of Gaussian
    mixtures.
    """

    def __init__(
        self,
        features: str = "sift-dense",
        words: int = 512,
        step_px: int = 4,
        patch_px: int = 16,
        components: int = 40,
        sample: int = 50_000,
        seed: int = 0,
    ):
        self.features = features
        self.words = words
        self.step_px = step_px
        self.patch_px = patch_px
        self.components = components
        self.sample = sample
        self.seed = seed

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> Vocabulary:
        """Learn the words from (N, H, W) uint8 training images.

        Raises
        ------
        CbirError
            When a parameter is out of range, or the images have fewer different local features than
            there should be words.
        """
        self.check()
        return self._learn(self._describe_blocks(check_images(images)))

    @staticmethod
    def fit_transform_each(
        variants: Sequence[Vocabulary], train: np.ndarray, *others: np.ndarray
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Fit each variant on (N, H, W) uint8; yield its vectors of these and of other batches.

        Key points are looked for once, and kept: that takes longer than all else, and they are few.
        """
        splits = [check_images(images) for images in (train, *others)]
        found: dict[int, list[Block]] = {}

        def describe(variant: Vocabulary, place: int) -> Iterable[Block]:
            blocks = variant._describe_blocks(splits[place])
            if variant.features != "sift-keypoints":
                return blocks
            if place not in found:
                found[place] = [*blocks]
            return found[place]

        for variant in variants:
            variant.check()
            variant._learn(describe(variant, 0))
            yield tuple(
                variant._gather_blocks(len(images), describe(variant, place))
                for place, images in enumerate(splits)
            )

    def _learn(self, blocks: Iterable[Block]) -> Vocabulary:
        rng = np.random.default_rng(self.seed)
        # Of all local features those with the smallest random keys, so that few more are kept.
        kept, keys, threshold = [], [], 1.0
        for _, _, features in blocks:
            drawn = rng.random(len(features))
            kept.append(features[drawn < threshold])
            keys.append(drawn[drawn < threshold])
            if sum(map(len, keys)) > 2 * self.sample:
                kept, keys = select_smallest(kept, keys, self.sample)
                threshold = keys[0].max()
        kept = select_smallest(kept, keys, self.sample)[0][0]
        different = len({row.tobytes() for row in kept})
        if different < self.words:
            raise CbirError(
                f"words {self.words} is out of range: the training images have {different} "
                f"different local features ({self.features})",
                f"give 2 to {different} words, or more images"
                if different > 1
                else "give images that are not flat, or other features",
            )
        if self.features == "patches":
            # Fewer local features than components: the rest of the axes are 0.
            components = min(self.components, len(kept))
            pca = PCA(components, svd_solver="covariance_eigh").fit(kept.astype(np.float64))
            self.mean_ = pca.mean_.astype(np.float32)
            self.axes_ = np.zeros((kept.shape[1], self.components), np.float32)
            self.axes_[:, :components] = pca.components_.T
            kept = self._reduce(kept)
        # No early end: it would compare sums whose last bits depend on the threads.
        means = MiniBatchKMeans(
            self.words,
            batch_size=max(1024, 4 * self.words),
            max_iter=20,
            tol=0.0,
            max_no_improvement=None,
            n_init=1,
            random_state=self.seed,
        ).fit(kept)
        self.vocabulary_ = means.cluster_centers_.astype(np.float32)
        return self

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, D) float32.

        Raises
        ------
        CbirError
            When the images are no batch, or nothing has been fitted.
        """
        images = check_images(images)
        if not hasattr(self, "vocabulary_"):
            raise CbirError("the vocabulary has not been learnt", "call fit with training images")
        return self._gather_blocks(len(images), self._describe_blocks(images))

    def _gather_blocks(self, images: int, blocks: Iterable[Block]) -> np.ndarray:
        vectors, start = None, 0
        for count, owner, features in blocks:
            features = self._reduce(features) if self.features == "patches" else features
            word = assign_words(features, self.vocabulary_)
            part = self._gather(count, owner, features, word)
            if vectors is None:
                vectors = np.empty((images, part.shape[1]), np.float32)
            vectors[start : start + count] = part
            start += count
        return vectors

    def check(self) -> None:
        """Refuse parameters out of range."""
        if self.features not in FEATURES:
            raise unknown_name_error("features", self.features, FEATURES)
        check_integer("words", self.words, 2, 65536)
        check_integer("step_px", self.step_px, 1, 256)
        check_integer("patch_px", self.patch_px, 4, 256)
        check_integer("components", self.components, 1, min(256, self.patch_px**2))
        check_integer("sample", self.sample, 100, 10_000_000)
        check_integer("seed", self.seed, 0, 2**32 - 1)

    def _describe_blocks(self, images: np.ndarray) -> Iterator[Block]:
        block = max(1, BLOCK_PX // images[0].size)
        for start in range(0, len(images), block):
            part = images[start : start + block]
            yield len(part), *FEATURES[self.features](part, self.step_px, self.patch_px)

    def _reduce(self, patches: np.ndarray) -> np.ndarray:
        return (patches - self.mean_) @ self.axes_

    def _gather(
        self, count: int, owner: np.ndarray, features: np.ndarray, word: np.ndarray
    ) -> np.ndarray:
        """(count, D): one vector an image, of its local features and their words."""
        raise NotImplementedError


class BagOfWords(Vocabulary):
    """How often each visual word occurs (Sivic, Zisserman 2003; Deselaers, Keysers, Ney 2005).

    The parameters are :class:`Vocabulary`'s.

    Notes
    -----
    Each local feature counts for the one word nearest to it (L2). The vector has ``words`` values,
    0 or more, and sums to 1. An image without a local feature, which happens to key points only,
    gets 1 / ``words`` everywhere: nothing is known of its words. Distances are Jensen-Shannon's, as
    the baselines compare their histograms of patches: these are relative frequencies, and L2 would
    let the commonest words decide. DOI 10.1109/ICCV.2003.1238663, 10.1109/CVPR.2005.134.

    Differs from the papers: no weights by inverse document frequency, no list of stopped words.
    """

    distance = "Jensen-Shannon"

    def _gather(
        self, count: int, owner: np.ndarray, features: np.ndarray, word: np.ndarray
    ) -> np.ndarray:
        words = len(self.vocabulary_)
        counts = np.bincount(owner * words + word, minlength=count * words).reshape(count, words)
        sums = counts.sum(axis=1, keepdims=True)
        return np.where(sums > 0, counts / np.maximum(sums, 1), 1 / words).astype(np.float32)


class VLAD(Vocabulary):
    """Vector of locally aggregated descriptors (Jégou, Douze, Schmid, Pérez 2010).

    The parameters are :class:`Vocabulary`'s, with fewer ``words``: the paper takes 16 to 256.

    Notes
    -----
    Of each word the sum of its local features' differences from it, then of each value the signed
    root, then all scaled to an L2 norm of 1. The vector has ``words`` d values, word after word,
    from -1 to 1, with d = 128 for SIFT and ``components`` for patches. An image without a local
    feature, which happens to key points only, has all values equal, with a norm of 1: about as far
    from others as images without anything in common are, where a vector of 0 would be nearer to
    all. Distances are L2, which on vectors of norm 1 ranks as the cosine does.
    DOI 10.1109/CVPR.2010.5540039; the signed root is of Jégou et al. 2012,
    DOI 10.1109/TPAMI.2011.235.

    Differs from the papers: no PCA of the vector, no product quantisation.
    """

    distance = "L2"

    def __init__(
        self,
        features: str = "sift-dense",
        words: int = 32,
        step_px: int = 4,
        patch_px: int = 16,
        components: int = 40,
        sample: int = 50_000,
        seed: int = 0,
    ):
        super().__init__(features, words, step_px, patch_px, components, sample, seed)

    def _gather(
        self, count: int, owner: np.ndarray, features: np.ndarray, word: np.ndarray
    ) -> np.ndarray:
        words, length = self.vocabulary_.shape
        sums = torch.zeros(count * words, length)
        differences = torch.from_numpy(features - self.vocabulary_[word])
        sums.index_add_(0, torch.from_numpy(owner * words + word), differences)
        vectors = sums.reshape(count, -1).numpy()
        vectors = np.sign(vectors) * np.sqrt(np.abs(vectors))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        even = np.float32(1 / np.sqrt(words * length))
        return np.where(norms > 0, vectors / np.where(norms > 0, norms, 1), even)


def select_smallest(
    kept: list[np.ndarray], keys: list[np.ndarray], most: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Select the local features with the smallest keys, at most so many; also return their keys.

    Each a list of one array.
    """
    features, numbers = np.concatenate(kept), np.concatenate(keys)
    chosen = np.sort(np.argsort(numbers, kind="stable")[:most])
    return [features[chosen]], [numbers[chosen]]


def assign_words(features: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
    """Assign (M, d) features to the nearest (L2) of (words, d): (M,) int64, the first of equals."""
    words = torch.from_numpy(vocabulary)
    halves = words.square().sum(1) / 2
    parts = [
        (halves - rows @ words.T).argmin(1) for rows in torch.from_numpy(features).split(ROWS)
    ]  # an empty tensor splits into one empty part
    return torch.cat(parts).numpy()


def place_grid(length: int, patch_px: int, step_px: int) -> np.ndarray:
    """Place max(1, floor((length - patch_px) / step_px) + 1) patch centres along a side."""
    steps = max(0, length - patch_px) // step_px
    first = (length - steps * step_px) // 2
    return first + step_px * np.arange(steps + 1)


def repeat_owners(count: int, points: int) -> np.ndarray:
    """Return (count * points,): which image each feature is of, where all have as many."""
    return np.repeat(np.arange(count), points)


def cut_patches(images: np.ndarray, step_px: int, patch_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut (N, H, W) uint8 into patches: owners (M,), (M, patch_px²) float32 grey values 0 to 1."""
    rows, columns = (place_grid(side, patch_px, step_px) for side in images.shape[1:])
    # A patch reaches patch_px // 2 before its centre.
    before = patch_px // 2
    margins = [
        (max(0, before - points[0]), max(0, points[-1] - before + patch_px - side))
        for points, side in zip((rows, columns), images.shape[1:], strict=True)
    ]
    padded = np.pad(images, [(0, 0), *margins], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (patch_px, patch_px), axis=(1, 2))
    top, left = (
        points - before + margin[0] for points, margin in zip((rows, columns), margins, strict=True)
    )
    patches = windows[:, top[:, None], left]  # (N, rows, columns, patch_px, patch_px)
    patches = patches.reshape(-1, patch_px**2) / np.float32(255)
    return repeat_owners(len(images), len(rows) * len(columns)), patches


def describe_keypoints(
    images: np.ndarray, step_px: int, patch_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Describe key points: (N, H, W) uint8 to owners (M,) and RootSIFT (M, 128) float32.

    OpenCV takes one image at a time, and shares its work among threads.
    """
    sift = cv2.SIFT_create()
    per_image = [sift.detectAndCompute(np.ascontiguousarray(image), None)[1] for image in images]
    owner = np.repeat(np.arange(len(images)), [0 if f is None else len(f) for f in per_image])
    none = np.empty((0, CELLS**2 * ORIENTATIONS), np.float32)
    return owner, take_roots(np.concatenate([none, *(f for f in per_image if f is not None)]))


def describe_densely(
    images: np.ndarray, step_px: int, patch_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Describe a grid: (N, H, W) uint8 to owners (M,) and RootSIFT (M, 128) float32."""
    rows, columns = (place_grid(side, patch_px, step_px) for side in images.shape[1:])
    bins = describe_upright(images, rows, columns, patch_px)
    return repeat_owners(len(images), len(rows) * len(columns)), take_roots(bins.reshape(-1, 128))


@torch.inference_mode()
def describe_upright(
    images: np.ndarray, rows: np.ndarray, columns: np.ndarray, patch_px: int
) -> np.ndarray:
    """Compute OpenCV's SIFT of upright key points of size patch_px / 6 at a grid's points.

    Parameters
    ----------
    images : (N, H, W) uint8
    rows, columns : (R,) and (C,) int
        Coordinates of the grid's points, in pixels.
    patch_px : int
        Side of the 4 x 4 cells.

    Returns
    -------
    (N, R, C, 128) float32
        Whole numbers 0 to 255: index ``[image, row, column, (4 cell row + cell column) 8 +
        orientation]``.
    """
    count, height, width = images.shape
    smooth = np.empty(images.shape, np.float32)
    for image, target in zip(images, smooth, strict=True):
        cv2.GaussianBlur(image.astype(np.float32), (0, 0), SIGMA_PX, dst=target)
    grey = torch.from_numpy(smooth)
    dx, dy = torch.zeros_like(grey), torch.zeros_like(grey)
    dx[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    dy[:, 1:-1] = grey[:, :-2] - grey[:, 2:]  # up
    magnitude = torch.hypot(dx, dy)
    turn = torch.atan2(dy, dx).mul_(ORIENTATIONS / (2 * np.pi))
    # Each pixel's magnitude, shared between the two orientations next to its own.
    low = turn.floor()
    share = magnitude * (turn - low)
    low = low.long()[:, None]
    maps = torch.zeros(count, ORIENTATIONS, height, width)
    maps.scatter_(1, low & (ORIENTATIONS - 1), (magnitude - share)[:, None])
    maps.scatter_(1, (low + 1) & (ORIENTATIONS - 1), share[:, None])
    # (N, 8, 4 R, 4 C): first over columns, then over rows.
    across, down = weigh_cells(columns, width, patch_px), weigh_cells(rows, height, patch_px)
    sums = down @ (maps @ across.T)
    sums = sums.reshape(count, ORIENTATIONS, len(rows), CELLS, len(columns), CELLS)
    bins = sums.permute(0, 2, 4, 3, 5, 1).reshape(count, len(rows), len(columns), -1)
    bins = torch.minimum(bins, 0.2 * bins.norm(dim=-1, keepdim=True))
    bins *= 512 / bins.norm(dim=-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).eps)
    return bins.round_().clamp_(max=255).numpy()


def weigh_cells(points: np.ndarray, length: int, patch_px: int) -> torch.Tensor:
    """Weigh each pixel along a side in each cell of (P,) points: (4 P, length) float32.

    Linear between the centres of cells, times a Gaussian of two cells around the point; the border
    has no gradient.
    """
    cells = (np.arange(length) - points[:, None]) * CELLS / patch_px  # (P, length), from the point
    centres = np.arange(CELLS)[:, None] - (CELLS - 1) / 2
    weights = np.maximum(0, 1 - np.abs(cells[:, None] - centres)) * np.exp(-(cells**2) / 8)[:, None]
    weights[..., [0, -1]] = 0
    return torch.from_numpy(weights.reshape(-1, length).astype(np.float32))


def take_roots(histograms: np.ndarray) -> np.ndarray:
    """Take square roots of (M, 128) SIFT: (M, 128) float32 of norm 1, or 0 where all are 0."""
    return np.sqrt(histograms / np.maximum(histograms.sum(axis=1, keepdims=True), 1))


FEATURES = {
    "sift-dense": describe_densely,
    "sift-keypoints": describe_keypoints,
    "patches": cut_patches,
}
