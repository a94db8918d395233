"""What is around the bones: skin, lungs, air, vessels, and now and then metal.

Everything is given where the model stands upright, in metres, on its right side or in the middle,
and goes with a body of the model when that moves. x points to the left, y to the back, z up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, zoom
from scipy.spatial.transform import Rotation
from skimage.morphology import convex_hull_image

from cbir_lib.datasets.phantom.parameters import Subject
from cbir_lib.datasets.phantom.skeleton import MIDLINE_X, Place, Skeleton, find_part
from cbir_lib.datasets.phantom.volumes import Volume

Point = tuple[float, float, float]


class Capsule(NamedTuple):
    """A piece of soft tissue from ``a`` to ``b``, each going with a body; radii in metres.

    ``flat`` is (axis, factor): how much thicker it is along x, y or z of the standing model.
    """

    body_a: str
    a: Point
    body_b: str
    b: Point
    radius_a: float
    radius_b: float
    flat: tuple[str, float] = ("x", 1.0)
    girth: float = 0.5  # how much of the subject's habitus it takes on


# fmt: off
TRUNK = (
    Capsule("torso", (-.025, .195, 1.410), "torso", (-.025, .185, 1.25), .112, .124, ("x", 1.36), .5),
    Capsule("torso", (-.025, .178, 1.250), "pelvis", (-.025, .165, 1.02), .120, .122, ("x", 1.30), 1.0),
    Capsule("pelvis", (-.025, .170, 1.020), "pelvis", (-.025, .165, .955), .122, .115, ("x", 1.42), .9),
    Capsule("torso", (-.025, .245, 1.500), "neck", (-.025, .235, 1.600), .060, .056, ("x", 1.08), .5),
    Capsule("head", (-.025, .218, 1.675), "head", (-.025, .196, 1.678), .088, .082, ("x", .90), .05),
    Capsule("head", (-.025, .168, 1.650), "head", (-.025, .160, 1.595), .060, .046, ("x", 1.0), .15),
    Capsule("head", (-.025, .165, 1.600), "head", (-.025, .150, 1.572), .050, .030, ("x", 1.1), .15),
    Capsule("head", (-.025, .122, 1.655), "head", (-.025, .108, 1.632), .010, .013, ("x", 1.0), .0),
)
SIDES = (
    Capsule("torso", (-.045, .245, 1.530), "scapula_r", (-.165, .225, 1.478), .036, .042, ("x", 1.0), .4),
    Capsule("torso", (-.090, .215, 1.450), "humerus_r", (-.195, .200, 1.462), .075, .060, ("x", 1.0), .4),
    Capsule("pelvis", (-.095, .215, .940), "femur_r", (-.100, .175, .860), .088, .088, ("x", 1.0), .9),
    Capsule("humerus_r", (-.195, .200, 1.460), "humerus_r", (-.188, .195, 1.22), .052, .043, ("x", 1.0), .8),
    Capsule("humerus_r", (-.188, .195, 1.220), "ulna_r", (-.192, .193, 1.150), .043, .042, ("x", 1.0), .6),
    Capsule("ulna_r", (-.192, .190, 1.160), "radius_r", (-.225, .175, .960), .044, .028, ("y", 1.05), .5),
    Capsule("radius_r", (-.224, .175, .970), "lunate_r", (-.227, .173, .925), .028, .026, ("y", 1.12), .3),
    Capsule("lunate_r", (-.227, .174, .925), "3proxph_r", (-.236, .171, .865), .021, .018, ("y", 1.75), .2),
    Capsule("firstmc_r", (-.219, .150, .905), "proximal_thumb_r", (-.206, .134, .877), .0155, .013, ("x", 1.0), .2),
    Capsule("proximal_thumb_r", (-.204, .131, .876), "distal_thumb_r", (-.194, .117, .850), .0115, .0105, ("x", 1.0), .1),
    Capsule("distal_thumb_r", (-.194, .117, .850), "distal_thumb_r", (-.1885, .110, .836), .0105, .0085, ("x", 1.0), .1),
    Capsule("femur_r", (-.100, .165, .890), "femur_r", (-.105, .165, .620), .088, .066, ("x", 1.0), .9),
    Capsule("femur_r", (-.105, .165, .620), "femur_r", (-.101, .157, .520), .066, .054, ("x", 1.0), .6),
    Capsule("tibia_r", (-.101, .158, .515), "tibia_r", (-.103, .180, .390), .052, .056, ("x", 1.0), .5),
    Capsule("tibia_r", (-.103, .180, .390), "tibia_r", (-.104, .172, .170), .056, .036, ("x", 1.0), .5),
    Capsule("tibia_r", (-.104, .170, .180), "talus_r", (-.104, .168, .110), .036, .036, ("x", 1.05), .2),
    Capsule("calcn_r", (-.109, .200, .090), "calcn_r", (-.109, .165, .095), .031, .034, ("x", 1.0), .1),
    Capsule("calcn_r", (-.109, .160, .100), "calcn_r", (-.115, .085, .083), .030, .023, ("x", 1.25), .1),
    Capsule("calcn_r", (-.115, .085, .083), "toes_r", (-.115, .035, .074), .023, .015, ("x", 2.1), .1),
)
# fmt: on
# Finger by finger: MuJoCo's body carries a number, and bends at its origin.
FINGER_RADII = {2: 0.0088, 3: 0.0090, 4: 0.0084, 5: 0.0074}
TOES_AT = {  # x of the five toes; y of ball and tip
    -0.087: (0.030, -0.034, 0.0125),
    -0.106: (0.026, -0.036, 0.0085),
    -0.123: (0.030, -0.028, 0.0080),
    -0.138: (0.036, -0.016, 0.0078),
    -0.152: (0.044, -0.002, 0.0075),
}


class Ellipsoid(NamedTuple):
    """An ellipsoid of ``tissue`` that goes with a body; half axes in metres along ``turn``."""

    tissue: str  # air, vessel, mineral, metal, soft
    body: str
    centre: Point
    half: Point
    turn: Rotation = Rotation.identity()
    weight: float = 1.0


def mirror_to_both_sides(pieces: Iterable) -> list:
    """Return the pieces, and those of the right side mirrored to the left."""
    both_sides = []
    for piece in pieces:
        both_sides.append(piece)
        both_sides.append(mirror(piece))
    return both_sides


def mirror(piece):
    """Mirror a piece of the right side to the left; one of the middle stays where it is."""

    def point(p):
        return (2 * MIDLINE_X - p[0], p[1], p[2])

    def side(body):
        return body[:-2] + "_l" if body.endswith("_r") else body

    if isinstance(piece, Capsule):
        return piece._replace(
            body_a=side(piece.body_a), a=point(piece.a), body_b=side(piece.body_b), b=point(piece.b)
        )
    x, y, z, w = piece.turn.as_quat()
    return piece._replace(
        body=side(piece.body),
        centre=point(piece.centre),
        turn=Rotation.from_quat([x, -y, -z, w]),  # reflected in x
    )


class Frame:
    """The bodies of a posed subject, asked in the coordinates of the standing model."""

    def __init__(self, skeleton: Skeleton, places: Mapping[str, Place]):
        self.neutral, self.places = skeleton.neutral, places

    def point(self, body: str, standing: Point) -> np.ndarray:
        """Return where a point of the standing model is now."""
        home = self.neutral[body]
        return self.places[body].to_world(home.inverse @ (np.asarray(standing) - home.position))

    def linear(self, body: str) -> np.ndarray:
        """Return (3, 3): how directions and lengths of the standing model have changed."""
        return self.places[body].matrix @ self.neutral[body].inverse


def build_soft_tissue(skeleton: Skeleton, subject: Subject) -> list[Capsule]:
    """Build the capsules of a subject, in the coordinates of the standing model."""
    right = list(SIDES)
    for n, radius in FINGER_RADII.items():
        joints = [
            skeleton.neutral[f"{n}{name}_r"].position for name in ("proxph", "midph", "distph")
        ]
        tip = joints[2] + 0.85 * (joints[2] - joints[1])
        bodies = [f"{n}proxph_r", f"{n}midph_r", f"{n}distph_r"]
        knuckle = joints[0] + 0.3 * (joints[0] - joints[1])
        chain = [knuckle, joints[1], joints[2], tip]
        for i, body in enumerate(bodies):
            thick = radius * (1.12, 1.0, 0.92, 0.8)[i], radius * (1.12, 1.0, 0.92, 0.8)[i + 1]
            right.append(
                Capsule(body, tuple(chain[i]), body, tuple(chain[i + 1]), *thick, girth=0.15)
            )
    for x, (ball, tip, radius) in TOES_AT.items():
        right.append(
            Capsule(
                "toes_r", (x, ball, 0.075), "toes_r", (x, tip, 0.071), radius, radius, girth=0.1
            )
        )
    if subject.breast > 0:
        size = 0.035 + 0.030 * subject.breast
        right.append(
            Capsule("torso", (-0.095, 0.105, 1.345), "torso", (-0.097, 0.085, 1.32), size, size)
        )
    return list(TRUNK) + mirror_to_both_sides(right)


def build_capsule_arrays(capsules: Iterable[Capsule], frame: Frame, subject: Subject) -> tuple:
    """Build what :func:`cbir_lib.datasets.phantom.rays.add_skin` takes."""
    matrices, lengths, radii, scales = [], [], [], []
    for c in capsules:
        a, b = frame.point(c.body_a, c.a), frame.point(c.body_b, c.b)
        linear = frame.linear(c.body_a)
        size = np.cbrt(abs(np.linalg.det(linear))) * (1 + c.girth * (subject.habitus - 1))
        axis = linear @ np.eye(3)["xyz".index(c.flat[0])]
        axis /= np.linalg.norm(axis)
        squeeze = np.eye(3) + (1 / c.flat[1] - 1) * np.outer(axis, axis)
        along = squeeze @ (b - a)
        length = max(float(np.linalg.norm(along)), 1e-4)
        turn, _ = Rotation.align_vectors([[0, 0, 1]], [along / length])
        matrix = turn.as_matrix() @ squeeze
        matrices.append(np.column_stack([matrix, -matrix @ a]))
        lengths.append(length)
        radii.append((c.radius_a * size, c.radius_b * size))
        scales.append(min(1.0, c.flat[1]))
    return np.array(matrices), np.array(lengths), np.array(radii), np.array(scales)


def compute_ellipsoid_shapes(ellipsoids: Iterable[Ellipsoid], frame: Frame) -> list[tuple]:
    """Compute half axes as columns (3, 3) and centre (3,) of each ellipsoid in the world."""
    return [
        (
            frame.linear(e.body) @ (e.turn.as_matrix() * np.asarray(e.half)),
            frame.point(e.body, e.centre),
        )
        for e in ellipsoids
    ]


def compute_box(axes: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Compute the (8, 3) corners of a box around an ellipsoid."""
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T
    return centre + signs @ axes.T


