"""A fitted descriptor in a file: its name, its settings, and the arrays it has learnt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cbir_lib.descriptors import Descriptor, build_descriptor
from cbir_lib.errors import CbirError
from cbir_lib.tensors import read_tensors, write_tensors

AGAIN = "run the study again"
DESCRIBED = ("descriptor", "parameters")


def collect_learnt(descriptor: Descriptor) -> dict[str, np.ndarray]:
    """Collect what ``fit`` has learnt, by name: the attributes ``..._``."""
    return {
        key: np.ascontiguousarray(value)
        for key, value in vars(descriptor).items()
        if key.endswith("_") and isinstance(value, np.ndarray)
    }


def save_descriptor(path: Path | str, name: str, descriptor: Descriptor) -> None:
    """Write a descriptor as safetensors: its settings, and what ``fit`` has learnt."""
    parameters = json.dumps(descriptor.get_params(), default=np.generic.item)  # some are NumPy's
    settings = {"descriptor": name, "parameters": parameters}
    write_tensors(path, collect_learnt(descriptor), settings)


def load_descriptor(path: Path | str, summed: bool = True) -> Descriptor:
    """Read a descriptor that :func:`save_descriptor` wrote; nothing in the file is executed.

    Parameters
    ----------
    summed
        Refuse a file from before there were checksums; the caller can compare an identity instead.

    Raises
    ------
    CbirError
        When it is missing or damaged, names an unknown descriptor or parameter, or has arrays other
        than those that a descriptor learns.
    """
    arrays, described = read_tensors(
        path, "descriptor", AGAIN, unsummed=() if summed else DESCRIBED
    )
    try:
        descriptor = build_descriptor(
            described["descriptor"], **json.loads(described["parameters"])
        )
        for name, array in arrays.items():
            # Only learnt arrays are named like this; a file may not set anything else.
            if not name.isidentifier() or name.startswith("_") or not name.endswith("_"):
                raise ValueError(f"{name!r} is not a learnt array")
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite float32")
            setattr(descriptor, name, array)
    except CbirError as error:
        raise CbirError(
            f"{path} is not a descriptor of this library: {error.what}", AGAIN
        ) from error
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CbirError(f"{path} is not a descriptor of this library: {error}", AGAIN) from error
    return descriptor
