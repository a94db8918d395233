"""Features of a vision model that somebody published on Hugging Face, by its name.

Nothing is downloaded here: the model has to be in the local cache, or in a folder. Only safetensors
are read, and no code that comes with a model is executed.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor, nn

from cbir_lib.descriptors.blocks import choose_device
from cbir_lib.descriptors.pretrained import POOLINGS
from cbir_lib.errors import CbirError, first_line, unknown_name_error
from cbir_lib.images.preprocessing import Preprocessing, check_images
from cbir_lib.networks.precision import check_precision, resolve_precision

BATCH, BATCH_GPU = 8, 128
CLASS_TOKEN = "class-token"
# Types of models whose first token stands for the whole image; others have only places.
WITH_CLASS_TOKEN = {
    *("vit", "deit", "beit", "dinov2", "dinov2_with_registers", "dinov3_vit", "vit_mae"),
    *("clip_vision_model", "vit_msn"),
}
INSTALL = "pip install '.[hub]' in this repository"


class Loaded(NamedTuple):
    """A model on its device, and how it wants images."""

    model: nn.Module
    side_px: int
    mean: tuple[float, ...]  # of each colour, of values from 0 to 1
    deviation: tuple[float, ...]
    fingerprint: np.ndarray  # (32,) float32, the bytes of the SHA-256 of the weights


class HubFeatures(TransformerMixin, BaseEstimator):
    """The last layer of a vision model of Hugging Face.

    Parameters
    ----------
    model : str
        ``owner/name``, or a folder.
    pooling : str
        ``class-token``, the token that stands for the whole image, where the model has one; or of
        the tokens or places of the image the ``average``, ``generalised-mean`` or ``maximum``.
    precision : str
        ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the processor has it.

    Notes
    -----
    ``fit`` learns nothing but a fingerprint of the weights, so that vectors of an archive and of a
    query come from the same. Images are brought to the model's own size, without keeping the aspect
    ratio; grey values stand for all three colours.
    """

    distance = "cosine"

    def __init__(self, model: str = "", pooling: str = CLASS_TOKEN, precision: str = "auto"):
        self.model = model
        self.pooling = pooling
        self.precision = precision

    def check(self) -> None:
        """Refuse parameters out of range."""
        if self.pooling not in (poolings := (CLASS_TOKEN, *POOLINGS)):
            raise unknown_name_error("pooling", self.pooling, poolings)
        check_precision(self.precision)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None) -> HubFeatures:
        """Check the parameters and remember which weights these are.

        Raises
        ------
        CbirError
            When a parameter is out of range, `transformers` is not installed, or the model is not
            on this machine, not of images, or not in safetensors.
        """
        self.fingerprint_ = self._load().fingerprint
        return self

    @torch.inference_mode()
    def transform(self, images: np.ndarray) -> np.ndarray:
        """Describe (N, H, W) uint8 as (N, D) float32."""
        images, loaded = check_images(images), self._load()
        if not hasattr(self, "fingerprint_"):
            raise CbirError("the model has not been looked at", "call fit first")
        if not np.array_equal(self.fingerprint_, loaded.fingerprint):
            raise CbirError(
                f"{self.model} has other weights than before", "fetch those again, or start anew"
            )
        device, square = choose_device(), Preprocessing(loaded.side_px, clahe=False)
        shape = 1, -1, 1, 1
        mean, deviation = (
            torch.tensor(values, device=device).reshape(shape)
            for values in (loaded.mean, loaded.deviation)
        )
        step, vectors = BATCH_GPU if device.type == "cuda" else BATCH, []
        for start in range(0, len(images), step):
            grey = torch.from_numpy(square.transform(images[start : start + step]))[:, None]
            colour = (grey.to(device) / 255 - mean) / deviation
            last = loaded.model(colour.to(loaded.model.dtype)).last_hidden_state.float()
            vectors.append(self._pool(last, loaded.model.config).cpu())
        return torch.cat(vectors).numpy()

    def _load(self) -> Loaded:
        self.check()
        device = choose_device()
        return load_model(
            self.model, device, resolve_precision(self.precision, device.type == "cuda")
        )

    def _pool(self, last: Tensor, config) -> Tensor:
        """Pool what the model gives, (N, tokens, C) or (N, C, h, w), to (N, C)."""
        first = config.model_type in WITH_CLASS_TOKEN
        if self.pooling == CLASS_TOKEN:
            if last.ndim != 3 or not first:
                raise CbirError(
                    f"{self.model} is not known to have a class token",
                    f"give another pooling: {', '.join(POOLINGS)}",
                )
            return last[:, 0]
        if last.ndim == 3:
            others = getattr(config, "num_register_tokens", 0) + 1 if first else 0
            last = last[:, others:].transpose(1, 2)[..., None]  # (N, C, tokens, 1)
        return POOLINGS[self.pooling](last)


@cache
def load_model(name: str, device: torch.device, precision: str) -> Loaded:
    """Load a model of images from the local cache or a folder.

    Raises
    ------
    CbirError
        When `transformers` is not installed, or the model is missing, not of images, incomplete,
        or not in safetensors.
    """
    try:
        from transformers import AutoModel
        from transformers.utils import cached_file, logging
    except ImportError as error:
        raise CbirError("models of Hugging Face need transformers", INSTALL) from error
    if not name:
        raise CbirError("no model is named", "give its name: hf:owner/name")
    fetch = f"fetch it, where there is a network: hf download {name}"
    known = {"local_files_only": True}
    logging.set_verbosity_error()  # what is missing is an error here, with two lines
    logging.disable_progress_bar()
    try:
        described = json.loads(
            Path(cached_file(name, "preprocessor_config.json", **known)).read_text()
        )
        side = _read_side(described)
        mean, deviation = (tuple(map(float, described[f"image_{k}"])) for k in ("mean", "std"))
        model, how = AutoModel.from_pretrained(
            name,
            **known,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ImportError) as error:
        raise CbirError(f"cannot load {name}: {first_line(error)}", fetch) from error
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        SafetensorError,
    ) as error:
        raise CbirError(
            f"cannot load {name}: {first_line(error)}",
            "it has to be a model of images that transformers knows, without code of its own",
        ) from error
    model = getattr(model, "vision_model", model)
    if model.main_input_name != "pixel_values":
        raise CbirError(f"{name} is not a model of images", "name one that is")
    lacking = [key for key in how["missing_keys"] if "pooler" not in key]
    if lacking:
        raise CbirError(
            f"{name} has no weights for {sorted(lacking)[0]}, of {len(lacking)} that are missing",
            "name a model that is complete",
        )
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if "pooler" in key:  # not used here, and made up where a model has none
            continue
        digest.update(f"{key} {tuple(value.shape)} ".encode() + value.float().numpy().tobytes())
    fingerprint = np.frombuffer(digest.digest(), np.uint8).astype(np.float32)
    model = model.eval().requires_grad_(False).to(device, getattr(torch, precision))
    return Loaded(model, side, mean, deviation, fingerprint)


def _read_side(described: dict) -> int:
    """The side of the square that a model wants, in pixels, from its preprocessor's settings."""
    for key in ("crop_size", "size"):
        size = described.get(key)
        if isinstance(size, dict):
            size = size.get("height") or size.get("shortest_edge")
        if size:
            return int(size)
    raise ValueError("its preprocessor names no size")