def compute_unit_transforms(shapes: Iterable[tuple]) -> np.ndarray:
    """Compute (K, 3, 4) from the world to the space where each ellipsoid is the unit sphere."""
    transforms = []
    for axes, centre in shapes:
        inverse = np.linalg.inv(axes)
        transforms.append(np.column_stack([inverse, -inverse @ centre]))
    return np.array(transforms).reshape(-1, 3, 4)


@lru_cache(maxsize=1)
def build_thoracic_cavity(skeleton: Skeleton) -> Volume:
    """Build the inside of the rib cage, in the frame of ``torso``: slices, each a hull of ribs."""
    ribs = next(bone for bone in skeleton.bones if bone.name.startswith("rib")).volume
    bone = ribs.distances < 0.001
    inside = np.zeros_like(bone)
    for level in range(bone.shape[1]):  # y points up in the frame of torso
        if bone[:, level].any():
            inside[:, level] = convex_hull_image(bone[:, level])
    inside = binary_erosion(inside, iterations=round(0.007 / ribs.step))
    coarse = zoom(inside.astype(np.float32), 0.5, order=1) > 0.5
    distances = distance_transform_edt(~coarse) - distance_transform_edt(coarse)
    return Volume((distances * 2 * ribs.step).astype(np.float32), ribs.origin, 2 * ribs.step)


