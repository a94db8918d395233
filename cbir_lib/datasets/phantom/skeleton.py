"""The bones: their shapes from ``musclemimic-models``, put where MuJoCo's joints say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from cbir_lib.datasets.phantom.parameters import require_packages
from cbir_lib.datasets.phantom.volumes import Volume, compute_signed_distances

MODEL = "myofullbody"
MIDLINE_X = -0.025  # metres: where the model's left and right meet
NECK_BASE = (MIDLINE_X, 0.245, 1.505)  # where the neck bends, standing

# Part of the body, by the beginning of a MuJoCo body's name; the first that fits counts.
PARTS = {
    "hand": (
        "lunate scaphoid pisiform triquetrum capitate trapezium trapezoid hamate firstmc secondmc "
        "thirdmc fourthmc fifthmc proximal_thumb distal_thumb 2 3 4 5"
    ),
    "arm": "humerus ulna radius",
    "shoulder": "clav scap hump acrom",
    "foot": "talus calcn toes",
    "leg": "femur tibia patella",
    "pelvis": "pelvis sacrum Full",
    "lumbar": "lumbar Abdomen",
    "head": "head neck",
    "thorax": "torso bimanual root thorax cervical_spine",
}


@dataclass(frozen=True)
class Tissue:
    """What a bone is made of: a cortical shell around spongy bone or marrow."""

    shaft_mm: float  # cortical thickness in the middle
    end_mm: float  # and at the ends
    middle: float  # density inside the shell, relative to cortical bone, in the middle
    ends: float  # and at the ends


# By the beginning of a bone's name.
TISSUES = {
    "femur humerus tibia": Tissue(5.5, 1.6, 0.05, 0.30),
    "fibula ulna radius": Tissue(3.2, 1.2, 0.08, 0.28),
    "1mc 2mc 3mc 4mc 5mc": Tissue(1.7, 0.8, 0.10, 0.35),
    "2prox 3prox 4prox 5prox thumb 2mid 3mid 4mid 5mid": Tissue(1.3, 0.7, 0.12, 0.35),
    "2dist 3dist 4dist 5dist": Tissue(0.9, 0.6, 0.3, 0.4),
    "pelvis sacrum scapula": Tissue(1.6, 1.3, 0.18, 0.22),
    "clavicle": Tissue(2.2, 1.2, 0.15, 0.3),
    "thoracic lumbar cervical": Tissue(1.0, 1.0, 0.18, 0.18),
    "rib": Tissue(1.1, 1.1, 0.25, 0.25),
    "skull": Tissue(3.4, 3.4, 0.3, 0.3),
    "jaw": Tissue(2.5, 2.5, 0.35, 0.35),
    "": Tissue(1.0, 1.0, 0.32, 0.32),  # short bones: wrist, ankle, foot, kneecap
}


def _find_by_prefix(table: Mapping, name: str):
    for prefixes, value in table.items():
        if any(name.startswith(prefix) for prefix in prefixes.split() or [""]):
            return value
    raise KeyError(name)


@cache
def find_part(body: str) -> str:
    """Find the part of the body, with its side where it has one: ``hand_r``, ``thorax``."""
    part = _find_by_prefix({words: name for name, words in PARTS.items()}, body)
    side = body[-2:] if body.endswith(("_r", "_l")) else ""
    return part + side


@dataclass(frozen=True)
class Bone:
    """One bone, in the frame of its body."""

    name: str
    body: str
    part: str
    volume: Volume
    tissue: Tissue


class Place:
    """Where a body is: world = rotation @ (scale * local) + position."""

    def __init__(self, rotation: np.ndarray, position: np.ndarray, scale: np.ndarray):
        self.matrix = rotation * scale  # columns scaled
        self.inverse = rotation.T / scale[:, None]
        self.position = position

    def to_world(self, local: np.ndarray) -> np.ndarray:
        """Map points (N, 3) or (3,) of the body to the world."""
        return local @ self.matrix.T + self.position

    def bend(self, rotation: np.ndarray, pivot: np.ndarray) -> Place:
        """Turn this place about a point of the world."""
        turned = object.__new__(Place)
        turned.matrix = rotation @ self.matrix
        turned.inverse = self.inverse @ rotation.T
        turned.position = rotation @ (self.position - pivot) + pivot
        return turned


class Skeleton:
    """All bones, and the joints that place them."""

    def __init__(self):
        import mujoco
        import musclemimic_models

        self._mujoco = mujoco
        self.model = mujoco.MjModel.from_xml_path(str(musclemimic_models.get_xml_path(MODEL)))
        self.data = mujoco.MjData(self.model)
        self._body_positions = self.model.body_pos.copy()
        names = [self._name("BODY", i) for i in range(self.model.nbody)]
        self.bodies = {name: i for i, name in enumerate(names)}
        self.parts = [find_part(name) if name != "world" else "world" for name in names]
        self.neck: dict[str, float] = {"neck": 0.6, "head": 1.0}  # share of a nod they take part in
        self.bones = [bone for geom in range(self.model.ngeom) for bone in self._list_bones(geom)]
        self.neck_base = np.zeros(3)  # in the frame of the trunk
        standing = self.places({}, {})["torso"]
        self.neck_base = standing.inverse @ (np.array(NECK_BASE) - standing.position)
        self.neutral = self.places({}, {})

    def _name(self, kind: str, i: int) -> str:
        return self._mujoco.mj_id2name(self.model, getattr(self._mujoco.mjtObj, f"mjOBJ_{kind}"), i)

    def _list_bones(self, geom: int) -> list[Bone]:
        model = self.model
        if model.geom_type[geom] != self._mujoco.mjtGeom.mjGEOM_MESH:
            return []
        mesh = model.geom_dataid[geom]
        first, number = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        vertices = model.mesh_vert[first : first + number].astype(float)
        first, number = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        faces = model.mesh_face[first : first + number]
        w, x, y, z = model.geom_quat[geom]
        vertices = Rotation.from_quat([x, y, z, w]).apply(vertices) + model.geom_pos[geom]
        body = self._name("BODY", model.geom_bodyid[geom])
        name = self._name("MESH", mesh)
        name = name.split("geom_")[-1].split("_", 1)[-1] if "_geom_" in name else name
        name = name.removeprefix("hat_").removeprefix("r_").removeprefix("l_")
        pieces = [(name, body, faces)]
        if name == "cervical":  # several vertebrae in one mesh; apart, the neck can bend
            pieces = [
                (name, self._add_neck_bone(height), piece)
                for height, piece in _separate_vertebrae(vertices, faces)
            ]
        bones = []
        for piece, owner, triangles in pieces:
            used, triangles = np.unique(triangles, return_inverse=True)
            corners = vertices[used]
            # About forty voxels across; finer than any pixel of a picture of this bone.
            step = float(np.clip(np.sort(np.ptp(corners, axis=0))[1] / 40, 0.0004, 0.0015))
            volume = compute_signed_distances(corners, triangles.reshape(-1, 3), step)
            bones.append(
                Bone(piece, owner, find_part(body), volume, _find_by_prefix(TISSUES, piece))
            )
        return bones

    def _add_neck_bone(self, height: float) -> str:
        """A body of its own for a neck bone; ``height`` is 0 for the lowest, 1 for the highest."""
        name = f"neck {len(self.neck)}"
        self.neck[name] = height
        return name

    def places(
        self,
        joints: Mapping[str, float],
        scales: Mapping[str, np.ndarray],
        nod: float = 0.0,
    ) -> dict[str, Place]:
        """Return where every body is.

        Parameters
        ----------
        joints
            Angles in radians by joint; the others are zero, or follow from these.
        scales
            (3,) factors by part of the body, without side.
        nod
            Forward bend of the neck in radians; the model has no joints there.
        """
        model, data = self.model, self.data
        one = np.ones(3)
        factors = np.array([scales.get(part.removesuffix("_r").removesuffix("_l"), one)
                            for part in self.parts])  # fmt: skip
        model.body_pos[:] = self._body_positions * factors[model.body_parentid]
        data.qpos[:] = model.qpos0
        for name, angle in joints.items():
            joint = model.joint(name)
            data.qpos[joint.qposadr[0]] = np.clip(angle, *joint.range)
        self._follow()
        self._mujoco.mj_kinematics(model, data)
        places = {
            name: Place(data.xmat[i].reshape(3, 3).copy(), data.xpos[i].copy(), factors[i])
            for name, i in self.bodies.items()
        }
        trunk, neck, head = places["torso"], places["neck"], places["head"]
        pivot = trunk.to_world(self.neck_base)
        sideways = trunk.matrix[:, 2] / np.linalg.norm(trunk.matrix[:, 2])
        for name, share in self.neck.items():
            turn = Rotation.from_rotvec(-sideways * nod * share).as_matrix()
            places[name] = (head if name == "head" else neck).bend(turn, pivot)
        return places

    def _follow(self) -> None:
        """Joints that are polynomials of others: spine, shoulder blade, knee."""
        model, qpos = self.model, self.data.qpos
        for e in range(model.neq):
            if model.eq_type[e] == self._mujoco.mjtEq.mjEQ_JOINT and model.eq_obj2id[e] >= 0:
                own = model.jnt_qposadr[model.eq_obj1id[e]]
                other = model.jnt_qposadr[model.eq_obj2id[e]]
                change = qpos[other] - model.qpos0[other]
                value = np.polynomial.polynomial.polyval(change, model.eq_data[e][:5])
                qpos[own] = model.qpos0[own] + value


def _separate_vertebrae(vertices: np.ndarray, faces: np.ndarray):
    """Height (0 lowest, 1 highest) and faces of the connected pieces of the neck."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_array((np.ones(len(edges)), edges.T), shape=(len(vertices),) * 2)
    count, of_vertex = connected_components(graph, directed=False)
    levels = [vertices[of_vertex == piece, 1].mean() for piece in range(count)]  # y points up
    for piece, level in enumerate(levels):
        height = (level - min(levels)) / (max(levels) - min(levels))
        yield float(height), faces[of_vertex[faces[:, 0]] == piece]


@lru_cache(maxsize=1)
def load_skeleton() -> Skeleton:
    """Load the skeleton, once a process.

    Raises
    ------
    CbirError
        When the packages of the extra ``phantom`` are not installed.
    """
    require_packages()
    return Skeleton()
