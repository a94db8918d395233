"""A fitted descriptor in a file: its name, its settings, and the arrays it has learnt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cbir_lib.descriptors import Descriptor, build_descriptor
from cbir_lib.errors import CbirError
from cbir_lib.files import replacing


def collect_learnt(descriptor: Descriptor) -> dict[str, np.ndarray]:
    """Collect what ``fit`` has learnt, by name: the attributes ``..._``."""
    return {
        key: np.ascontiguousarray(value)
        for key, value in vars(descriptor).items()
        if key.endswith("_") and isinstance(value, np.ndarray)
    }


def save_descriptor(path: Path | str, name: str, descriptor: Descriptor) -> None:
    """Write a descriptor as safetensors: its settings, and what ``fit`` has learnt."""
    settings = {"descriptor": name, "parameters": json.dumps(descriptor.get_params())}
    with replacing(path) as part:
        part.write_bytes(
            save(collect_learnt(descriptor), settings)
        )  # save_file hides it from others


def load_descriptor(path: Path | str) -> Descriptor:
    """Read a descriptor that :func:`save_descriptor` wrote; nothing in the file is executed.

    Raises
    ------
    CbirError
        When it is missing or damaged, or names an unknown descriptor.
    """
    try:
        with safe_open(path, "numpy") as file:
            settings = file.metadata() or {}
            descriptor = build_descriptor(
                settings["descriptor"], **json.loads(settings["parameters"])
            )
            for key in file.keys():  # noqa: SIM118 - no mapping
                setattr(descriptor, key, file.get_tensor(key))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CbirError(
            f"{path} is not a descriptor's file: {type(error).__name__}", "run the study again"
        ) from error
    return descriptor