def list_lung_exclusions(subject: Subject) -> list[Ellipsoid]:
    """List what is in the rib cage and not lung: mediastinum, heart, diaphragm and all below it."""
    low = 0.018 * subject.breath
    h = subject.heart
    tilt = Rotation.from_euler("y", 35, degrees=True)
    return [
        Ellipsoid("soft", "torso", (-0.025, 0.245, 1.36), (0.025, 0.055, 0.30)),  # spine, aorta
        Ellipsoid("soft", "torso", (-0.025, 0.180, 1.43), (0.028, 0.055, 0.14)),  # great vessels
        Ellipsoid("soft", "torso", (0.000, 0.150, 1.315), (0.064 * h, 0.050 * h, 0.054 * h), tilt),
        Ellipsoid("soft", "torso", (-0.042, 0.165, 1.330), (0.024, 0.035, 0.042)),  # right atrium
        Ellipsoid("soft", "torso", (-0.005, 0.205, 1.405), (0.026, 0.026, 0.024)),  # aortic arch
        Ellipsoid("soft", "torso", (-0.095, 0.185, 1.160 - low), (0.074, 0.11, 0.105)),  # liver
        Ellipsoid("soft", "torso", (0.047, 0.185, 1.148 - low), (0.074, 0.11, 0.105)),
    ]


