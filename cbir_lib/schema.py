"""Checked plain data: what the study file and the result files are made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cbir_lib.errors import CbirError
from cbir_lib.files import replacing

NUMBERS = re.compile(r'\[\n[^][{}"]+\]')  # a list of numbers in an indented JSON text

Model = TypeVar("Model", bound="Strict")


class Strict(BaseModel):
    """Frozen data: an unknown key or a wrong type is an error, nothing is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def first_fault(error: ValidationError) -> str:
    """Where the first fault is and what it is, in one line."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"]) or "the file"
    whole = fault["type"] == "json_invalid" or isinstance(fault["input"], dict | list)
    given = "" if whole else f", got {fault['input']!r}"
    return f"{where}: {fault['msg']}{given}"


def write_json(path: Path | str, data: Strict, one_line: re.Pattern[str] = NUMBERS) -> None:
    """Write data as indented JSON, checked against its schema; what ``one_line`` matches in one."""
    checked = type(data).model_validate_json(data.model_dump_json())
    text = checked.model_dump_json(indent=1)
    text = one_line.sub(lambda match: re.sub(r"\n\s*", " ", match[0]), text)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_json(
    path: Path | str, schema: type[Model], other: str, make: str, again: str | None = None
) -> Model:
    """Read what :func:`write_json` wrote.

    Parameters
    ----------
    other
        What anything else is, for the error: ``not a result file``.
    make, again
        How to make it where it is missing, and where it is something else.

    Raises
    ------
    CbirError
        When it is missing, no JSON, or does not fit the schema.
    """
    try:
        return schema.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise CbirError(f"cannot read {path}: {error.strerror}", make) from error
    except ValidationError as error:
        raise CbirError(f"{path} is {other}: {first_fault(error)}", again or make) from error
