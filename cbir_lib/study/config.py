"""The study file: profiles, the grid, and the runs that they define."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator

from cbir_lib import paths
from cbir_lib.datasets import SOURCES
from cbir_lib.descriptors import COMBINATION, DESCRIPTORS
from cbir_lib.errors import CbirError, is_number, unknown_name_error
from cbir_lib.images.perturbations import check_level
from cbir_lib.networks.architectures import NETWORKS, OWN_NETWORKS, READINGS, list_layers
from cbir_lib.schema import StrictModel, describe_first_error

AtLeastOne = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Values = Annotated[list, Field(min_length=1)]
Variation = Literal[
    *("magnification", "blur", "collimation", "exposure", "noise", "resolution", "contrast"),
    *("gamma", "inversion"),
]

LARGEST_FILE = 2**18  # bytes
MOST_VALUES = 100_000  # in the file, aliases expanded
DEEPEST = 30  # lists and mappings within one another
MOST_RUNS = 10_000  # of a grid, with all its seeds, or settings of a descriptor to try


class StudyModel(StrictModel):
    """Base of the parts of a study: no number is infinite."""

    model_config = ConfigDict(allow_inf_nan=False)


class Images(StudyModel):
    """Maximum number of images of each split; the shares of the classes stay the same."""

    train: AtLeastOne
    validation: AtLeastOne
    test: AtLeastOne


class Run(StudyModel):
    """One thing to measure: all parameters that decide its numbers."""

    dataset: str
    images: dict[str, int] | None = None  # per split; None: all
    sample_seed: int
    size: int  # pixels

    @property
    def id(self) -> str:
        """Return its readable name, unique in a study."""
        raise NotImplementedError

    @property
    def notebook(self) -> str:
        """Return the name of the notebook that executes it."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Return the heading of its page."""
        raise NotImplementedError

    @property
    def reads_other_runs(self) -> bool:
        """Return whether its notebook needs the output of other runs of the study."""
        return False

    def list_changes(self, parameters: dict) -> list[str]:
        """List the parameters in which a result, measured with these, differs from this run."""
        planned = self.model_dump()
        return sorted(
            name
            for name in {*planned, *parameters} - self._FREE
            if planned.get(name) != parameters.get(name)
        )

    _FREE: ClassVar[set[str]] = set()  # parameters that may differ


PAPERS_VARIANT = {"", "dropout", "augment"}  # words of a variant that the paper has