def draw_inner_structures(subject: Subject, rng: np.random.Generator) -> list[Ellipsoid]:
    """Draw air, vessels and dense bone; gas and vessels lie differently in every image."""
    structures = [
        # Airways, mouth, sinuses, the air cells behind the ear.
        Ellipsoid("air", "torso", (-0.025, 0.203, 1.49), (0.008, 0.007, 0.095)),
        Ellipsoid("air", "neck", (-0.025, 0.190, 1.59), (0.012, 0.007, 0.045)),
        Ellipsoid("air", "head", (-0.025, 0.158, 1.603), (0.020, 0.026, 0.004)),
        Ellipsoid("air", "head", (-0.025, 0.152, 1.628), (0.011, 0.028, 0.017)),
        Ellipsoid("air", "head", (-0.025, 0.152, 1.652), (0.012, 0.022, 0.010)),
        Ellipsoid("air", "head", (-0.025, 0.196, 1.648), (0.013, 0.011, 0.009)),
        *mirror_to_both_sides(
            [
                Ellipsoid("air", "head", (-0.052, 0.155, 1.622), (0.012, 0.015, 0.015)),
                Ellipsoid("air", "head", (-0.037, 0.134, 1.688), (0.011, 0.005, 0.010)),
                Ellipsoid("air", "head", (-0.083, 0.232, 1.618), (0.007, 0.010, 0.012)),
                Ellipsoid(
                    "mineral", "head", (-0.058, 0.212, 1.634), (0.026, 0.009, 0.008),
                    Rotation.from_euler("z", 35, degrees=True), 0.7,
                ),
            ]
        ),
        Ellipsoid(
            "air", "torso", (0.045, 0.165, 1.235 - 0.018 * subject.breath),
            (0.030, 0.024, 0.016), weight=float(rng.uniform(0, 1)),
        ),
    ]  # fmt: skip
    for _ in range(rng.integers(4, 15)):  # gas in the bowel
        size = rng.uniform(0.005, 0.019)
        half = size * rng.uniform(0.6, 1.6, 3)
        place = rng.uniform((-0.125, 0.10, 0.98), (0.075, 0.165, 1.17))
        turn = Rotation.from_rotvec(rng.uniform(-1.5, 1.5, 3))
        structures.append(
            Ellipsoid("air", "lumbar3", tuple(place), tuple(half), turn, float(rng.uniform(0.3, 1)))
        )
    for side in (-1, 1):  # vessels and bronchi of the lungs, from the hilum outwards
        hilum = np.array([MIDLINE_X + side * 0.045, 0.205, 1.365])
        for _ in range(22):
            way = rng.normal(size=3) * (0.8, 0.8, 1.1) + (side * 0.9, 0, -0.15)
            way /= np.linalg.norm(way)
            reach = rng.uniform(0.02, 0.045)
            centre = hilum + way * reach * rng.uniform(1.0, 1.8)
            thick = rng.uniform(0.0015, 0.0042)
            turn, _ = Rotation.align_vectors([way], [[0, 0, 1]])
            structures.append(
                Ellipsoid("vessel", "torso", tuple(centre), (thick, thick, reach), turn)
            )
    return structures


def _make_bar(body: str, a: Point, b: Point, thick: float, wide: float | None = None) -> Ellipsoid:
    """A bar of metal from a to b."""
    a, b = np.asarray(a), np.asarray(b)
    way = (b - a) / np.linalg.norm(b - a)
    turn, _ = Rotation.align_vectors([way], [[0, 0, 1]])
    half = (wide or thick, thick, float(np.linalg.norm(b - a)) / 2)
    return Ellipsoid("metal", body, tuple((a + b) / 2), half, turn)


