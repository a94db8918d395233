"""Checked plain data: what the study file and the result files are made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError


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
