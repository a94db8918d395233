"""What varies in a phantom radiograph: each parameter with its range and its unit."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec

import numpy as np

from cbir_lib.errors import CbirError

REQUIRED_PACKAGES = ("edt", "mujoco", "musclemimic_models")  # what the extra ``phantom`` installs


def require_packages() -> None:
    """Check that all that drawing needs is there.

    Raises
    ------
    CbirError
        Naming the package that is not.
    """
    for name in REQUIRED_PACKAGES:
        if find_spec(name) is None:
            raise CbirError(
                f"drawing phantom radiographs needs the package {name}",
                'install it: pip install ".[phantom]"; the embedded images need nothing',
            )


def describe_parameter(
    low: float, high: float, meaning: str, *, log: bool = False, normal: bool = False
):
    """Describe a parameter that is drawn from [low, high].

    Uniformly; uniformly in the logarithm; or normally about the middle, with a quarter of the range
    as standard deviation, clipped at the ends.
    """
    kind = "log-uniform" if log else "normal, clipped" if normal else "uniform"
    return field(metadata={"low": low, "high": high, "meaning": meaning, "kind": kind})


@dataclass(frozen=True)
class RandomParameters:
    """Base of the parameter tables: all of them drawn, or all in the middle."""

    @classmethod
    def draw(cls, rng: np.random.Generator):
        """Draw one of each from its range."""
        values = {}
        for f in fields(cls):
            u = rng.random()
            if f.metadata["kind"] == "normal, clipped":
                u = float(np.clip(0.5 + 0.25 * rng.standard_normal(), 0, 1))
            values[f.name] = cls.at(f.name, u)
        return cls(**values)

    @classmethod
    def middle(cls):
        """Take each in the middle of its range."""
        return cls(**{f.name: cls.at(f.name, 0.5) for f in fields(cls)})

    @classmethod
    def at(cls, name: str, u: float) -> float:
        """Return the value of a parameter at a place in its range, from 0 (low) to 1 (high)."""
        m = next(f.metadata for f in fields(cls) if f.name == name)
        if m["kind"] == "log-uniform":
            return float(m["low"] * (m["high"] / m["low"]) ** u)
        return float(m["low"] + (m["high"] - m["low"]) * u)

    def with_(self, **changes: float):
        """Return the same with some values changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Subject(RandomParameters):
    """A person; drawn once a subject."""

    stature: float = describe_parameter(
        0.82, 1.10, "size of the whole body, relative to the model's", normal=True
    )
    head: float = describe_parameter(
        0.93, 1.07, "size of the head, relative to stature", normal=True
    )
    limbs: float = describe_parameter(
        0.92, 1.08, "length of arms and legs, relative to stature", normal=True
    )
    breadth: float = describe_parameter(
        0.88, 1.14, "breadth of bones, relative to their length", normal=True
    )
    depth: float = describe_parameter(
        0.90, 1.12, "depth of the trunk, relative to its height", normal=True
    )
    density: float = describe_parameter(0.70, 1.20, "mineral of the bones, relative to the model's")
    cortex: float = describe_parameter(
        0.65, 1.35, "thickness of the cortical shell, relative to the model's"
    )
    habitus: float = describe_parameter(0.88, 1.35, "girth of soft tissue, relative to the model's")
    fat_mm: float = describe_parameter(
        2.0, 22.0, "fat under the skin of the trunk, mm; a third on the limbs"
    )
    breast: float = describe_parameter(-1.0, 1.0, "size of the breasts; none below zero")
    breath: float = describe_parameter(
        -1.0, 1.0, "diaphragm, from high (expiration) to low", normal=True
    )
    heart: float = describe_parameter(
        0.85, 1.35, "size of the heart, relative to the model's", normal=True
    )
    nod_deg: float = describe_parameter(-14.0, 14.0, "forward bend of the neck", normal=True)


@dataclass(frozen=True)
class Exposure(RandomParameters):
    """How one image was taken and developed."""

    rotation_deg: float = describe_parameter(
        -12.0, 12.0, "rotation in the plane of the film", normal=True
    )
    tilt_deg: float = describe_parameter(-10.0, 10.0, "beam from above or below", normal=True)
    swivel_deg: float = describe_parameter(-14.0, 14.0, "turned about the long axis", normal=True)
    shift_x: float = describe_parameter(
        -0.12, 0.12, "off centre, share of the field's width", normal=True
    )
    shift_y: float = describe_parameter(
        -0.12, 0.12, "off centre, share of the field's height", normal=True
    )
    field: float = describe_parameter(
        0.80, 1.25, "size of the field, relative to the view's", log=True
    )
    aspect: float = describe_parameter(
        0.85, 1.18, "breadth of the film, relative to the view's", log=True
    )
    energy: float = describe_parameter(
        -0.15, 0.15, "hardness of the beam, added to the view's (0 to 1)"
    )
    photons: float = describe_parameter(
        100.0, 6000.0, "photons in a pixel behind the body", log=True
    )
    scatter: float = describe_parameter(
        0.10, 1.20, "ratio of scattered to primary radiation behind a thick body"
    )
    blur_px: float = describe_parameter(
        0.3, 1.1, "standard deviation of the detector's blur, pixels"
    )
    gamma: float = describe_parameter(1.5, 3.3, "slope of the film curve", log=True)
    darkness: float = describe_parameter(-0.22, 0.22, "over- or under-exposure, decades")
    fog: float = describe_parameter(
        0.0, 0.14, "grey that no exposure gives or takes, share of the range"
    )
    collimation: float = describe_parameter(
        -0.20, 0.12, "margin outside the collimator; none below zero"
    )
