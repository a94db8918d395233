"""The study: profiles, the grid, and the runs that follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from cbir_lib.datasets import SOURCES
from cbir_lib.descriptors import COMBINATION, DESCRIPTORS
from cbir_lib.errors import CbirError, unknown
from cbir_lib.networks import NETWORKS, READINGS
from cbir_lib.schema import Strict, first_fault

AtLeastOne = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]


class Images(Strict):
    """At most so many images of each split; the classes keep their shares."""

    train: AtLeastOne
    validation: AtLeastOne
    test: AtLeastOne


class Run(Strict):
    """One thing to measure: everything that decides its numbers."""

    dataset: str
    images: dict[str, int] | None = None  # of each split; all of them
    sample_seed: int
    size: int  # pixels

    @property
    def id(self) -> str:
        """Its readable name, unique in a study."""
        raise NotImplementedError

    @property
    def notebook(self) -> str:
        """Name of the notebook that executes it."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Heading of its page."""
        raise NotImplementedError


class NetworkRun(Run):
    """A network trained, then used as a descriptor."""

    network: str
    reading: str = "units"
    clahe: bool = True
    seed: int = 0
    epochs: AtLeastOne = 1000
    patience: AtLeastOne = 50
    batch_size: AtLeastOne = 256
    learning_rate: Annotated[float, Field(gt=0)] = 0.005
    momentum: NotNegative = 0.9
    weight_decay: NotNegative = 5e-4
    initialisation: str = "he"

    @property
    def id(self) -> str:
        reading = "" if self.reading == "units" else f"-{self.reading}"
        return f"{self.dataset}-{self.network}{reading}-s{self.seed}"

    @property
    def notebook(self) -> str:
        return "run_network"

    @property
    def title(self) -> str:
        return f"Network {self.network}, seed {self.seed}"


class DescriptorRun(Run):
    """A handcrafted descriptor. What is random in it has a seed among its own parameters."""

    descriptor: str
    grid: dict[str, list] = {}  # values of its parameters, tried on the validation split
    clahe: bool = False  # the baselines describe the image as it is

    @property
    def id(self) -> str:
        return f"{self.dataset}-{self.descriptor}"

    @property
    def notebook(self) -> str:
        return "run_descriptor"

    @property
    def title(self) -> str:
        return DESCRIPTORS[self.descriptor].title


class CombinationRun(Run):
    """Several handcrafted descriptors at once: the weighted sum of their distances."""

    members: Annotated[list[str], Field(min_length=2)]

    @property
    def id(self) -> str:
        return f"{self.dataset}-combination"

    @property
    def notebook(self) -> str:
        return "run_combination"

    @property
    def title(self) -> str:
        return COMBINATION

    @property
    def member_runs(self) -> list[str]:
        """Names of the runs whose vectors it combines."""
        return [f"{self.dataset}-{member}" for member in self.members]


class Training(Strict):
    """What a profile may set of the training; the defaults are those of the runs."""

    epochs: AtLeastOne | None = None
    patience: AtLeastOne | None = None
    batch_size: AtLeastOne | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None


class Profile(Strict):
    """On what, and for how long."""

    dataset: str
    images: Images | None = None  # all of them
    sample_seed: int = 0
    size: Annotated[int, Field(ge=16, le=1024)] = 128  # pixels
    reading: str = "units"
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    training: Training = Training()


class Grid(Strict):
    """What runs."""

    networks: list[str] = []
    descriptors: dict[str, dict[str, list]] = {}  # values to try, by descriptor and parameter
    combination: list[str] = []  # of these descriptors; none if empty


class Study(Strict):
    """The whole of ``study.yml``."""

    profiles: dict[str, Profile]
    grid: Grid

    def runs(self, profile: str) -> list[NetworkRun | DescriptorRun | CombinationRun]:
        """Every run of a profile, networks first."""
        chosen = self.profile(profile)
        common = {
            "dataset": chosen.dataset,
            "images": chosen.images.model_dump() if chosen.images else None,
            "sample_seed": chosen.sample_seed,
            "size": chosen.size,
        }
        training = chosen.training.model_dump(exclude_none=True) | {"reading": chosen.reading}
        found = [
            NetworkRun(**common, **training, network=network, seed=seed)
            for network in self.grid.networks
            for seed in chosen.seeds
        ]
        for name, grid in self.grid.descriptors.items():
            found.append(DescriptorRun(**common, descriptor=name, grid=grid))
        if self.grid.combination:
            found.append(CombinationRun(**common, members=self.grid.combination))
        return found

    def profile(self, name: str) -> Profile:
        """The profile of that name."""
        if name not in self.profiles:
            raise unknown("profile", name, self.profiles)
        return self.profiles[name]

    def run(self, profile: str, run_id: str) -> NetworkRun | DescriptorRun | CombinationRun:
        """The run of that name in a profile."""
        runs = {run.id: run for run in self.runs(profile)}
        if run_id not in runs:
            raise unknown("run", run_id, runs)
        return runs[run_id]


def read_study(path: Path | str) -> Study:
    """Read and check ``study.yml``.

    Raises
    ------
    CbirError
        Naming the file, the key and the fault, when it cannot be read, a key is unknown, a value
        has a wrong type, or a name is not in its table.
    """
    path = Path(path)
    hint = f"correct {path.name}; its keys are described in cbir_lib/study.py"
    try:
        study = Study.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise CbirError(f"cannot read {path}: {error.strerror}", "name it: --study PATH") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CbirError(f"{path} is not YAML: {' '.join(str(error).split())}", hint) from error
    except ValidationError as error:
        raise CbirError(f"{path}: {first_fault(error)}", hint) from error
    for name in study.grid.networks:
        _known(f"{path}: grid.networks", "network", name, NETWORKS)
    for name in study.grid.descriptors:
        _known(f"{path}: grid.descriptors", "descriptor", name, DESCRIPTORS)
    for name in study.grid.combination:
        _known(f"{path}: grid.combination", "run of a descriptor", name, study.grid.descriptors)
    for key, profile in study.profiles.items():
        _known(f"{path}: profiles.{key}.dataset", "data set", profile.dataset, SOURCES)
        _known(f"{path}: profiles.{key}.reading", "reading", profile.reading, READINGS)
    return study


def _known(where: str, kind: str, name: str, table) -> None:
    if name not in table:
        error = unknown(kind, name, table)
        raise CbirError(f"{where}: {error.what}", error.hint)
