"""One phantom radiograph: a subject, a view, an exposure, and what comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import radians

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from cbir_lib.datasets.phantom import body, rays
from cbir_lib.datasets.phantom.changes import change_film
from cbir_lib.datasets.phantom.exposure import Film, Paths, expose
from cbir_lib.datasets.phantom.parameters import Exposure, Subject
from cbir_lib.datasets.phantom.skeleton import MIDLINE_X, Place, Skeleton, load_skeleton
from cbir_lib.datasets.phantom.views import View

LUNG_DENSITY = 0.26  # of soft tissue
OVERSAMPLING = 2  # rays along each side of a pixel, for bones
SOURCE_M, CHEST_SOURCE_M = 1.10, 1.80  # from the source to the middle of the picture
BLEND_M = 0.012  # over which pieces of soft tissue melt together
# Shares of the images that are turned by 90, 180 or 270 degrees, inverted, marked with a letter,
# contain metal, or have a white border outside the collimator instead of a black one.
TURNED, INVERTED, MARKED, METAL, WHITE_BORDER = 0.06, 0.02, 0.55, 1 / 12, 0.12
BLACK, WHITE = 6, 235  # grey of the two borders
SPINAL = ("flex_extension", "lat_bending", "axial_rotation")  # joints without a side
PAIRED = ("arm", "hand", "leg", "foot", "shoulder")  # parts of the body with a side


@dataclass(frozen=True)
class Scene:
    """Everything that decides an image but its noise, gas and vessels."""

    subject: Subject
    view: View
    left: bool
    exposure: Exposure
    joints: Mapping[str, float]  # radians
    quarter_turns: int = 0
    implant: int | None = None  # which of the region's
    marked: bool = False
    inverted: bool = False
    white_border: bool = False

    @classmethod
    def draw(cls, subject: Subject, view: View, rng: np.random.Generator) -> Scene:
        """Draw a view of a subject as it may come up."""
        exposure = Exposure.draw(rng)
        joints = {
            name: float(rng.uniform(*np.radians(limits))) for name, limits in view.joints.items()
        }
        chance = rng.random(6)
        turns, implant = rng.integers(1, 4), rng.integers(len(body.IMPLANTS[view.region]))
        return cls(
            subject=subject,
            view=view,
            left=bool(view.sided and chance[0] < 0.5),
            exposure=exposure,
            joints=joints,
            quarter_turns=int(turns) if chance[1] < TURNED else 0,
            implant=int(implant) if chance[2] < METAL else None,
            marked=bool(chance[3] < MARKED),
            inverted=bool(chance[4] < INVERTED),
            white_border=bool(chance[5] < WHITE_BORDER),
        )

    @classmethod
    def middle(cls, view: View) -> Scene:
        """Return the view with everything in the middle of its range."""
        joints = {name: radians(sum(limits) / 2) for name, limits in view.joints.items()}
        return cls(Subject.middle(), view, False, Exposure.middle(), joints)


def render(scene: Scene, size: int, rng: np.random.Generator, changes: Sequence[str] = ()) -> Film:
    """Take one radiograph.

    Parameters
    ----------
    size
        Longer side in pixels.
    rng
        Of what is not in the scene: gas, vessels, noise, and where the marker lies.
    changes
        Of the film: :func:`cbir_lib.datasets.phantom.changes.change_film`.

    Returns
    -------
    Film
        ``grey`` is the finished image, (H, W) uint8; bone is bright unless the scene is inverted.
    """
    of_inside, of_noise, of_marker = rng.spawn(3)
    paths, opening = trace_paths(scene, size, of_inside)
    energy = float(np.clip(scene.view.energy + scene.exposure.energy, 0, 1))
    film = expose(paths, energy, scene.exposure, opening, of_noise)
    grey = change_film(film.grey, opening, changes)
    grey[opening < 0.5] = WHITE if scene.white_border else BLACK
    if scene.marked:
        _draw_marker(grey, scene, of_marker)
    return film._replace(grey=255 - grey if scene.inverted else grey)


def trace_paths(scene: Scene, size: int, rng: np.random.Generator) -> tuple[Paths, np.ndarray]:
    """Trace path lengths through every tissue, and the opening of the collimator (H, W)."""
    bones = load_skeleton()
    places = pose(bones, scene)
    frame = body.Frame(bones, places)
    parts = find_parts_in_beam(scene)
    source, middle, down, right, shape = aim(scene, frame, size)
    # Bones have sharp edges and get more rays than soft tissue.
    coarse = rays.Beam.through(source, middle, down, right, shape)
    fine_shape = shape[0] * OVERSAMPLING, shape[1] * OVERSAMPLING
    fine = rays.Beam.through(source, middle, down / OVERSAMPLING, right / OVERSAMPLING, fine_shape)
    bone_path = np.zeros(fine_shape)
    for bone in bones.bones:
        if bone.part in parts:
            bone_path += _trace_bone(fine, bone, places[bone.body], bones, scene.subject)
    soft, fat = _trace_soft_tissue(coarse, scene, frame, parts, bones)
    inside = _trace_ellipsoids(fine, scene, frame, parts, rng)

    def shrink(path: np.ndarray) -> np.ndarray:
        return cv2.resize(path, shape[::-1], interpolation=cv2.INTER_AREA)

    bone, metal = shrink(bone_path + inside["bone"]), shrink(inside["metal"])
    soft = np.maximum(soft + shrink(inside["soft"]) - bone - metal, 0)
    return Paths(soft, fat, bone, metal), _compute_opening(*shape, scene.exposure.collimation)


def pose(bones: Skeleton, scene: Scene) -> dict[str, Place]:
    """Return where every body of the model is."""
    s = scene.subject
    # In the frames of the trunk x points forwards and z sideways; y is along the bone everywhere.
    limb = np.array([s.breadth, 1.0, s.breadth]) * s.limbs
    trunk = np.array([s.depth, 1.0, 1.0])
    sizes = {
        "head": np.full(3, s.head),
        "thorax": trunk,
        "lumbar": np.array([s.depth, 1.0, s.breadth]),
        "pelvis": trunk,
        "arm": limb,
        "hand": limb,
        "leg": limb,
        "foot": np.full(3, s.limbs),
        "shoulder": np.ones(3),
        "world": np.ones(3),
    }
    joints = {
        name + side: angle
        for name, angle in scene.joints.items()
        for side in (("",) if name in SPINAL else ("_r", "_l"))
    }
    sizes = {part: s.stature * size for part, size in sizes.items()}
    return bones.places(joints, sizes, radians(s.nod_deg))


def find_parts_in_beam(scene: Scene) -> frozenset[str]:
    """Find the parts of the body in the beam, with side; of a limb only the one photographed."""
    parts = set()
    for part in scene.view.seen.split():
        if part not in PAIRED:
            parts.add(part)
        elif scene.view.sided:
            parts.add(part + ("_l" if scene.left else "_r"))
        else:
            parts |= {part + "_r", part + "_l"}
    return frozenset(parts)


def aim(scene: Scene, frame: body.Frame, size: int) -> tuple:
    """Return source, middle of the picture, a pixel down, a pixel right (metres), and shape."""
    view, x = scene.view, scene.exposure
    centre, travel, up = (np.array(v, dtype=float) for v in (view.centre, view.beam, view.up))
    anchor = view.body
    if scene.left:
        anchor = view.body.removesuffix("_r") + "_l"
        centre[0] = 2 * MIDLINE_X - centre[0]
        travel[0], up[0] = -travel[0], -up[0]
    linear = frame.linear(anchor)
    travel, up = linear @ travel, linear @ up
    travel /= np.linalg.norm(travel)
    up -= travel * (up @ travel)
    up /= np.linalg.norm(up)
    # Turned about the long axis, tilted, then turned in the plane of the film.
    turns = [
        (up, radians(x.swivel_deg)),
        (np.cross(travel, up), radians(x.tilt_deg)),
        (travel, radians(x.rotation_deg) + scene.quarter_turns * np.pi / 2),
    ]
    for axis, angle in turns:
        turn = Rotation.from_rotvec(axis * angle)
        travel, up = turn.apply(travel), turn.apply(up)
    right = np.cross(travel, up) * (-1 if view.mirrored else 1)
    body_size = float(np.cbrt(np.linalg.det(linear)))
    width, height = np.array(view.field_m) * x.field * body_size * (x.aspect, 1.0)
    if scene.quarter_turns % 2:
        width, height = height, width
    middle = frame.point(anchor, tuple(centre))
    middle = middle - right * x.shift_x * width + up * x.shift_y * height
    pixel = max(width, height) / size
    shape = tuple(int(max(size // 8, round(side / pixel))) for side in (height, width))
    distance = CHEST_SOURCE_M if view.region == "chest" else SOURCE_M
    return middle - travel * distance, middle, -up * pixel, right * pixel, shape


def _trace_bone(
    beam: rays.Beam, bone, place: Place, bones: Skeleton, subject: Subject
) -> np.ndarray:
    """Metres of cortical bone that a bone is worth along each ray."""
    volume, tissue = bone.volume, bone.tissue
    path = np.zeros(beam.directions.shape[:2])
    window = beam.window(place.to_world(volume.corners()))
    matrix, offset = volume.from_world(place)
    shaft, end = tissue.shaft_mm * 1e-3 * subject.cortex, tissue.end_mm * 1e-3 * subject.cortex
    spongy = np.clip(np.array([tissue.middle, tissue.ends]) * subject.density, 0, 1)
    base, face = np.zeros(4), -1.0
    if bone.name == "skull":
        base, face = _find_skull_base(volume, bones.neutral["head"]), 0.16 * subject.density
    long_axis = int(np.argmax(volume.distances.shape))
    rays.add_bone(
        path, beam, window, volume.distances, volume.step, matrix, offset, long_axis,
        shaft, end, spongy, base, face,
    )  # fmt: skip
    # The mineral of the shell varies less between subjects than that of spongy bone.
    return path * min(1.0, 0.55 + 0.45 * subject.density)


def _find_skull_base(volume, standing: Place) -> np.ndarray:
    """(4,) plane in voxels, positive above: from over the orbits to the hole for the spine."""
    front, back, side, top = (
        (standing.inverse @ (np.array(point) - standing.position) - volume.origin) / volume.step
        for point in (
            (MIDLINE_X, 0.130, 1.690),
            (MIDLINE_X, 0.215, 1.612),
            (MIDLINE_X + 0.07, 0.215, 1.612),
            (MIDLINE_X, 0.200, 1.750),
        )
    )
    normal = np.cross(back - front, side - front)
    normal *= np.sign(normal @ (top - front)) / np.linalg.norm(normal)
    return np.append(normal, -normal @ front)


def _trace_soft_tissue(
    beam: rays.Beam, scene: Scene, frame: body.Frame, parts: frozenset[str], bones: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """Metres of muscle (a lung counting for its density) and of fat."""
    subject = scene.subject
    soft, fat = np.zeros(beam.directions.shape[:2]), np.zeros(beam.directions.shape[:2])
    capsules = [
        c
        for c in body.build_soft_tissue(bones, subject)
        if body.belongs_to(c.body_a, parts) and body.belongs_to(c.body_b, parts)
    ]
    trunk = "thorax" in parts or "pelvis" in parts
    thickness = subject.fat_mm * 1e-3 * (1.0 if trunk else 0.33)
    if scene.view.region == "cranium":
        thickness = min(thickness, 0.004)
    arrays = body.build_capsule_arrays(capsules, frame, subject)
    rays.add_skin(soft, fat, beam, *arrays, thickness, BLEND_M)
    if "thorax" in parts:
        cavity, place = body.build_thoracic_cavity(bones), frame.places["torso"]
        window = beam.window(place.to_world(cavity.corners()))
        carved = body.compute_unit_transforms(
            body.compute_ellipsoid_shapes(body.list_lung_exclusions(subject), frame)
        )
        lungs = np.zeros_like(soft)
        matrix, offset = cavity.from_world(place)
        rays.add_lungs(lungs, beam, window, cavity.distances, cavity.step, matrix, offset, carved)
        soft -= (1 - LUNG_DENSITY) * lungs
    return soft, fat


def _trace_ellipsoids(
    beam: rays.Beam,
    scene: Scene,
    frame: body.Frame,
    parts: frozenset[str],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Metres to add to soft tissue (less for air, more for vessels), bone and metal."""
    pieces = body.draw_inner_structures(scene.subject, rng)
    if scene.implant is not None:
        implant = body.IMPLANTS[scene.view.region][scene.implant]()
        pieces += [body.mirror(piece) for piece in implant] if scene.left else implant
    counts_as = {
        "air": ("soft", -1.0),
        "vessel": ("soft", 1 - LUNG_DENSITY),
        "mineral": ("bone", 1.0),
        "metal": ("metal", 0.5),  # some implants are of titanium, none is solid iron
    }
    lengths = {name: np.zeros(beam.directions.shape[:2]) for name in ("soft", "bone", "metal")}
    for tissue, (layer, factor) in counts_as.items():
        chosen = [e for e in pieces if e.tissue == tissue and body.belongs_to(e.body, parts)]
        if chosen:
            shapes = body.compute_ellipsoid_shapes(chosen, frame)
            windows = np.array([beam.window(body.compute_box(*shape)) for shape in shapes])
            weights = np.array([e.weight * factor for e in chosen])
            rays.add_ellipsoids(
                lengths[layer], beam, windows, body.compute_unit_transforms(shapes), weights
            )
    return lengths


