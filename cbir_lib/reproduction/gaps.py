"""The differences between two results of the same run, number by number."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from cbir_lib.study.config import CombinationRun, DescriptorRun, NetworkRun
from cbir_lib.study.results import Data, Result

CURVES = (  # epochs whose values are judged
    *(("first", "train_loss"), ("last", "train_loss")),
    *(("last", "validation_loss"), ("last", "validation_accuracy")),
)
COUNTED = (
    "answers",
    "retrieval.average_precisions",
)  # reported as the number of values that differ
POOLED = {  # kinds of number that are pooled for networks, which have few reruns
    r"(rules|training)\..*accuracy": "rules.accuracy",  # of any rule, also balanced and validation
    r"rules\..*settings": "rules.settings",
    r"retrieval\.precision_at_": "retrieval.precision",
    r"retrieval\.(.*mean_average|r)_precision": "retrieval.mean_average_precision",
}
TERMS = {"mean_average_precision": "mAP", "ndcg_at_": "nDCG@", "train_loss": "training loss"}
FOLLOWS = re.compile(r"^recall_at_|_by_chance$")  # derived from the precisions or the labels


@dataclass(frozen=True)
class Gap:
    """A number in two results of the same run."""

    path: str  # in the result file
    published: float | str
    now: float | str | None
    difference: float | None


def classify_number(key: str, trained: bool = False) -> str:
    """Return the kind of a number; numbers of a kind share a tolerance."""
    for pattern, kind in POOLED.items() if trained else ():
        if re.match(pattern, key):
            return kind
    return re.sub(r"^(candidates|distances)\.[^.]+(?=\.)", r"\1", key)


def label_number(key: str) -> str:
    """Return the name of a number for tables: ``accuracy, nearest neighbour``."""
    first, *rest = key.split(".")
    last, *before = (_spell_out(part) for part in reversed(rest or [first]))
    if first == "answers":
        return "images with a different prediction"
    if first == "retrieval":
        return "queries, mean change" if last == "average precisions" else last
    if first == "settings":
        return "settings chosen"
    if first in ("data", "parameters"):
        return f"data: {last}" if rest else first
    if first == "training":
        return "epoch kept" if last == "best epoch" else f"{before[0]}, {last} epoch"
    if first in ("candidates", "distances"):
        return f"{last}, {first[:-1]} {rest[0]}"
    return f"{last}, {before[0]}" if before else last


def _spell_out(name: str) -> str:
    for field, term in TERMS.items():
        name = name.replace(field, term)
    return name.replace("_", " ")


def compare_results(published: Result, now: Result) -> dict[str, Gap]:
    """Return every number that is compared on its own, by key; first those that must be equal."""
    gaps: dict[str, Gap] = {}

    def put(key: str, path: str, old, new, gap=None) -> None:
        if old is not None:
            gaps[key] = Gap(path, old, new, None if new is None else gap(old, new))

    for name in Data.model_fields:
        old, new = (getattr(r.data, name) for r in (published, now))
        if old is not None:
            put(f"data.{name}", f"data.{name}", _format_value(old), _format_value(new), _differ)
    old, new = (_fill_defaults(r.parameters) for r in (published, now))
    put("parameters", "parameters", *_format_choice(old, new), _differ)
    put("settings", "settings", *_format_choice(published.settings, now.settings), _differ)
    answered = [np.array(r.answers) for r in (published, now)]
    gaps["answers"] = _count("answers", *answered, "images", lambda a, b: (a != b).mean())
    rules = {rule.rule: rule.model_dump() for rule in now.rules}
    for number, rule in enumerate(published.rules):
        same_rule = rules.get(rule.rule, {})
        chosen = _format_choice(rule.settings, same_rule.get("settings"))
        for name, value in _list_numbers(rule.model_dump()):
            if chosen[0] == chosen[1] or not same_rule:  # with other settings, it is another rule
                key = f"rules.{rule.rule}.{name}"
                put(key, f"rules.{number}.{name}", value, same_rule.get(name), _subtract)
        put(f"rules.{rule.rule}.settings", f"rules.{number}.settings", *chosen, _differ)
    ranked = now.retrieval.model_dump()
    for name, value in _list_numbers(published.retrieval.model_dump()):
        put(f"retrieval.{name}", f"retrieval.{name}", value, ranked.get(name), _subtract)
    precisions = [np.array(r.retrieval.average_precisions, float) for r in (published, now)]
    key = "retrieval.average_precisions"
    gaps[key] = _count(key, *precisions, "queries", _compute_mean_change)
    if published.training:
        curves = now.training.model_dump() if now.training else {}
        for which, name in CURVES:
            values, new = getattr(published.training, name), curves.get(name, [None])
            epoch, now_epoch = (0, 0) if which == "first" else (len(values) - 1, len(new) - 1)
            path = f"training.{name}.{epoch}"
            put(f"training.{name}.{which}", path, values[epoch], new[now_epoch], _subtract)
        epochs = float(published.training.best_epoch), curves.get("best_epoch")
        put("training.best_epoch", "training.best_epoch", *map(_to_float, epochs), _subtract)
    for table in ("candidates", "distances"):
        tried = [getattr(r, table) for r in (published, now)]
        for number, old in enumerate(tried[0]):
            new = tried[1][number].model_dump() if number < len(tried[1]) else {}
            name = str(number + 1) if table == "candidates" else old.distance
            for field, value in _list_numbers(old.model_dump()):
                path = f"{table}.{number}.{field}"
                put(f"{table}.{name}.{field}", path, value, new.get(field), _subtract)
    return gaps


def _list_numbers(values: Mapping[str, object]) -> list[tuple[str, float]]:
    return [
        (name, value)
        for name, value in values.items()
        if isinstance(value, float) and not FOLLOWS.search(name)
    ]


def _to_float(value) -> float | None:
    return None if value is None else float(value)


def _subtract(old: float, new: float) -> float:
    return new - old


def _differ(old: str, new: str) -> float:
    return float(old != new)


def _format_value(value) -> str:
    if isinstance(value, list) and len(value) > 20:
        return f"{len(value)} values, {hashlib.sha256(repr(value).encode()).hexdigest()[:12]}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _format_choice(old: Mapping, new: Mapping | None) -> tuple[str, str | None]:
    """Return both as text, only the differing part if they differ; new keys do not count."""
    if new is None:
        return _format_value(dict(old)), None
    names = [name for name in old if old[name] != new.get(name)] or old
    return _format_value({name: old[name] for name in names}), _format_value(
        {n: new.get(n) for n in names}
    )


def _fill_defaults(parameters: dict) -> dict:
    """Return the parameters of a run, with defaults for those that a later version added."""
    kinds = {"network": NetworkRun, "descriptor": DescriptorRun, "members": CombinationRun}
    for name, run in kinds.items():
        if name in parameters:
            try:
                return run(**parameters).model_dump()
            except ValidationError:
                break  # from a very different version
    return parameters


def _compute_mean_change(old: np.ndarray, new: np.ndarray) -> float:
    if (np.isnan(old) != np.isnan(new)).any():
        return 1.0  # other queries have relevant items
    return float(np.nanmean(np.abs(new - old))) if (~np.isnan(old)).any() else 0.0


def _count(path: str, old: np.ndarray, new: np.ndarray, things: str, change) -> Gap:
    counted = f"{len(old)} {things}"
    if len(old) != len(new):
        return Gap(path, counted, f"{len(new)} {things}", 1.0)
    k = int((~np.isclose(old, new, rtol=0, atol=0, equal_nan=True)).sum())
    return Gap(path, counted, f"{k} differ", float(change(old, new)) if k else 0.0)


def find_largest(gaps: Mapping[str, Gap]) -> dict[str, float]:
    """Return the largest absolute difference of each kind of measured number."""
    largest: dict[str, float] = {}
    for key, gap in gaps.items():
        if not key.startswith(("data", "parameters")) and gap.difference is not None:
            kind = classify_number(key)
            largest[kind] = max(largest.get(kind, 0.0), abs(gap.difference))
    return largest