def _make_plate(body: str, a: Point, b: Point, into: Point, screws: int = 6) -> list[Ellipsoid]:
    """A plate from a to b, with screws of the vector ``into``."""
    a, b, into = np.asarray(a), np.asarray(b), np.asarray(into)
    bars = [_make_bar(body, a, b, 0.0016, 0.006)]
    for share in np.linspace(0.1, 0.9, screws):
        head = a + share * (b - a)
        bars.append(_make_bar(body, head, head + into, 0.0021))
    return bars


def _make_spinal_rods() -> list[Ellipsoid]:
    bars = []
    for x in (-0.048, -0.002):
        bars.append(_make_bar("lumbar3", (x, 0.232, 1.085), (x, 0.238, 1.185), 0.0032))
        for z in (1.085, 1.12, 1.155, 1.185):
            bars.append(_make_bar("lumbar3", (x, 0.236, z), (x * 0.8 - 0.005, 0.190, z), 0.003))
    return bars


def _make_sternal_wires() -> list[Ellipsoid]:
    return [
        _make_bar(
            "torso", (-0.032, 0.098 + 0.1 * (z - 1.34) ** 2, z), (-0.018, 0.098, z + 0.004), 0.0012
        )
        for z in (1.31, 1.335, 1.36, 1.385, 1.41)
    ]


def _make_pacemaker() -> list[Ellipsoid]:
    return [
        Ellipsoid("metal", "torso", (0.065, 0.095, 1.435), (0.021, 0.004, 0.018)),
        _make_bar("torso", (0.05, 0.11, 1.44), (-0.01, 0.15, 1.43), 0.001),
        _make_bar("torso", (-0.01, 0.15, 1.43), (-0.022, 0.16, 1.34), 0.001),
        _make_bar("torso", (-0.022, 0.16, 1.34), (0.03, 0.14, 1.285), 0.001),
    ]


def _make_fillings() -> list[Ellipsoid]:
    return [
        Ellipsoid("metal", "head", (x, y, 1.594), (0.0025, 0.0025, 0.002), weight=0.7)
        for x, y in ((-0.047, 0.155), (-0.003, 0.155), (-0.045, 0.146), (-0.008, 0.140))
    ]


# What may be built in, by IRMA's region; drawn for one image in twelve.
IMPLANTS: dict[str, tuple[Callable[[], list[Ellipsoid]], ...]] = {
    "cranium": (_make_fillings,),
    "spine": (_make_spinal_rods, _make_fillings),
    "chest": (_make_pacemaker, _make_sternal_wires, _make_spinal_rods),
    "upper extremity": (
        lambda: _make_plate("radius_r", (-.231, .158, 1.05), (-.237, .152, .95), (.018, .012, 0)),
        lambda: _make_plate("humerus_r", (-.205, .19, 1.40), (-.203, .19, 1.26), (.03, .003, 0)),
        lambda: [Ellipsoid("metal", "4proxph_r", (-.2335, .186, .832), (.010, .010, .002))],  # ring
        lambda: [_make_bar("humerus_r", (-.193, .198, 1.47), (-.185, .195, 1.22), .0042)],
    ),
    "lower extremity": (
        lambda: [_make_bar("femur_r", (-.128, .158, .92), (-.102, .155, .56), .0055),
                 _make_bar("femur_r", (-.13, .156, .875), (-.08, .156, .935), .005)],
        lambda: _make_plate("tibia_r", (-.125, .155, .25), (-.123, .155, .13), (.035, .004, 0)),
        lambda: [Ellipsoid("metal", "femur_r", (-.101, .152, .505), (.034, .03, .010)),
                 Ellipsoid("metal", "tibia_r", (-.101, .158, .488), (.036, .026, .004)),
                 _make_bar("tibia_r", (-.101, .158, .488), (-.101, .16, .45), .007)],
        lambda: _make_plate("tibia_r", (-.134, .172, .20), (-.128, .172, .12), (.03, -.004, 0), 5),
        lambda: [_make_bar("calcn_r", (-.088, .10, .09), (-.083, .05, .08), .002)],
    ),
}  # fmt: skip


def belongs_to(body: str, parts: frozenset[str]) -> bool:
    """Tell whether a body belongs to one of these parts (``hand_r``, ``thorax``)."""
    return find_part(body) in parts