def _compute_opening(rows: int, columns: int, margin: float) -> np.ndarray:
    """The collimator (H, W): 1 open, 0 closed, soft over a pixel; a margin below zero is none."""

    def along(length: int) -> np.ndarray:
        to_edge = np.minimum(np.arange(length), np.arange(length)[::-1])
        return np.clip(to_edge - max(0.0, margin) * length + 1, 0, 1)

    return np.outer(along(rows), along(columns))


def _draw_marker(grey: np.ndarray, scene: Scene, rng: np.random.Generator) -> None:
    """A lead letter near the border: R or L."""
    rows, columns = grey.shape
    at_left, right_half = rng.random(2) < 0.5
    letter = "L" if scene.left or (not scene.view.sided and right_half) else "R"
    height = max(6, round(0.075 * max(grey.shape)))
    column = int(((0.05 if at_left else 0.84) + rng.uniform(-0.02, 0.05)) * columns)
    row = max(height + 1, int(rng.uniform(0.1, 0.97) * rows))
    lead = np.zeros_like(grey)
    cv2.putText(
        lead, letter, (max(1, column), row), cv2.FONT_HERSHEY_SIMPLEX, height / 22, WHITE, 1,
        cv2.LINE_AA,
    )  # fmt: skip
    np.maximum(grey, lead, out=grey)
