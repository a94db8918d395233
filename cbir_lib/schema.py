"""Validated plain data, of which the study file and the result files are made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cbir_lib.errors import CbirError
from cbir_lib.files import replacing

NUMBERS = re.compile(r'\[\n[^][{}"]+\]')  # a list of numbers in an indented JSON text

Model = TypeVar("Model", bound="StrictModel")


class StrictModel(BaseModel):
    """Base of frozen data models: an unknown key or a wrong type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def describe_first_error(error: ValidationError) -> str:
    """Describe the first validation error in one line: where, and what."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"]) or "the file"
    whole = fault["type"] == "json_invalid" or isinstance(fault["input"], dict | list)
    given = "" if whole else f", got {fault['input']!r}"
    return f"{where}: {fault['msg']}{given}"


def write_json(path: Path | str, data: StrictModel, one_line: re.Pattern[str] = NUMBERS) -> None:
    """Validate data and write it as indented JSON; what ``one_line`` matches becomes one line."""
    checked = type(data).model_validate_json(data.model_dump_json())
    text = checked.model_dump_json(indent=1)
    text = one_line.sub(lambda match: re.sub(r"\n\s*", " ", match[0]), text)
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
    try:
        return schema.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise CbirError(f"cannot read {path}: {error.strerror}", missing_hint) from error
    except ValidationError as error:
        raise CbirError(
            f"{path} is {complaint}: {describe_first_error(error)}", invalid_hint or missing_hint
        ) from error