class NetworkRun(Run):
    """A network that is trained and then used as a descriptor."""

    network: str
    classes: Annotated[list[str], Field(max_length=100)] = []  # only these; empty: all
    reading: Literal[READINGS] = "units"
    batch_norm: bool = False
    clahe: bool = True
    mean: bool = True  # subtract the mean image
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augment: bool = False  # random crops and rotations by 90, 180, 270 degrees, as in the paper
    crop: AtLeastOne | None = None  # pixels; default with augment: 120 of 128
    # In training: cbir_lib/networks/variation.py. Left out of files where nothing varies, so that
    # earlier results keep their parameters.
    variations: Annotated[
        list[Variation],
        Field(max_length=len(get_args(Variation)), exclude_if=lambda names: not names),
    ] = []
    # Values of a layer that is searched as bits. Left out of files where there is none, as above.
    bits: Annotated[
        int | None, Field(ge=8, multiple_of=8, le=1024, exclude_if=lambda count: count is None)
    ] = None
    seed: Seed = 0
    epochs: AtLeastOne = 1000
    budget: AtLeastOne = 1  # multiplies the epochs
    early_stopping: bool = False
    patience: AtLeastOne = 50  # epochs, with early stopping
    batch_size: AtLeastOne = 256
    learning_rate: Positive = 0.01
    schedule: Literal["cosine", "constant"] = "cosine"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 5e-4
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # Left out of files where it is the paper's.
    loss: Annotated[
        Literal[
            *("cross-entropy", "triplet", "supervised-contrastive", "proxy-anchor", "arcface"),
            *("codes", "code-tree"),
        ],
        Field(exclude_if=lambda name: name == "cross-entropy"),
    ] = "cross-entropy"

    @field_validator("classes", "variations")
    @classmethod
    def _check_repeats(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("name each once")
        return names

    @property
    def variant(self) -> str:
        """Return how it differs from the paper's plain training; empty if it does not."""
        parts = [
            word if isinstance(word, str) else word(getattr(self, name))
            for name, word in VARIANTS.items()
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        return "-".join(parts)

    @property
    def id(self) -> str:
        parts = [self.dataset, self.network, self.variant, f"s{self.seed}"]
        return "-".join(part for part in parts if part)

    @property
    def notebook(self) -> str:
        return "run_network"

    @property
    def title(self) -> str:
        return f"{name_network(self.network, self.variant)}, seed {self.seed}"

    @property
    def digest(self) -> str:
        """Return a digest of all its parameters, which identifies checkpoints of this training."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def settings(self) -> dict:
        """Return how it is trained: arguments of :class:`cbir_lib.networks.training.Settings`."""
        return {name: getattr(self, name) for name in TRAINING} | {"epochs": self.all_epochs}

    @property
    def all_epochs(self) -> int:
        """Return the number of epochs: those of the profile times the budget."""
        return self.epochs * self.budget

    @property
    def options(self) -> dict:
        """Return the options of :func:`cbir_lib.networks.modules.build_network`."""
        side = find_side(self.size, self.crop, self.augment)
        return {
            "reading": self.reading,
            "dropout": self.dropout,
            "batch_norm": self.batch_norm,
            "turns": self.augment,
            "crop": side if self.crop or self.augment else None,
            "shifts": self.augment,
            "variations": self.variations,
            "bits": self.bits,
        }


# Parameters of a network run that only affect its training.
TRAINING = {
    *("seed", "epochs", "early_stopping", "patience", "batch_size", "learning_rate", "schedule"),
    *("momentum", "weight_decay", "precision", "loss"),
}


def _write_out(value: float) -> str:
    """Write a number without an exponent, whose hyphen would divide the name of a run."""
    return np.format_float_positional(value, trim="-")


# How the name of a run shows a parameter that differs from the default, the plain training.
VARIANTS = {
    "classes": lambda names: f"{len(names)}classes",
    "reading": lambda reading: reading,
    "crop": lambda px: f"crop{px}",
    "batch_norm": "normalised",
    "clahe": "raw",
    "mean": "uncentred",
    "dropout": lambda share: "dropout" if share == 0.5 else f"dropout{_write_out(share)}",
    "augment": "augment",
    "variations": lambda names: "-".join(names) if len(names) < 4 else f"{len(names)}variations",
    "bits": lambda count: f"{count}bits",
    "schedule": lambda name: name,
    "early_stopping": "stopped",
    "learning_rate": lambda value: f"rate{_write_out(value)}",
    "momentum": lambda value: f"momentum{_write_out(value)}",
    "weight_decay": lambda value: f"decay{_write_out(value)}",
    "precision": lambda name: name,
    "loss": lambda name: name,
    "budget": lambda times: f"{times}xepochs",
}
# What readers call the parts of a variant, by how the name of a run shows them.
TERMS = {
    r"(\d+)classes": r"\1 classes",
    r"flattened": "flattened maps",
    r"pooled": "pooled maps",
    r"crop(\d+)": r"crops of \1 px",
    r"normalised": "batch normalisation",
    r"raw": "no CLAHE",
    r"uncentred": "no mean image",
    r"dropout([\d.]+)": r"dropout of \1",
    r"augment": "augmentation",
    r"(\d+)variations": r"\1 variations",
    r"(\d+)bits": r"\1 learnt bits",
    r"constant": "a constant learning rate",
    r"stopped": "early stopping",
    r"rate([\d.]+)": r"a learning rate of \1",
    r"momentum([\d.]+)": r"a momentum of \1",
    r"decay0": "no weight decay",
    r"decay([\d.]+)": r"a weight decay of \1",
    r"(triplet|proxy-anchor)": r"the \1 loss",
    r"supervised-contrastive": "the supervised contrastive loss",
    r"arcface": "the ArcFace loss",
    r"codes": "IRMA codes for classes",
    r"code-tree": "the tree of IRMA codes",
    r"2xepochs": "twice the epochs",
    r"(\d+)xepochs": r"\1 times the epochs",
    rf"({'|'.join(get_args(Variation))})": r"varied \1",
}


def name_network(network: str, variant: str = "") -> str:
    """Return the name of a network for readers: ``Network C with dropout and augmentation``."""
    return f"Network {name_briefly(network, variant)}"


def name_briefly(network: str, variant: str = "") -> str:
    """Return the name of a network among networks: ``C with dropout and augmentation``."""
    words = variant.split("-") if variant else []
    phrases = []
    while words:
        # Some names have a hyphen: the longest that is known.
        taken = 2 if _find_term("-".join(words[:2])) else 1
        name = "-".join(words[:taken])
        phrases.append(_find_term(name) or name)
        words = words[taken:]
    listed = " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)
    return f"{network} with {listed}" if phrases else network


def _find_term(name: str) -> str:
    """Return what readers call a part of a variant; empty if its name is its term."""
    found = ((re.fullmatch(pattern, name), term) for pattern, term in TERMS.items())
    return next((match.expand(term) for match, term in found if match), "")


class DescriptorRun(Run):
    """A handcrafted descriptor. If it uses random numbers, its own parameters include a seed."""

    descriptor: str
    grid: dict[str, list] = {}  # parameter values to try on the validation split
    clahe: bool = False  # the baselines describe the unmodified image

    @property
    def id(self) -> str:
        return f"{self.dataset}-{self.descriptor}"

    @property
    def notebook(self) -> str:
        return "run_descriptor"

    @property
    def descriptor_names(self) -> list[str]:
        """Names of the handcrafted descriptors that are used."""
        return [self.descriptor]

    @property
    def title(self) -> str:
        return DESCRIPTORS[self.descriptor].title


class CombinationRun(Run):
    """Several handcrafted descriptors combined by the weighted sum of their distances."""

    members: Annotated[list[str], Field(min_length=2)]

    @property
    def id(self) -> str:
        return f"{self.dataset}-combination"

    @property
    def notebook(self) -> str:
        return "run_combination"

    @property
    def reads_other_runs(self) -> bool:
        return True

    @property
    def title(self) -> str:
        return COMBINATION

    @property
    def member_runs(self) -> list[str]:
        """Return the names of the runs whose vectors it combines."""
        return [f"{self.dataset}-{member}" for member in self.members]


class Training(StudyModel):
    """Training parameters that a profile may set; the defaults are those of the runs."""

    epochs: AtLeastOne | None = None
    patience: AtLeastOne | None = None
    batch_size: AtLeastOne | None = None
    learning_rate: Positive | None = None
    schedule: Literal["cosine", "constant"] | None = None

    @field_validator("schedule")
    @classmethod
    def _check_that_it_ends(cls, schedule: str | None) -> str | None:
        if schedule == "constant":
            raise ValueError(
                "a constant rate never decays to zero; keep cosine here, and put constant in a "
                "row of grid.networks to compare the two"
            )
        return schedule


class Representation(StudyModel):
    """Treatments of vectors to measure: see :mod:`cbir_lib.study.effects`."""

    descriptors: list[str]  # scaled, reduced and hashed, as the network is
    fused: Annotated[list[str], Field(min_length=1)]  # with the network
    dimensions: Annotated[list[AtLeastOne], Field(min_length=1)]  # principal components
    bits: Annotated[list[AtLeastOne], Field(min_length=1)]
    hash_seeds: AtLeastOne


class Robustness(StudyModel):
    """Changes of queries to measure: see :mod:`cbir_lib.images.perturbations`."""

    descriptors: list[str]  # in addition to the network
    queries: AtLeastOne  # of the test split, evenly spaced
    levels: dict[str, Annotated[list[float], Field(min_length=1)]]


class EffectsRun(Run):
    """Measurements with a network and handcrafted descriptors of finished runs."""

    name: Literal["representation", "robustness"]
    networks: list[str]  # runs; the best on the validation split are used
    plan: dict  # a Representation or a Robustness

    # Of the planned networks, those are chosen from that are finished; results name the best.
    _FREE: ClassVar[set[str]] = {"networks", "network"}

    @property
    def id(self) -> str:
        return f"effects-{self.name}"

    @property
    def notebook(self) -> str:
        return f"run_{self.name}"

    @property
    def reads_other_runs(self) -> bool:
        return True

    @property
    def title(self) -> str:
        return {
            "representation": "Effects of the representation",
            "robustness": "Effects of changed queries",
        }[self.name]

    @property
    def descriptor_names(self) -> list[str]:
        """Names of the handcrafted descriptors that are used."""
        return [*dict.fromkeys([*self.plan["descriptors"], *self.plan.get("fused", ())])]

    @property
    def descriptor_runs(self) -> list[str]:
        """Names of the runs whose descriptors and vectors are used."""
        return [f"{self.dataset}-{name}" for name in self.descriptor_names]


class Profile(StudyModel):
    """A version of the study: its data, its training, and its rows of the grid's networks."""

    dataset: str
    images: Images | None = None  # None: all
    sample_seed: Seed = 0
    size: Annotated[int, Field(ge=16, le=1024)] = 128  # pixels
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    training: Training = Training()
    networks: list[str] | None = None  # rows of grid.networks; None: all
    descriptors: bool = True  # include the handcrafted ones
    effects_without: list[str] = []  # descriptors that would take its effects too long


class Transfer(StudyModel):
    """A network trained on each of several data sets and used on each: `cbir effects transfer`."""

    network: str
    datasets: Annotated[dict[str, Images], Field(min_length=2)]
    size: Annotated[int, Field(ge=16, le=1024)]  # pixels
    seeds: Annotated[list[Seed], Field(min_length=1)]
    training: Training
    descriptors: list[str]  # for comparison, with the first values of their grids


class Redrawn(StudyModel):
    """Queries re-rendered with different exposures: `cbir effects redrawn`."""

    networks: list[str]  # in models/
    descriptors: list[str]  # for comparison, with the first values of their grids
    images: Images
    size: Annotated[int, Field(ge=16, le=1024)]  # pixels
    queries: AtLeastOne  # of the test split
    photons: list[Positive]  # factors of each image's own
    rotation: list[float]  # degrees, added to each image's own
    field: list[Positive]  # factors of each image's own


class Real(StudyModel):
    """Real radiographs as queries among simulated ones: `cbir effects real`."""

    queries: AtLeastOne  # of each region
    size: Annotated[int, Field(ge=16, le=1024)]  # pixels
    regions: dict[str, dict[str, str]]  # the region of a class, by data set; by default its name


class Steps(StudyModel):
    """A training of about so many steps, however few images there are."""

    steps: AtLeastOne
    batch_size: AtLeastOne
    learning_rate: Positive


class Features(StudyModel):
    """Settings of the pretrained features (``descriptors.pretrained.PretrainedFeatures``)."""

    layer: str
    pooling: str
    size: AtLeastOne  # pixels, also of further training


class FewLabels(StudyModel):
    """Learning from few labelled images: `cbir effects labels`."""

    network: str  # trained from scratch
    features: Features
    images: Images
    size: Annotated[int, Field(ge=16, le=1024)]  # pixels
    per_class: Annotated[list[AtLeastOne], Field(min_length=1)]  # labelled images
    seeds: Annotated[list[Seed], Field(min_length=1)]  # of draws and trainings
    scratch: Steps
    further: Steps


class EffectsGrid(StudyModel):
    """Sets of effects; the first two use the runs of a profile with networks and descriptors."""

    representation: Representation | None = None
    robustness: Robustness | None = None
    transfer: Transfer | None = None
    redrawn: Redrawn | None = None
    real: Real | None = None
    labels: FewLabels | None = None


class Grid(StudyModel):
    """The runs to do and the effects to measure."""

    networks: dict[str, dict[str, Values]] = {}  # of a run's parameters
    descriptors: dict[str, dict[str, Values]] = {}  # to try, by descriptor and parameter
    combination: list[str] = []  # descriptors to combine; empty: no combination
    effects: EffectsGrid = EffectsGrid()


class Study(StudyModel):
    """The whole of ``study.yml``."""

    profiles: dict[str, Profile]
    grid: Grid
    solutions: Literal["folded", "omitted"] = "folded"  # of exercises, in the book

    def runs(self, profile: str) -> list[NetworkRun | DescriptorRun | CombinationRun]:
        """Return every run of a profile, networks first."""
        chosen = self.profile(profile)
        common = {
            "dataset": chosen.dataset,
            "images": chosen.images.model_dump() if chosen.images else None,
            "sample_seed": chosen.sample_seed,
            "size": chosen.size,
        }
        training = chosen.training.model_dump(exclude_none=True)
        self.check_number_of_runs(profile)
        rows = self.grid.networks if chosen.networks is None else chosen.networks
        planned = [
            NetworkRun(**common | training | {"seed": seed} | values)
            for row in rows
            for values in list_combinations(self.grid.networks[row])
            for seed in ([values["seed"]] if "seed" in values else chosen.seeds)
        ]
        if chosen.descriptors:
            for name, grid in self.grid.descriptors.items():
                planned.append(DescriptorRun(**common, descriptor=name, grid=grid))
            if self.grid.combination:
                planned.append(CombinationRun(**common, members=self.grid.combination))
        ids = [run.id for run in planned]
        if twice := sorted(name for name, count in Counter(ids).items() if count > 1):
            raise CbirError(
                f"profile {profile} has more than one run named {twice[0]}",
                "let its rows of grid.networks differ in a parameter that is part of a run's name: "
                "VARIANTS in cbir_lib/study/config.py",
            )
        return planned

    def check_number_of_runs(self, profile: str) -> None:
        """Refuse a profile with more than ``MOST_RUNS`` runs, before they are listed."""
        chosen = self.profile(profile)
        rows = self.grid.networks if chosen.networks is None else chosen.networks
        named = [self.grid.networks[row] for row in rows]
        count = sum(
            count_combinations(values) * (1 if "seed" in values else len(chosen.seeds))
            for values in named
        )
        if count > MOST_RUNS:
            raise CbirError(
                f"profile {profile} has {count:,} runs of networks",
                f"name fewer values, rows or seeds: at most {MOST_RUNS:,} runs",
            )

    def effects(self, profile: str) -> list[EffectsRun]:
        """Return the effects to measure with a profile; none unless it has both kinds of run.

        They are of networks trained as in the paper, plain or with dropout, augmentation or both,
        and with the seeds of the profile.
        """
        chosen = self.profile(profile)
        networks = [
            run
            for run in self.runs(profile)
            if isinstance(run, NetworkRun)
            and {*run.variant.split("-")} <= PAPERS_VARIANT
            and run.seed in chosen.seeds
        ]
        if not networks or not chosen.descriptors:
            return []
        common = {name: getattr(networks[0], name) for name in Run.model_fields}
        common["networks"] = [run.id for run in networks]
        kinds = {"representation", "robustness"}
        planned = self.grid.effects.model_dump(include=kinds, exclude_none=True)
        for plan in planned.values():
            for key in {"descriptors", "fused"} & plan.keys():
                plan[key] = [name for name in plan[key] if name not in chosen.effects_without]
        return [EffectsRun(**common, name=name, plan=plan) for name, plan in planned.items()]

    def profile(self, name: str) -> Profile:
        """Return the profile with this name."""
        if name not in self.profiles:
            raise unknown_name_error("profile", name, self.profiles)
        return self.profiles[name]

    def run(self, profile: str, run_id: str) -> NetworkRun | DescriptorRun | CombinationRun:
        """Return the run with this name in a profile."""
        runs = {run.id: run for run in self.runs(profile)}
        if run_id not in runs:
            raise unknown_name_error("run", run_id, runs)
        return runs[run_id]


# What PyYAML raises for dates, numbers, keys and tags that YAML allows and Python does not.
MEANINGLESS = (
    *(yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(RecursionError, MemoryError),
)


def read_study(path: Path | str) -> Study:
    """Read and check ``study.yml``.

    Raises
    ------
    CbirError
        Naming the file, the key and the fault, when it cannot be read, a key is unknown, a value
        has the wrong type, or a name is unknown.
    """
    path = Path(path)
    hint = f"correct {path.name}; its keys are described in cbir_lib/study/config.py"
    try:
        study = Study.model_validate(_load_yaml(path))
    except OSError as error:
        how = "name it: --study PATH"
        if not paths.has_project():
            how = "studies, chapters and reports need a checkout: call it there, or " + how
        raise CbirError(f"cannot read {path}: {error.strerror}", how) from error
    except ValidationError as error:
        raise CbirError(f"{path}: {describe_first_error(error)}", hint) from error
    except MEANINGLESS as error:
        fault = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, UnicodeDecodeError):
            hint = "save it as text in UTF-8"
        raise CbirError(f"{path} cannot be read: {fault}", hint) from error
    for key in study.profiles:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,80}", key, re.ASCII):
            raise CbirError(
                f"{path}: profiles: {key[:80]!r} cannot be the name of a folder",
                "name the profile with letters, digits, - and _",
            )
        if key in paths.OTHER_FOLDERS or key.endswith((paths.PUBLISHED, paths.FRESH)):
            raise CbirError(
                f"{path}: profiles: {key!r} is the name of a folder for something else",
                "give the profile another name",
            )
    for name in study.grid.descriptors:
        _check_name(f"{path}: grid.descriptors", "descriptor", name, DESCRIPTORS)
    for name in study.grid.combination:
        _check_name(
            f"{path}: grid.combination", "run of a descriptor", name, study.grid.descriptors
        )
    combined = study.grid.combination
    if len(combined) == 1 or len({*combined}) < len(combined):
        raise CbirError(
            f"{path}: grid.combination: {', '.join(combined)} cannot be combined",
            "name two descriptors or more, each once",
        )
    for name, plan in study.grid.effects.model_dump(exclude_none=True).items():
        where = f"{path}: grid.effects.{name}"
        for descriptor in [*plan.get("descriptors", ()), *plan.get("fused", ())]:
            _check_name(where, "run of a descriptor", descriptor, study.grid.descriptors)
        if "network" in plan:
            _check_name(where, "network", plan["network"], NETWORKS | OWN_NETWORKS)
        for change, levels in plan.get("levels", {}).items():
            for level in levels:
                try:
                    check_level(change, level)
                except CbirError as error:
                    raise CbirError(f"{where}.levels: {error.what}", error.hint) from error
        for key in ("datasets", "regions"):
            for name in plan.get(key, ()):
                _check_name(f"{where}.{key}", "data set", name, SOURCES)
    for name, grid in study.grid.descriptors.items():
        where = f"{path}: grid.descriptors.{name}"
        for parameter in grid:
            _check_name(where, "parameter", parameter, DESCRIPTORS[name].parameters.split())
            for value in grid[parameter]:
                if not (isinstance(value, str | bool) or is_number(value)):
                    raise CbirError(
                        f"{where}.{parameter}: {value!r:.80} is no value of a parameter",
                        "give names, finite numbers, true or false",
                    )
        _check_number(where, "settings", count_combinations(grid))
    for key, profile in study.profiles.items():
        _check_name(f"{path}: profiles.{key}.dataset", "data set", profile.dataset, SOURCES)
        for row in profile.networks or ():
            _check_name(f"{path}: profiles.{key}.networks", "row", row, study.grid.networks)
        for name in profile.effects_without:
            where = f"{path}: profiles.{key}.effects_without"
            _check_name(where, "run of a descriptor", name, study.grid.descriptors)
    rows = study.grid.networks
    total = sum(map(count_combinations, rows.values()))
    _check_number(f"{path}: grid.networks", "runs", total)
    for key in study.profiles:
        study.check_number_of_runs(key)
    for row, values in rows.items():
        where = f"{path}: grid.networks.{row}"
        forms = _check_row(where, values)
        for key, profile in study.profiles.items():
            if row in (profile.networks or rows):
                _check_forms(where, key, profile, forms)
    return study


def _check_keys(node: yaml.MappingNode) -> None:
    """Refuse a key that is there twice, of which YAML would take the last."""
    seen = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
    for key, times in seen.items():
        if times > 1:
            raise ValueError(f"{times} keys {key[:80]!r} in one place")


def _load_yaml(path: Path):
    """Load a file with a bounded number of values, however its aliases multiply them."""
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ValueError(f"more than {LARGEST_FILE:,} bytes")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    too_deep = ValueError(f"lists and mappings more than {DEEPEST} deep")
    depth = 0
    for event in yaml.parse(data.decode(), Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:  # composing them would overflow the stack
            raise too_deep
    root = yaml.compose(data.decode(), Loader=loader)
    # Values below a node, and how deep; 0 and 0 while they are being counted.
    counted: dict[int, tuple[int, int]] = {}

    def count(node: yaml.Node) -> tuple[int, int]:
        if counted.get(id(node)) == (0, 0):
            raise ValueError("an alias contains itself")
        if id(node) not in counted:
            counted[id(node)] = 0, 0
            if isinstance(node, yaml.MappingNode):
                _check_keys(node)
            below = node.value if isinstance(node, yaml.CollectionNode) else []
            inner = [part for one in below for part in (one if isinstance(one, tuple) else (one,))]
            numbers, depths = zip((0, 0), *map(count, inner), strict=True)
            counted[id(node)] = 1 + sum(numbers), 1 + max(depths)
        if counted[id(node)][0] > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        if counted[id(node)][1] > DEEPEST:
            raise too_deep
        return counted[id(node)]

    if root is not None:
        count(root)
    return yaml.load(data, Loader=loader)


def count_combinations(values: dict[str, list]) -> int:
    """Return the number of combinations of one value per parameter."""
    return math.prod(map(len, values.values()))


def list_combinations(values: dict[str, list]) -> list[dict]:
    """Return every combination of one value per parameter; the last parameter varies fastest."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


class _Form(NamedTuple):
    """What decides whether a network can be built for the images of a profile."""

    network: str
    classes: tuple[str, ...]
    reading: str
    bits: int | None
    crop: int | None
    augment: bool


def _check_row(where: str, values: dict[str, list]) -> set[_Form]:
    """Check every combination of a row's values; return the forms of its networks."""
    # The profile decides the rest, and the seeds where a row names none. Patience is not a variant:
    # early stopping is, and names the run.
    settable = ("network", "seed", "patience", *VARIANTS)
    for name in values:
        _check_name(where, "parameter", name, settable)
    for name in values.get("network", []):
        _check_name(where, "network", name, NETWORKS | OWN_NETWORKS)
    forms = set()
    for chosen in list_combinations(values):
        try:
            run = NetworkRun(**{"dataset": "phantom", "sample_seed": 0, "size": 128} | chosen)
        except ValidationError as error:
            raise CbirError(f"{where}: {describe_first_error(error)}", "correct the row") from error
        form = run.network, tuple(run.classes), run.reading, run.bits, run.crop, run.augment
        forms.add(_Form(*form))
    return forms


def _check_forms(where: str, key: str, profile: Profile, forms: Iterable[_Form]) -> None:
    """Refuse classes that the data set lacks, and networks that its images are too small for."""
    known = getattr(SOURCES[profile.dataset], "CLASSES", None)
    for form in forms:
        for name in form.classes if known else ():
            _check_name(where, f"class of {profile.dataset}", name, known)
        side = find_side(profile.size, form.crop, form.augment)
        if side > profile.size:
            raise CbirError(
                f"{where}: a crop is larger than the {profile.size} px of profile {key}",
                "give a smaller crop, or name the rows of the profile",
            )
        try:
            for _ in list_layers(
                form.network,
                classes=len(form.classes) or 2,
                size=side,
                reading=form.reading,
                bits=form.bits,
            ):
                pass
        except CbirError as error:
            raise CbirError(f"{where}: {error.what} (profile {key})", error.hint) from error


def find_side(size: int, crop: int | None, augment: bool) -> int:
    """Find the side in pixels of the images that a network sees: of the crop, if there is one."""
    return crop or (size * 15 // 16 if augment else size)


def _check_number(where: str, what: str, count: int) -> None:
    if count > MOST_RUNS:
        raise CbirError(f"{where}: {count:,} {what}", f"name fewer values: at most {MOST_RUNS:,}")


def _check_name(where: str, kind: str, name: str, table) -> None:
    if not isinstance(name, str) or name not in table:
        error = unknown_name_error(kind, name, table)
        raise CbirError(f"{where}: {error.what}", error.hint)
