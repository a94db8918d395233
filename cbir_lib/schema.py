"""Validated plain data, of which the study file and the result files are made."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cbir_lib.errors import CbirError
from cbir_lib.files import replacing

CHECKSUM = "sha256"  # the last key of a file
LARGEST_FILE = 2**26  # bytes; parsed, a file takes about ten times as much
NUMBERS = re.compile(r'\[\n[^][{}"]+\]')  # a list of numbers in an indented JSON text

Model = TypeVar("Model", bound="StrictModel")


class StrictModel(BaseModel):
    """Base of frozen data models: an unknown key or a wrong type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def describe_first_error(error: ValidationError) -> str:
    """Describe the first validation error in one line: where, and what.

    An unknown key comes first: it is often the misspelt name of one that is then missing.
    """
    faults = error.errors()
    fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
    where = ".".join(str(part)[:80] for part in fault["loc"]) or "the file"
    if fault["type"] == "extra_forbidden":
        place, name = fault["loc"][:-1], str(fault["loc"][-1])
        missing = [
            str(one["loc"][-1])
            for one in faults
            if one["type"] == "missing" and one["loc"][:-1] == place
        ]
        meant = difflib.get_close_matches(name[:80], missing, n=1)
        return f"{where}: unknown key" + (f"; did you mean {meant[0]!r}?" if meant else "")
    if fault["type"] == "json_invalid" or isinstance(fault["input"], dict | list):
        return f"{where}: {fault['msg']}"
    try:
        shown = f"{fault['input']!r:.80}"
    except ValueError:  # a number of thousands of digits
        shown = "a number that is too long to show"
    text = isinstance(fault["input"], str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", fault["input"])
    hint = ", which YAML reads as text: write it with a point, as 1.0e-3" if text else ""
    return f"{where}: {fault['msg']}, got {shown}{hint}"


def write_json(path: Path | str, data: StrictModel, one_line: re.Pattern[str] = NUMBERS) -> None:
    """Validate data and write it as indented JSON; what ``one_line`` matches becomes one line.

    The last key is a SHA-256 of all others, which :func:`read_json` compares.
    """
    checked = type(data).model_validate_json(data.model_dump_json())
    text = checked.model_dump_json(indent=1)
    checksum = compute_json_checksum(json.loads(text))
    text = one_line.sub(lambda match: re.sub(r"\n\s*", " ", match[0]), text)
    text = f'{text.removesuffix("}").rstrip()},\n "{CHECKSUM}": "{checksum}"\n}}'
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_json(
    path: Path | str,
    schema: type[Model],
    complaint: str,
    missing_hint: str,
    invalid_hint: str | None = None,
) -> Model:
    """Read what :func:`write_json` wrote.

    Parameters
    ----------
    complaint
        What the error says of any other file: ``not a result file``.
    missing_hint, invalid_hint
        How to create the file when it is missing, and when it is invalid (by default the same).

    Raises
    ------
    CbirError
        When the file is missing, is not JSON, or does not match the schema.
    """
    invalid_hint = invalid_hint or missing_hint
    try:
        with Path(path).open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise ValueError(f"more than {LARGEST_FILE:,} bytes")
        data = json.loads(text)
        if isinstance(data, dict) and CHECKSUM in data:
            if data.pop(CHECKSUM) != compute_json_checksum(data):
                raise ValueError("damaged, its checksum differs")
            text = json.dumps(data)
        return schema.model_validate_json(text)
    except OSError as error:
        raise CbirError(f"cannot read {path}: {error.strerror}", missing_hint) from error
    except ValidationError as error:
        fault = describe_first_error(error)
        raise CbirError(f"{path} is {complaint}: {fault}", invalid_hint) from error
    except (ValueError, RecursionError, MemoryError) as error:
        fault = str(error) or type(error).__name__
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
            fault = f"Invalid JSON: {fault}"
        raise CbirError(f"{path} is {complaint}: {fault}", invalid_hint) from error


def compute_json_checksum(data: Mapping) -> str:
    """Compute the SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
