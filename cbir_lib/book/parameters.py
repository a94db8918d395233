"""Generate the parameter cells of the run notebooks from the models of the runs.

``python -m cbir_lib.book.parameters`` rewrites, in every ``notebooks/run_*.md``, the cell that sets
the parameters (those of an example of profile ``quick``) and the call that creates the run.
It writes each value on one line; wrap the long ones as the formatter does.
"""

from __future__ import annotations

import json
import re

from cbir_lib import paths
from cbir_lib.files import replacing
from cbir_lib.study.config import Run, read_study

EXAMPLES = ("phantom-C-s0", "phantom-grey-histogram", "phantom-combination")
LAB = "build/lab"  # where a notebook executed by hand writes


def list_examples() -> list[Run]:
    """Return the example run of each notebook."""
    study = read_study(paths.study_file())
    runs = {run.id: run for run in study.runs("quick")}
    return [*(runs[name] for name in EXAMPLES), *study.effects("quick")]


def list_extra_parameters(run: Run) -> list[str]:
    """Return the names of the other parameters: where to write, and where other runs are."""
    return ["folder", "work"] if run.reads_other_runs else ["folder"]


def generate_parameters(run: Run) -> str:
    """Return the code of the cell tagged ``parameters``."""
    names = [*type(run).model_fields, *list_extra_parameters(run)]
    values = dict(run) | {"folder": LAB, "work": "build/quick"}
    return "\n".join(f"{name} = {_format_literal(values[name])}" for name in names)


def generate_run(run: Run) -> str:
    """Return the call that creates the run from the parameters."""
    kind = type(run)
    arguments = "".join(f"    {name}={name},\n" for name in kind.model_fields)
    return f"run = {kind.__name__}(\n{arguments})"


def _format_literal(value: object) -> str:
    """Return a value as Python source, with double quotes as in formatted code."""
    text = json.dumps(value)
    return re.sub(r"\b(true|false|null)\b(?=[,\]}]|$)", lambda m: _WORDS[m[0]], text)


_WORDS = {"true": "True", "false": "False", "null": "None"}


def rewrite() -> None:
    """Rewrite the parameters of every run notebook."""
    for run in list_examples():
        source = paths.notebook_source(run.notebook)
        text = source.read_text(encoding="utf-8")
        text = re.sub(
            r"(:tags: \[parameters, remove-cell\]\n\n).*?(?=^```$)",
            lambda match, run=run: match[1] + generate_parameters(run) + "\n",
            text,
            count=1,
            flags=re.M | re.S,
        )
        made = re.compile(rf"^run = {type(run).__name__}\([^)]*\)$", re.M)
        text = made.sub(lambda match, run=run: generate_run(run), text, count=1)
        with replacing(source) as part:
            part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    rewrite()
