"""Visual words in their places: which word each point of an image has, and what words look like."""

from __future__ import annotations

import numpy as np

from cbir_lib.descriptors import local
from cbir_lib.images.preprocessing import check_images


def spell(method: local.Vocabulary, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the visual word at each point of a grid, and how far the feature there is from it.

    Parameters
    ----------
    method
        A fitted bag of words or VLAD with features ``sift-dense``.
    images : (N, S, S) uint8
        As the descriptor gets them.

    Returns
    -------
    words : (N, P, P) int64
        At the points of :func:`cbir_lib.descriptors.local.place_grid`.
    distances : (N, P, P) float32
        L2, from the SIFT vector to its word.
    """
    images = check_images(images)
    side = len(local.place_grid(images.shape[1], method.patch_px, method.step_px))
    _, features = local.describe_densely(images, method.step_px, method.patch_px)
    words = local.assign_words(features, method.vocabulary_)
    distances = np.linalg.norm(features - method.vocabulary_[words], axis=1)
    return words.reshape(-1, side, side), distances.reshape(-1, side, side)


def average_patches(method: local.Vocabulary, images: np.ndarray) -> np.ndarray:
    """Return what each word looks like: the mean of its patches, each less its own mean.

    Returns
    -------
    (words, patch_px, patch_px) float32
        Grey values of -1 to 1; NaN for a word that no point of the images has.
    """
    words = spell(method, images)[0].ravel()
    _, patches = local.cut_patches(check_images(images), method.step_px, method.patch_px)
    patches = patches - patches.mean(axis=1, keepdims=True)
    looks = np.full((method.words, patches.shape[1]), np.nan, np.float32)
    for word in np.unique(words):
        looks[word] = patches[words == word].mean(axis=0)
    return looks.reshape(method.words, method.patch_px, method.patch_px)


def colour_words(method: local.Vocabulary) -> np.ndarray:
    """Return a colour for each word, like words alike: (words, 3), red, green and blue, 0 to 1.

    The ranks of the words along the first three principal components of the vocabulary.
    """
    centred = method.vocabulary_ - method.vocabulary_.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
    return (centred @ axes.T).argsort(axis=0).argsort(axis=0) / method.words
