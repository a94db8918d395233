"""Arrays in a safetensors file, with their description and a checksum that is compared on reading.

The description is one entry of the file's metadata: a SHA-256, then JSON. (safetensors writes
several entries in varying order; with one, the same content gives the same bytes.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cbir_lib.errors import CbirError, choose_hint, find_reason
from cbir_lib.files import replacing

ENTRY = "description"
DIGITS = 64  # of a SHA-256, hexadecimal


@contextmanager
def opening(path: Path | str) -> Iterator[safe_open]:
    """Open a safetensors file to read NumPy arrays from.

    safetensors calls every refusal of the system "no such file": the error here is the system's.
    """
    with Path(path).open("rb"):
        pass
    with safe_open(path, "numpy") as file:
        yield file


def write_tensors(
    path: Path | str, arrays: Mapping[str, np.ndarray], described: Mapping[str, str]
) -> None:
    """Write arrays and their description to one file."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps(dict(described), sort_keys=True)
    with replacing(path) as part:  # bytes, because safetensors' own files are hidden from others
        part.write_bytes(save(arrays, {ENTRY: compute_array_checksum(text, arrays) + text}))


def read_tensors(
    path: Path | str, kind: str, hint: str, unsummed: Collection[str] = ()
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read what :func:`write_tensors` wrote: the arrays, and their description.

    Nothing in the file is executed; names, types and shapes are the file's own, to be checked by
    the caller. A SHA-256 is no signature: anyone who rewrites a file can write its sum, too.

    Parameters
    ----------
    kind
        What the file is to be, for the error: "network".
    hint
        How to make the file again, for the error.
    unsummed
        The metadata keys of files from before there were checksums, if such files are still read.

    Raises
    ------
    CbirError
        When the file is missing, damaged, or of another kind.
    """
    try:
        with opening(path) as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if unsummed and metadata.keys() == set(unsummed):
            return arrays, metadata
        if metadata.keys() != {ENTRY}:
            raise CbirError(f"{path} is not a {kind} of this library", hint)
        known, text = metadata[ENTRY][:DIGITS], metadata[ENTRY][DIGITS:]
        if known != compute_array_checksum(text, arrays):
            raise CbirError(f"{path} is damaged: its checksum differs", hint)
        described = json.loads(text)
        if not isinstance(described, dict) or not all(
            isinstance(value, str) for value in described.values()
        ):
            raise ValueError("its description is not text by name")
    except MemoryError as error:
        raise CbirError(
            f"cannot read the {kind} {path}: too little memory", "close other programs"
        ) from error
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = find_reason(error)
        raise CbirError(
            f"cannot read the {kind} {path}: {reason}", choose_hint(error, hint)
        ) from error
    return arrays, described


def compute_array_checksum(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Compute the SHA-256 of a text and of arrays: their names, types, shapes and values."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        if array.size:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
