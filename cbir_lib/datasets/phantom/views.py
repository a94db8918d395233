"""What is photographed, from where, in which pose, and its IRMA code."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

FRONT, BACK = np.array([0.0, 1.0, 0.0]), np.array([0.0, -1.0, 0.0])  # beam enters there
FROM_RIGHT, FROM_LEFT = np.array([1.0, 0.0, 0.0]), np.array([-1.0, 0.0, 0.0])
UP, DOWN = np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, -1.0])
MIRRORED = {"210": "220", "220": "210"}  # right to left, left to right
TOES = np.array([0.0, -1.0, 0.0])


def interpolate_direction(a: np.ndarray, b: np.ndarray, share: float = 0.5) -> np.ndarray:
    """Interpolate between two directions."""
    d = (1 - share) * a + share * b
    return d / np.linalg.norm(d)


@dataclass(frozen=True)
class View:
    """One kind of radiograph. Positions and directions are those of the right side, standing.

    Attributes
    ----------
    direction, anatomy
        Axes of the IRMA code; a pair is (right, left).
    body
        The MuJoCo body that position and direction go with.
    beam
        Unit vector of travel.
    up
        What is up in the picture.
    centre : (x, y, z)
        In the middle of the picture, metres.
    field_m : (width, height)
        What the picture shows of the plane through the centre, metres.
    energy
        Hardness of the beam, 0 (mostly 30 keV) to 1 (about 60 keV), as for
        :func:`cbir_lib.datasets.phantom.exposure.compute_primary`.
    weight
        Share of the class, relative to the other views of the class.
    joints
        Ranges in degrees.
    seen
        Parts of the body in the beam.
    mirrored
        The film is turned over, as for a chest taken from behind.

    The directions 300 (axial) and 400 (other, here oblique) are not refined further.
    """

    name: str
    region: str
    direction: str
    anatomy: tuple[str, str]
    body: str
    beam: np.ndarray
    up: np.ndarray
    centre: tuple[float, float, float]
    field_m: tuple[float, float]
    energy: float
    weight: float
    joints: dict[str, tuple[float, float]] = field(default_factory=dict)
    seen: str = ""
    mirrored: bool = False

    def code(self, left: bool) -> str:
        """Return the IRMA code of what is drawn.

        Chest films are "high beam energy" (1123), as in IRMA, without a biological system; the
        others are "overview image" (1121) of the musculoskeletal system. The third characters of
        the anatomy are those of IRMA's lists; that they tell right from left is our reading. From
        which side a limb is taken follows from the side.
        """
        technique, system = ("1123", "000") if self.region == "chest" else ("1121", "700")
        direction = self.direction
        if left and self.sided and direction in MIRRORED and abs(self.beam[0]) > 0.5:
            direction = MIRRORED[direction]
        return f"{technique}-{direction}-{self.anatomy[left]}-{system}"

    @property
    def sided(self) -> bool:
        """Whether there is a right and a left one."""
        return self.body.endswith("_r")


ARM = "shoulder arm hand"
LEG = "leg foot"
TRUNK = "head thorax lumbar pelvis shoulder arm leg"
TRUNK_ARMS_UP = "head thorax lumbar pelvis leg"  # arms and shoulder blades above the picture
HEAD = "head thorax shoulder"

FINGERS = {
    f"{joint}{n}_flexion": (0, bend)
    for n in (2, 3, 4, 5)
    for joint, bend in (("mcp", 14), ("pm", 16), ("md", 10))
} | {
    "mcp2_abduction": (-10, 14),
    "mcp3_abduction": (-6, 6),
    "mcp4_abduction": (-10, 8),
    "mcp5_abduction": (-14, 10),
    "cmc_abduction": (-15, 30),
    "cmc_flexion": (-25, 15),
    "deviation": (-8, 15),
}
CURLED = FINGERS | {
    f"{joint}{n}_flexion": (8, bend)
    for n in (2, 3, 4, 5)
    for joint, bend in (("mcp", 35), ("pm", 45), ("md", 30))
}
KNEE = {"knee_angle": (0, 18), "hip_flexion": (0, 8)}
PLANTAR = {"ankle_angle": (-40, -32), "knee_angle": (30, 60)}
STRAIGHT = {"knee_angle": (0, 6)}
SHOULDERS = {"shoulder_elv": (2, 22), "elv_angle": (20, 70), "elbow_flex": (5, 25)}
ARMS_UP = {"shoulder_elv": (115, 150), "elv_angle": (60, 100), "elbow_flex": (30, 90)}
SPINE = {"flex_extension": (-12, 12), "lat_bending": (-9, 9), "axial_rotation": (-4, 4)}

# The palm looks to the middle of the body in the model, so the back of the hand looks outward.
DORSAL = np.array([1.0, 0.0, 0.0])  # into the back of the right hand, out of the palm
RADIAL = np.array([0.0, 1.0, 0.0])  # into the thumb's side

# fmt: off
VIEWS = (
    # cranium
    View("skull, frontal", "cranium", "120", ("200", "200"), "head", FRONT, UP, (-.025, .20, 1.672), (.22, .25), .45, 3, seen=HEAD),
    View("skull, from behind", "cranium", "110", ("200", "200"), "head", BACK, UP, (-.025, .20, 1.672), (.22, .25), .45, 2, seen=HEAD, mirrored=True),
    View("skull, lateral", "cranium", "210", ("200", "200"), "head", FROM_RIGHT, UP, (-.025, .20, 1.672), (.25, .24), .45, 3, seen=HEAD),
    View("neurocranium, frontal", "cranium", "120", ("230", "230"), "head", interpolate_direction(FRONT, DOWN, .18), UP, (-.025, .21, 1.695), (.20, .20), .45, 1.6, seen=HEAD),
    View("neurocranium, lateral", "cranium", "220", ("230", "230"), "head", FROM_LEFT, UP, (-.025, .21, 1.690), (.22, .19), .45, 1.6, seen=HEAD),
    View("nose and sinuses, frontal", "cranium", "110", ("213", "213"), "head", interpolate_direction(BACK, UP, .28), UP, (-.025, .15, 1.635), (.16, .17), .45, 2.2, seen=HEAD, mirrored=True),
    # spine
    View("cervical, frontal", "spine", "120", ("310", "310"), "neck", interpolate_direction(FRONT, UP, .12), UP, (-.025, .235, 1.555), (.16, .20), .35, 2.6, seen=HEAD),
    View("cervical, lateral", "spine", "210", ("310", "310"), "neck", FROM_RIGHT, UP, (-.025, .225, 1.565), (.19, .22), .35, 2.6, seen="head thorax"),
    View("cervical, oblique", "spine", "400", ("310", "310"), "neck", interpolate_direction(FRONT, FROM_RIGHT), UP, (-.025, .225, 1.560), (.17, .20), .35, 1, seen=HEAD),
    View("thoracic, frontal", "spine", "120", ("320", "320"), "torso", FRONT, UP, (-.025, .25, 1.36), (.18, .38), .55, 1.6, SPINE, seen=TRUNK),
    View("thoracic, lateral", "spine", "210", ("320", "320"), "torso", FROM_RIGHT, UP, (-.025, .245, 1.36), (.20, .38), .60, 1.3, SPINE | ARMS_UP, seen=TRUNK_ARMS_UP),
    View("lumbar, frontal", "spine", "120", ("330", "330"), "lumbar3", FRONT, UP, (-.025, .20, 1.125), (.20, .36), .60, 2.8, SPINE, seen=TRUNK),
    View("lumbar, lateral", "spine", "210", ("330", "330"), "lumbar3", FROM_RIGHT, UP, (-.025, .205, 1.125), (.20, .36), .70, 2.4, SPINE | ARMS_UP, seen=TRUNK_ARMS_UP),
    # upper extremity
    View("hand, from behind", "upper extremity", "110", ("415", "414"), "capitate_r", DORSAL, UP * -1, (-.232, .165, .845), (.16, .24), .0, 4.3, FINGERS, seen="hand arm"),
    View("hand, oblique", "upper extremity", "400", ("415", "414"), "capitate_r", interpolate_direction(DORSAL, RADIAL, .42), UP * -1, (-.232, .165, .845), (.16, .24), .0, 1.6, CURLED, seen="hand arm"),
    View("hand, lateral", "upper extremity", "210", ("415", "414"), "capitate_r", RADIAL, UP * -1, (-.230, .165, .85), (.14, .24), .05, .5, CURLED, seen="hand arm"),
    View("finger, from behind", "upper extremity", "110", ("411", "411"), "3proxph_r", DORSAL, UP * -1, (-.243, .166, .800), (.075, .13), .0, 2.0, FINGERS, seen="hand arm"),
    View("finger, lateral", "upper extremity", "210", ("411", "411"), "2proxph_r", RADIAL, UP * -1, (-.244, .146, .802), (.07, .12), .0, 1.1, FINGERS | {"mcp3_flexion": (50, 80), "pm3_flexion": (60, 80), "mcp4_flexion": (60, 80), "pm4_flexion": (60, 80), "mcp5_flexion": (60, 80), "pm5_flexion": (60, 80)}, seen="hand arm"),
    View("wrist, from behind", "upper extremity", "110", ("422", "421"), "lunate_r", DORSAL, UP * -1, (-.226, .172, .925), (.10, .15), .05, 1.6, FINGERS, seen="hand arm"),
    View("wrist, lateral", "upper extremity", "210", ("422", "421"), "lunate_r", RADIAL, UP * -1, (-.226, .172, .925), (.10, .15), .05, 1.2, FINGERS, seen="hand arm"),
    View("forearm, frontal", "upper extremity", "120", ("432", "431"), "ulna_r", interpolate_direction(FRONT, FROM_LEFT, .35), UP, (-.207, .185, 1.06), (.14, .31), .1, .9, {"elbow_flex": (0, 10), "pro_sup": (-60, -30)}, seen=ARM),
    View("forearm, lateral", "upper extremity", "210", ("432", "431"), "ulna_r", FROM_RIGHT, UP, (-.207, .165, 1.07), (.17, .31), .1, .7, {"elbow_flex": (50, 95)}, seen=ARM),
    View("elbow, frontal", "upper extremity", "120", ("442", "441"), "ulna_r", FRONT, UP, (-.192, .193, 1.18), (.12, .17), .1, 1.5, {"elbow_flex": (0, 12), "pro_sup": (-70, -30)}, seen=ARM),
    View("elbow, lateral", "upper extremity", "210", ("442", "441"), "ulna_r", FROM_RIGHT, UP, (-.192, .175, 1.18), (.15, .16), .1, 1.3, {"elbow_flex": (70, 110)}, seen=ARM),
    View("upper arm, frontal", "upper extremity", "120", ("452", "451"), "humerus_r", FRONT, UP, (-.19, .195, 1.33), (.16, .34), .2, .8, SHOULDERS, seen="shoulder arm thorax"),
    View("shoulder, frontal", "upper extremity", "120", ("463", "463"), "scapula_r", FRONT, UP, (-.165, .205, 1.46), (.21, .20), .35, 1.8, SHOULDERS, seen="shoulder arm thorax head"),
    View("shoulder, oblique", "upper extremity", "400", ("462", "462"), "scapula_r", interpolate_direction(FRONT, FROM_RIGHT, .38), UP, (-.165, .205, 1.45), (.20, .22), .35, 1.2, SHOULDERS, seen="shoulder arm thorax"),
    # chest
    View("chest, from behind", "chest", "110", ("500", "500"), "torso", BACK, UP, (-.025, .19, 1.365), (.37, .40), .95, 5.2, SPINE | {"shoulder_elv": (15, 60), "elv_angle": (0, 60)}, seen=TRUNK, mirrored=True),
    View("chest, from the front", "chest", "120", ("500", "500"), "torso", FRONT, UP, (-.025, .19, 1.36), (.39, .38), .70, 3.0, SPINE | SHOULDERS, seen=TRUNK),
    View("chest, lateral", "chest", "220", ("500", "500"), "torso", FROM_LEFT, UP, (-.025, .19, 1.36), (.31, .40), .95, 2.4, SPINE | ARMS_UP, seen=TRUNK_ARMS_UP),
    # lower extremity
    View("foot, from above", "lower extremity", "120", ("915", "914"), "calcn_r", interpolate_direction(DOWN, FRONT, .12), TOES, (-.115, .075, .085), (.13, .25), .15, 2.2, PLANTAR, seen=LEG),
    View("foot, oblique", "lower extremity", "400", ("915", "914"), "calcn_r", interpolate_direction(DOWN, FROM_LEFT, .40), TOES, (-.115, .085, .085), (.14, .25), .15, 1.6, PLANTAR, seen=LEG),
    View("foot, lateral", "lower extremity", "210", ("915", "914"), "calcn_r", FROM_RIGHT, UP, (-.11, .095, .095), (.28, .17), .05, 1.1, {"ankle_angle": (-10, 12)}, seen=LEG),
    View("toes, from above", "lower extremity", "120", ("911", "911"), "toes_r", DOWN, TOES, (-.118, .005, .075), (.12, .12), .0, 1.0, seen="foot"),
    View("ankle, frontal", "lower extremity", "120", ("922", "921"), "talus_r", interpolate_direction(FRONT, FROM_LEFT, .12), UP, (-.105, .165, .13), (.13, .19), .1, 2.4, STRAIGHT, seen=LEG),
    View("ankle, lateral", "lower extremity", "220", ("922", "921"), "talus_r", FROM_LEFT, UP, (-.105, .16, .12), (.17, .19), .1, 2.1, {"ankle_angle": (-15, 12)}, seen=LEG),
    View("lower leg, frontal", "lower extremity", "120", ("932", "931"), "tibia_r", FRONT, UP, (-.108, .160, .31), (.17, .43), .15, .8, STRAIGHT, seen=LEG),
    View("lower leg, lateral", "lower extremity", "210", ("932", "931"), "tibia_r", FROM_RIGHT, UP, (-.108, .165, .31), (.18, .43), .15, .7, KNEE, seen=LEG),
    View("knee, frontal", "lower extremity", "120", ("942", "941"), "tibia_r", FRONT, UP, (-.101, .156, .515), (.16, .23), .2, 2.4, STRAIGHT, seen=LEG),
    View("knee, lateral", "lower extremity", "220", ("942", "941"), "tibia_r", FROM_LEFT, UP, (-.101, .148, .520), (.18, .23), .2, 1.9, {"knee_angle": (15, 55)}, seen=LEG),
    View("kneecap, axial", "lower extremity", "300", ("943", "943"), "patella_r", DOWN, TOES, (-.101, .125, .525), (.13, .11), .2, 1.2, {"knee_angle": (75, 100)}, seen=LEG),
    View("thigh, frontal", "lower extremity", "120", ("952", "951"), "femur_r", FRONT, UP, (-.115, .155, .71), (.20, .44), .35, .7, STRAIGHT, seen=LEG + " pelvis"),
    View("hip, frontal", "lower extremity", "120", ("962", "961"), "femur_r", FRONT, UP, (-.110, .155, .90), (.22, .26), .5, 1.9, {"hip_flexion": (-2, 8), "hip_adduction": (-10, 6), "hip_rotation": (-15, 15)}, seen=LEG + " pelvis lumbar"),
    View("hip, oblique", "lower extremity", "400", ("962", "961"), "femur_r", interpolate_direction(FRONT, FROM_LEFT, .35), UP, (-.110, .155, .89), (.21, .26), .5, .8, {"hip_flexion": (20, 45), "hip_adduction": (-35, -15)}, seen=LEG + " pelvis lumbar"),
)
# fmt: on
