"""Drawing a phantom radiograph: shapes, rays, exposure, views; against closed forms and sums."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.stats import kstest, truncnorm

from cbir_lib import irma_code
from cbir_lib.datasets.phantom import body, exposure, rays, recipe, render
from cbir_lib.datasets.phantom.exposure import Paths
from cbir_lib.datasets.phantom.parameters import Exposure, Subject
from cbir_lib.datasets.phantom.skeleton import Place, load_skeleton
from cbir_lib.datasets.phantom.views import VIEWS
from cbir_lib.datasets.phantom.volumes import Volume, compute_signed_distances

MESH = 7  # MuJoCo's number of the geometries that are triangles
few = settings(max_examples=15, deadline=None)
BY_NAME = {view.name: view for view in VIEWS}
LIMBS = [view for view in VIEWS if view.sided]


def rng(seed=0):
    return np.random.default_rng(seed)


# From triangles to distances


def sphere(radius):
    """An octahedron, each triangle divided into four, five times, and blown up: 8192 triangles.

    Turned, so that no edge lies along a line of voxels.
    """
    signs = [(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]
    faces = np.array(
        [np.diag(s)[:: 1 if np.prod(s) > 0 else -1] for s in signs], dtype=float
    )  # counter-clockwise from outside
    for _ in range(5):
        a, b, c = faces[:, 0], faces[:, 1], faces[:, 2]
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        pieces = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = np.concatenate([np.stack(piece, axis=1) for piece in pieces])
    faces /= np.linalg.norm(faces, axis=2, keepdims=True)
    faces = Rotation.from_rotvec((0.3, 0.5, 0.7)).apply(faces.reshape(-1, 3))
    return radius * faces, np.arange(len(faces)).reshape(-1, 3)


def cuboid(half):
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return corners, np.array([t for a, b, c, d in sides for t in ((a, b, c), (a, c, d))])


def mesh_volume(vertices, faces):
    """Tetrahedra from the origin to every triangle."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return np.einsum("ij,ij->", a, np.cross(b, c)) / 6


def filled(volume):
    return (volume.distances < 0).sum() * volume.step**3


def positions(volume):
    return volume.origin + np.moveaxis(np.indices(volume.distances.shape), 0, -1) * volume.step


def to_sphere(points, radius):
    return np.linalg.norm(points, axis=-1) - radius


def to_cuboid(points, half):
    beyond = np.abs(points) - half
    outside = np.linalg.norm(np.maximum(beyond, 0), axis=-1)
    return outside + np.minimum(beyond.max(axis=-1), 0)


HALF = np.array([0.0113, 0.0171, 0.0257])


@pytest.mark.parametrize(
    ("mesh", "exact"),
    [(sphere(0.02), lambda p: to_sphere(p, 0.02)), (cuboid(HALF), lambda p: to_cuboid(p, HALF))],
    ids=["sphere", "cuboid"],
)
def test_distances_are_those_of_the_closed_form(mesh, exact):
    volume = compute_signed_distances(*mesh, 0.0008)
    error = np.abs(volume.distances - exact(positions(volume)))
    assert error.max() < 1.6 * volume.step  # in the very middle, which smoothing fills
    assert (error < volume.step).mean() > 0.995
    assert error.mean() < 0.4 * volume.step
    assert filled(volume) == pytest.approx(mesh_volume(*mesh), rel=0.02)


@pytest.mark.parametrize("fault", ["holes", "flipped"])
def test_a_faulty_mesh_is_filled_all_the_same(fault):
    vertices, faces = sphere(0.02)
    whole = mesh_volume(vertices, faces)
    chosen = rng().choice(len(faces), 40, replace=False)
    if fault == "holes":
        faces = np.delete(faces, chosen, axis=0)
    else:
        faces[chosen] = faces[chosen, ::-1]
    assert filled(compute_signed_distances(vertices, faces, 0.0008)) == pytest.approx(
        whole, rel=0.02
    )


def meshes():
    """Bones of one piece: the bone, vertices in its body's frame, and faces."""
    bones, model = load_skeleton(), load_skeleton().model
    whole = iter(bone for bone in bones.bones if bone.name != "cervical")
    for geom, mesh in enumerate(model.geom_dataid):  # in the order of the bones
        if model.geom_type[geom] != MESH or "cervical" in bones._name("MESH", mesh):
            continue
        first, number = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        vertices = model.mesh_vert[first : first + number].astype(float)
        first, number = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        w, x, y, z = model.geom_quat[geom]
        vertices = Rotation.from_quat([x, y, z, w]).apply(vertices) + model.geom_pos[geom]
        yield next(whole), vertices, model.mesh_face[first : first + number]
    assert not list(whole)


def is_closed(vertices, faces):
    """Every edge is there once in each direction."""
    _, same = np.unique(vertices.round(7), axis=0, return_inverse=True)
    faces = same.reshape(-1)[faces]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[edges[:, 0] != edges[:, 1]]
    there, back = np.unique(edges, axis=0), np.unique(edges[:, ::-1], axis=0)
    return len(there) == len(edges) and np.array_equal(there, back)


def test_closed_bones_keep_their_volume():
    ratios = {
        bone.name: filled(bone.volume) / mesh_volume(vertices, faces)
        for bone, vertices, faces in meshes()
        if is_closed(vertices, faces)
    }
    assert len(ratios) > 40
    assert {"femur", "patella", "sacrum", "lunate_r", "3proxph_l"} <= set(ratios)
    assert all(0.95 < ratio < 1.02 for ratio in ratios.values()), ratios


def winding(points, vertices, faces):
    """Generalised winding number (Jacobson et al. 2013): solid angles over 4 pi, 1 inside."""
    a, b, c = (vertices[faces[:, i]] - points[:, None] for i in range(3))
    la, lb, lc = (np.linalg.norm(side, axis=2) for side in (a, b, c))
    above = np.einsum("ijk,ijk->ij", a, np.cross(b, c))
    below = la * lb * lc + (a * b).sum(2) * lc + (b * c).sum(2) * la + (c * a).sum(2) * lb
    return np.arctan2(above, below).sum(axis=1) / (2 * np.pi)


def test_leaky_bones_are_filled_where_the_winding_number_says():
    leaky = [(b, v, f) for b, v, f in meshes() if not is_closed(v, f) and len(f) < 2000]
    assert {"humerus_r", "ulna_l", "radius_r", "scapula_l"} <= {bone.name for bone, *_ in leaky}
    for bone, vertices, faces in leaky:
        distances, origin, step = bone.volume
        near = np.argwhere((np.abs(distances) > step) & (np.abs(distances) < 4 * step))
        chosen = near[rng().choice(len(near), 120, replace=False)]
        inside = winding(origin + chosen * step, vertices, faces) > 0.5
        agree = (distances[tuple(chosen.T)] < 0) == inside
        assert agree.mean() > 0.95, bone.name


# Rays

STANDING = Place(np.eye(3), np.zeros(3), np.ones(3))
R = 0.03  # radius of what is photographed
FAR, NEAR = 1.0, 0.0


def beam(shape=(24, 20), width=0.08, turn=None, offset=(0, 0, 0), source=(0.011, -1.0, 0.013)):
    """From the front onto a plane around the origin; all of it turned and moved."""
    turn = Rotation.identity() if turn is None else turn
    pixel = width / max(shape)
    source, down, right = turn.apply([source, (0, 0, -pixel), (pixel, 0, 0)])
    return rays.Beam.through(source + offset, np.array(offset, dtype=float), down, right, shape)


def all_of(picture):
    rows, columns, _ = picture.directions.shape
    return 0, rows, 0, columns


def chord(picture, radius, matrix=None, centre=(0, 0, 0)):
    """Of a sphere that ``matrix`` (3, 3) makes an ellipsoid: by the distance from its centre."""
    inverse = np.linalg.inv(np.eye(3) if matrix is None else matrix)
    start = inverse @ (picture.source - centre)
    ways = picture.directions @ inverse.T
    stretch = np.linalg.norm(ways, axis=2)
    ways = ways / stretch[..., None]
    apart = np.linalg.norm(start - (ways @ start)[..., None] * ways, axis=2)
    return 2 * np.sqrt(np.maximum(radius**2 - apart**2, 0)) / stretch


def ball(radius=R, step=0.0007, half=None):
    """The field of a sphere, or of a cuboid, without a mesh."""
    reach = np.full(3, radius) if half is None else np.asarray(half)
    shape = tuple(np.ceil(2 * reach / step).astype(int) + 7)
    volume = Volume(np.zeros(shape, dtype=np.float32), -(np.array(shape) - 1) / 2 * step, step)
    points = positions(volume)
    exact = to_sphere(points, radius) if half is None else to_cuboid(points, reach)
    return volume._replace(distances=exact.astype(np.float32))


def bone_path(
    picture, volume, place=STANDING, shell=(FAR, FAR), spongy=(0, 0), base=None, face=-1.0,
    window=None, long_axis=2,
):  # fmt: skip
    path = np.zeros(picture.directions.shape[:2])
    matrix, offset = volume.from_world(place)
    rays.add_bone(
        path, picture, window or all_of(picture), volume.distances, volume.step, matrix, offset,
        long_axis, *shell, np.array(spongy, dtype=float), np.zeros(4) if base is None else base,
        face,
    )  # fmt: skip
    return path


def assert_near(lengths, exact, step):
    """Within steps along the ray; more where it only grazes, which is short."""
    error = np.abs(lengths - exact)
    assert error[exact > 20 * step].max() < 1.2 * step
    assert error.max() < 8 * step
    assert error.mean() < 0.4 * step


def test_solid_bone_is_its_chord():
    picture, volume = beam(), ball()
    exact = chord(picture, R)
    assert exact.max() > 0.98 * 2 * R and (exact == 0).any()
    assert_near(bone_path(picture, volume), exact, volume.step)
    assert_near(bone_path(picture, volume, shell=(0, 0), spongy=(1, 1)), exact, volume.step)


def test_shell_is_the_difference_of_two_chords():
    picture, volume = beam(), ball()
    outer, inner = chord(picture, R), chord(picture, R - 0.005)
    for spongy in (0.0, 0.3):
        path = bone_path(picture, volume, shell=(0.005, 0.005), spongy=(spongy, spongy))
        error = np.abs(path - (outer - (1 - spongy) * inner))
        assert error[inner > 0.02].max() < 1.5 * volume.step
        assert error.mean() < 0.4 * volume.step


def test_shell_is_thick_in_the_shaft_and_thin_at_the_ends():
    volume = ball(half=(0.012, 0.012, 0.05))
    picture = beam((41, 3), width=0.082, source=(0, -1.0, 0))
    path = bone_path(picture, volume, shell=(0.004, 0.001))[:, 1]
    height = np.linspace(0.041, -0.041, 41)
    assert path[np.abs(height) < 0.012] == pytest.approx(0.008, abs=0.0007)
    assert path[np.abs(height) > 0.038] == pytest.approx(0.002, abs=0.0007)
    assert (np.diff(path[:21]) > -0.0005).all()


def test_above_its_base_a_skull_is_hollow():
    volume = ball()
    picture = beam((25, 3), width=0.05, source=(0, -1.0, 0))
    at_middle = (np.array(volume.distances.shape) - 1) / 2
    base = np.array([0, 0, 1, -at_middle[2]])  # hollow in the upper half
    path = bone_path(picture, volume, shell=(0, 0), spongy=(1, 1), base=base, face=0.16)[:, 1]
    exact = 0.16 * chord(picture, R)[:, 1]
    assert path[:11] == pytest.approx(0, abs=volume.step)  # what is left of a shell without depth
    assert path[14:] == pytest.approx(exact[14:], abs=volume.step)


angles = st.tuples(*[st.floats(-3, 3)] * 3)
moves = st.tuples(*[st.floats(-2, 2)] * 3)
stretches = st.tuples(*[st.floats(0.7, 1.4)] * 3)
VOLUME = ball(step=0.001)


@few
@given(angles, angles, moves, stretches)
def test_a_bone_is_stretched_turned_and_moved_with_its_body(own, whole, move, scale):
    own, whole = Rotation.from_rotvec(own), Rotation.from_rotvec(whole)
    standing = Place(own.as_matrix(), np.zeros(3), np.array(scale))
    exact = chord(beam(), R, standing.matrix)
    before = bone_path(beam(), VOLUME, standing)
    assert_near(before, exact, 1.4 * VOLUME.step)
    turned = Place((whole * own).as_matrix(), np.array(move), np.array(scale))
    after = bone_path(beam(turn=whole, offset=move), VOLUME, turned)
    assert after == pytest.approx(before, abs=0.1 * VOLUME.step)


@few
@given(angles, st.tuples(*[st.floats(-0.09, 0.09)] * 3), stretches)
def test_the_window_holds_the_whole_shadow(turn, move, scale):
    # Also where a bone lies partly or wholly beside the picture.
    place = Place(Rotation.from_rotvec(turn).as_matrix(), np.array(move), np.array(scale))
    picture = beam()
    whole = bone_path(picture, VOLUME, place)
    window = picture.window(place.to_world(VOLUME.corners()))
    assert np.array_equal(bone_path(picture, VOLUME, place, window=window), whole)


def test_the_window_is_no_larger_than_a_box_seen_flat():
    picture = beam((40, 40), width=0.08, source=(0, -1.0, 0))  # pixels of 2 mm
    top, bottom, left, right = picture.window(body.compute_box(np.eye(3) * 0.01, np.zeros(3)))
    shadow = 0.01 * 1.0 / 0.99 / 0.002  # the near side of the box, in pixels from the middle
    assert (top, left) == (int(19.5 - shadow),) * 2
    assert (bottom, right) == (int(np.ceil(19.5 + shadow)) + 1,) * 2
    behind = picture.window(np.array([[0, -2.0, 0], [0, 0, 0]]))
    assert behind == all_of(picture)


@few
@given(angles, moves, stretches, st.floats(0.1, 2))
def test_ellipsoids_are_exact_chords(turn, move, scale, weight):
    axes = Rotation.from_rotvec(turn).as_matrix() * np.array(scale) * 0.02
    centre = np.array(move) * 0.02
    picture, path = beam(), np.zeros((24, 20))
    windows = np.array([picture.window(body.compute_box(axes, centre))] * 2)
    matrices = body.compute_unit_transforms([(axes, centre)] * 2)
    rays.add_ellipsoids(path, picture, windows, matrices, np.array([weight, 0.5]))
    exact = (weight + 0.5) * chord(picture, 1.0, axes, centre)
    assert path == pytest.approx(exact, abs=1e-6)  # a grazing ray loses half of the digits


# Skin and lungs

FINE = 0.0001  # metres between two samples of a ray


def along(picture, inside):
    """Brute force: metres of each ray where ``inside`` holds."""
    t = np.arange(0.9, 1.12, FINE)
    points = picture.source + t[:, None, None, None] * picture.directions
    return inside(points).sum(axis=0) * FINE


def to_capsule(points, a, b, radius_a, radius_b):
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    share = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    on_axis = a + share[..., None] * (b - a)
    return np.linalg.norm(points - on_axis, axis=-1) - (radius_a + (radius_b - radius_a) * share)


def melted(first, second, width):
    """Smooth minimum (Quilez): as the smaller, but less by up to a quarter where both are alike."""
    overlap = np.maximum(width - np.abs(first - second), 0) / width
    return np.minimum(first, second) - overlap**2 * width / 4


def capsule_space(a, b):
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    length = np.linalg.norm(b - a)
    turn, _ = Rotation.align_vectors([[0, 0, 1]], [(b - a) / length])
    matrix = turn.as_matrix()
    return np.column_stack([matrix, -matrix @ a]), length


def skin(picture, capsules, fat_depth=0.0, blend=1e-6):
    """Soft tissue and fat of capsules (a, b, radius_a, radius_b)."""
    soft, fat = np.zeros((2, *picture.directions.shape[:2]))
    matrices, lengths = zip(*(capsule_space(a, b) for a, b, *_ in capsules), strict=True)
    radii = np.array([c[2:] for c in capsules])
    arrays = np.array(matrices), np.array(lengths), radii, np.ones(len(capsules))
    rays.add_skin(soft, fat, picture, *arrays, fat_depth, blend)
    return soft, fat


PACE = 0.0025  # metres that add_skin goes at once
LIMB = ((-0.03, 0.01, -0.02), (0.03, -0.01, 0.02), 0.025, 0.012)
OTHER = ((0.03, -0.01, 0.02), (-0.02, 0.0, 0.05), 0.012, 0.016)
WIDE = {"width": 0.14}


def assert_nearly(lengths, exact, bound=1.1 * PACE):
    error = np.abs(lengths - exact)
    assert error[exact > 0.01].max() < bound
    assert error.mean() < 0.25 * bound
    assert lengths[exact > 0.01].mean() == pytest.approx(exact[exact > 0.01].mean(), rel=0.03)


def test_a_capsule_of_no_length_is_a_sphere():
    picture = beam(**WIDE)
    soft, fat = skin(picture, [((0, 0, -5e-5), (0, 0, 5e-5), R, R)])
    assert_nearly(soft + fat, chord(picture, R))


def test_across_a_capsule_the_path_is_that_of_a_cylinder():
    picture = beam((5, 41), width=0.08, source=(0, -1.0, 0))
    soft, fat = skin(picture, [((0, 0, -0.1), (0, 0, 0.1), R, R)])
    assert_nearly((soft + fat)[2], chord(picture, R)[2])  # rays of the middle row lie in a plane


@pytest.mark.parametrize("blend", [1e-6, 0.012])
def test_skin_is_the_smooth_union_of_its_capsules(blend):
    picture = beam(**WIDE)

    def distance(points):
        return melted(to_capsule(points, *LIMB), to_capsule(points, *OTHER), blend)

    soft, fat = skin(picture, [LIMB, OTHER], 0.004, blend)
    assert_nearly(soft + fat, along(picture, lambda p: distance(p) < 0))
    assert_nearly(soft, along(picture, lambda p: distance(p) < -0.004), 1.6 * PACE)


def test_the_union_of_two_equal_capsules_is_one():
    picture = beam(**WIDE)
    alone = sum(skin(picture, [LIMB]))
    assert sum(skin(picture, [LIMB, LIMB])) == pytest.approx(alone, abs=1e-5)
    # Melting together makes it thicker, by a quarter of the width of melting.
    thicker = (*LIMB[:2], LIMB[2] + 0.003, LIMB[3] + 0.003)
    both = sum(skin(picture, [LIMB, LIMB], 0.0, 0.012))
    assert_nearly(both, sum(skin(picture, [thicker])))


@few
@given(angles, moves)
def test_skin_does_not_depend_on_where_the_world_begins(turn, move):
    turn = Rotation.from_rotvec(turn)
    a, b = turn.apply([LIMB[0], LIMB[1]]) + np.array(move)
    before = skin(beam(**WIDE), [LIMB], 0.003)
    after = skin(beam(turn=turn, offset=move, **WIDE), [(a, b, *LIMB[2:])], 0.003)
    assert np.array(after) == pytest.approx(np.array(before), abs=1e-3)


def test_lungs_are_the_cavity_less_what_lies_in_it():
    picture, volume = beam(), ball()
    centre, axes = np.array([0.012, 0.0, 0.0]), np.eye(3) * np.array([0.01, 0.02, 0.015])
    path = np.zeros((24, 20))
    matrix, offset = volume.from_world(STANDING)
    arguments = volume.distances, volume.step, matrix, offset
    rays.add_lungs(path, picture, all_of(picture), *arguments, np.zeros((0, 3, 4)))
    assert_near(path, chord(picture, R), volume.step)
    path[:] = 0
    carved = body.compute_unit_transforms([(axes, centre)])
    rays.add_lungs(path, picture, all_of(picture), *arguments, carved)
    exact = chord(picture, R) - chord(picture, 1.0, axes, centre)
    assert np.abs(path - exact).mean() < volume.step  # the edge of what is carved is soft
    assert np.abs(path - exact).max() < 0.008


# Exposure


def paths(soft=0.0, fat=0.0, bone=0.0, metal=0.0, shape=(32, 32)):
    return Paths(*(np.zeros(shape) + layer for layer in (soft, fat, bone, metal)))


# cm2/g at 30, 40, 60 and 80 keV (NIST, tables 3 and 4) and g/cm3.
NIST = {
    "soft": ((0.3756, 0.2683, 0.2059, 0.1837), 1.04),
    "fat": ((0.3063, 0.2396, 0.1974, 0.1800), 0.95),
    "bone": ((1.331, 0.6655, 0.3148, 0.2229), 1.92),
    "metal": ((8.176, 3.629, 1.205, 0.5952), 7.87),
}
# Share of the four energies at three settings, by hand.
SPECTRA = {
    0.0: (2 / 3, 1 / 3, 0, 0),
    0.5: (1 / 4, 1 / 2, 1 / 4, 0),
    0.75: (0, 1 / 2, 1 / 2, 0),
    1.0: (0, 1 / 4, 1 / 2, 1 / 4),
}


@pytest.mark.parametrize("tissue", NIST)
@pytest.mark.parametrize("energy", SPECTRA)
def test_primary_is_beer_and_lambert(tissue, energy):
    coefficients, density = NIST[tissue]
    for centimetres in (0.0, 0.2, 1.0, 3.0):
        by_hand = sum(
            share * np.exp(-mass * density * centimetres)
            for share, mass in zip(SPECTRA[energy], coefficients, strict=True)
        )
        primary = exposure.compute_primary(paths(**{tissue: centimetres / 100}), energy)
        assert primary == pytest.approx(by_hand, rel=1e-9)


def test_one_energy_multiplies(monkeypatch):
    for name in ("SOFT", "FAT", "BONE", "METAL"):  # as if all energies were 40 keV
        monkeypatch.setattr(exposure, name, np.full(4, getattr(exposure, name)[1]))
    layers = {"soft": 0.1, "fat": 0.02, "bone": 0.01, "metal": 0.001}
    together = exposure.compute_primary(paths(**layers), 0.4)
    alone = [
        exposure.compute_primary(paths(**{name: depth}), 0.4) for name, depth in layers.items()
    ]
    assert together == pytest.approx(np.prod(alone, axis=0), rel=1e-9)
    assert alone[0] == pytest.approx(np.exp(-0.2683 * 1.04 * 10), rel=1e-9)


def test_more_tissue_passes_less_and_a_harder_beam_more():
    for tissue in NIST:
        depth = np.linspace(0, 0.03 if tissue == "metal" else 0.3, 32)
        before = None
        for energy in np.linspace(0, 1, 5):
            beams = exposure.compute_primary(paths(**{tissue: depth}), energy)
            assert (np.diff(beams, axis=1) < 0).all()
            assert (before is None) or (beams[:, 1:] > before[:, 1:]).all()
            before = beams


CLEAN = Exposure.middle().with_(photons=1e15, scatter=0.0, blur_px=1e-3, fog=0.0, darkness=0.0)
OPEN = np.ones((32, 32))


def test_grey_rises_with_what_is_in_the_way():
    depth = np.linspace(0.02, 0.25, 32)
    film = exposure.expose(paths(soft=depth), 0.5, CLEAN, OPEN, rng())
    assert (np.diff(film.grey.astype(int), axis=1) >= 0).all()
    assert np.ptp(film.grey) > 100
    assert film.detected == pytest.approx(film.primary, rel=1e-6)
    darker = exposure.expose(paths(soft=depth), 0.5, CLEAN.with_(darkness=0.2), OPEN, rng())
    assert (darker.grey <= film.grey).all() and darker.grey.mean() < film.grey.mean() - 5
    steeper = exposure.expose(paths(soft=depth), 0.5, CLEAN.with_(gamma=3.3), OPEN, rng())
    assert np.ptp(steeper.grey) > np.ptp(film.grey)


@pytest.mark.parametrize("photons", [100.0, 400.0, 6000.0])
def test_noise_is_that_of_counting_photons(photons):
    flat, wide = paths(soft=0.1, shape=(300, 300)), np.ones((300, 300))
    film = exposure.expose(flat, 0.5, CLEAN.with_(photons=photons), wide, rng())
    relative = film.detected / film.primary
    spread = np.sqrt(2 / relative.size)  # of a sample variance, relative
    assert relative.mean() == pytest.approx(1, abs=5 / np.sqrt(photons * relative.size))
    assert relative.var() == pytest.approx(1 / photons, rel=5 * spread)


def test_scatter_adds_its_share_behind_a_thick_body():
    flat = paths(soft=0.3)
    film = exposure.expose(flat, 0.5, CLEAN.with_(scatter=0.8), OPEN, rng())
    assert film.detected == pytest.approx(film.primary * (1 + 0.8 * (1 - np.exp(-3.6))), rel=1e-6)


# Parameters


@pytest.mark.parametrize("table", [Subject, Exposure])
def test_every_parameter_says_its_range_and_keeps_to_it(table):
    drawn = [table.draw(rng(seed)) for seed in range(600)]
    middle = table.middle()
    for f in fields(table):
        low, high, kind = (f.metadata[key] for key in ("low", "high", "kind"))
        assert low < high and len(f.metadata["meaning"]) > 10
        assert table.at(f.name, 0) == pytest.approx(low)
        assert table.at(f.name, 1) == pytest.approx(high)
        logarithmic = kind == "log-uniform"
        half = np.sqrt(low * high) if logarithmic else (low + high) / 2
        assert getattr(middle, f.name) == pytest.approx(half)
        values = np.array([getattr(one, f.name) for one in drawn])
        assert low - 1e-12 <= values.min() and values.max() <= high + 1e-12
        if kind == "normal, clipped":
            inner = values[(values > low) & (values < high)]
            assert 0.02 < 1 - len(inner) / len(values) < 0.08  # 4.6 % beyond two deviations
            u = truncnorm.cdf(4 * (inner - half) / (high - low), -2, 2)
        else:
            scale = np.log if logarithmic else np.asarray
            u = (scale(values) - scale(low)) / (scale(high) - scale(low))
        assert kstest(u, "uniform").pvalue > 1e-4, f.name


def test_changing_one_value_keeps_the_others():
    one = Subject.draw(rng())
    other = one.with_(heart=1.0)
    assert {f.name for f in fields(Subject) if getattr(one, f.name) != getattr(other, f.name)} == {
        "heart"
    }


# Views

SIDES = pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
each_view = pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)


@SIDES
@each_view
def test_the_code_says_what_is_drawn(view, left):
    code = irma_code.parse_code(view.code(left and view.sided))
    assert irma_code.name_region(code) == view.region
    words = irma_code.describe_axis("direction", code.direction)[0]
    for name, plane in (("lateral", "sagittal"), ("frontal", "coronal"), ("axial", "axial")):
        assert name not in view.name or words == plane
    assert view.name.endswith("oblique") == (words == "other direction")
    assert view.sided or len(set(view.anatomy)) == 1


TOWARDS = {
    "11": (0, -1, 0),  # from the back to the front
    "12": (0, 1, 0),
    "21": (1, 0, 0),  # from the right to the left
    "22": (-1, 0, 0),
}
# A hand hangs with its palm to the body, and a foot stands across the leg: these keep to own axes.
ON_THE_BODY = [
    view
    for view in VIEWS
    if view.direction[:2] in TOWARDS and "hand" not in view.seen and abs(view.beam[2]) < 0.7
]


@SIDES
@pytest.mark.parametrize("view", ON_THE_BODY, ids=lambda view: view.name)
def test_the_beam_goes_where_the_code_says(view, left):
    left = left and view.sided
    beam = view.beam * (-1 if left else 1, 1, 1)
    direction = irma_code.parse_code(view.code(left)).direction
    assert beam @ TOWARDS[direction[:2]] > 0.7


@each_view
def test_a_view_moves_joints_of_the_model_within_their_range(view):
    bones = load_skeleton()
    assert view.body in bones.bodies or view.body in bones.neck
    assert abs(view.beam @ view.up) < 0.7
    for left in (False, True):
        scene = replace(render.Scene.middle(view), left=left)
        parts = render.find_parts_in_beam(scene)
        assert parts <= {bone.part for bone in bones.bones}
        for name, (low, high) in view.joints.items():
            assert low < high
            side = "" if name in render.SPINAL else "_l" if left else "_r"
            allowed = np.degrees(bones.model.joint(name + side).range)
            assert allowed[0] - 0.5 <= low and high <= allowed[1] + 0.5, name


def traced(scene, size=48):
    return render.trace_paths(scene, size, rng())[0]


@each_view
def test_bone_is_in_the_middle_of_every_view_and_under_the_skin(view):
    picture = traced(render.Scene.middle(view))
    rows, columns = picture.bone.shape
    assert max(rows, columns) == 48
    central = picture.bone[rows // 3 : -(rows // 3), columns // 3 : -(columns // 3)]
    assert central.max() > (0.008 if view.region in ("cranium", "spine", "chest") else 0.003)
    assert (central > 0.001).mean() > 0.1
    for layer in picture:
        assert np.isfinite(layer).all() and layer.min() >= 0
    # Soft tissue is what is under the skin less the bone in it: none where bone sticks out.
    thick = picture.bone > 0.003
    assert ((picture.soft + picture.fat)[thick] > 0.001).mean() >= 0.97


@pytest.mark.parametrize("view", LIMBS, ids=lambda view: view.name)
def test_a_left_limb_is_a_right_one_mirrored(view):
    scene = render.Scene.middle(view)
    right, left = traced(scene), traced(replace(scene, left=True))
    mirrored = np.fliplr(left.bone)
    assert np.corrcoef(mirrored.ravel(), right.bone.ravel())[0, 1] > 0.95
    assert np.abs(mirrored - right.bone).mean() < 0.0005
    assert np.abs(np.fliplr(left.soft) - right.soft).mean() < 0.03 * right.soft.mean() + 0.0005


@pytest.mark.parametrize("view", ["skull, frontal", "lumbar, frontal", "chest, from behind"])
def test_a_frontal_trunk_is_its_own_mirror_image(view):
    bone = traced(render.Scene.middle(BY_NAME[view])).bone
    assert np.corrcoef(np.fliplr(bone).ravel(), bone.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("view", ["chest, from behind", "chest, from the front"])
def test_the_heart_is_at_the_right_of_the_picture(view):
    # The patient's left, whichever way the beam goes.
    scene = render.Scene.middle(BY_NAME[view])
    small, large = (
        traced(replace(scene, subject=scene.subject.with_(heart=heart))).soft
        for heart in (0.85, 1.35)
    )
    more = (large - small).sum(axis=0)
    columns = np.arange(len(more))
    assert more.sum() > 0
    assert (more * columns).sum() / more.sum() > 0.52 * len(more)


def test_lungs_are_dark_and_a_deep_breath_makes_them_longer():
    scene = render.Scene.middle(BY_NAME["chest, from behind"])
    out, deep = (
        traced(replace(scene, subject=scene.subject.with_(breath=breath))).soft
        for breath in (-1.0, 1.0)
    )
    assert deep.sum() < 0.99 * out.sum()
    rows, columns = deep.shape
    lung = deep[rows // 3 : rows // 2, columns // 5 : columns // 3].mean()
    mediastinum = deep[rows // 3 : rows // 2, 9 * columns // 20 : 11 * columns // 20].mean()
    assert lung < 0.8 * mediastinum


def test_denser_bones_and_a_larger_girth_are_seen():
    scene = render.Scene.middle(BY_NAME["knee, frontal"])
    base = traced(scene)
    dense = traced(replace(scene, subject=scene.subject.with_(density=1.2)))
    stout = traced(replace(scene, subject=scene.subject.with_(habitus=1.35)))
    assert dense.bone.sum() > 1.1 * base.bone.sum()
    assert stout.soft.sum() + stout.fat.sum() > 1.1 * (base.soft.sum() + base.fat.sum())
    assert stout.bone == pytest.approx(base.bone)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_turn_the_picture(turns):
    scene = render.Scene.middle(BY_NAME["ankle, lateral"])
    upright, turned = traced(scene).bone, traced(replace(scene, quarter_turns=turns)).bone
    correlations = [
        np.corrcoef(np.rot90(turned, k).ravel(), upright.ravel())[0, 1]
        if np.rot90(turned, k).shape == upright.shape
        else 0
        for k in range(4)
    ]
    assert max(correlations) > 0.99 and int(np.argmax(correlations)) in (turns, 4 - turns)


# Finishing


def test_an_inverted_film_is_the_other_upside_down_in_grey():
    scene = replace(render.Scene.middle(BY_NAME["elbow, lateral"]), marked=True)
    film = render.render(scene, 48, rng())
    inverted = render.render(replace(scene, inverted=True), 48, rng())
    assert np.array_equal(inverted.grey, 255 - film.grey)


@pytest.mark.parametrize("white", [False, True])
def test_outside_the_collimator_there_is_the_border_alone(white):
    scene = render.Scene.middle(BY_NAME["elbow, lateral"])
    scene = replace(scene, exposure=scene.exposure.with_(collimation=0.1), white_border=white)
    grey = render.render(scene, 60, rng()).grey
    rows, columns = grey.shape
    outside = np.ones(grey.shape, dtype=bool)
    margins = round(0.1 * rows), round(0.1 * columns)
    outside[margins[0] : -margins[0], margins[1] : -margins[1]] = False
    assert (grey[outside] == (render.WHITE if white else render.BLACK)).all()
    assert np.ptp(grey[~outside]) > 50
    without = replace(scene, exposure=scene.exposure.with_(collimation=-0.1))
    assert not (render.render(without, 60, rng()).grey[outside] == grey[outside]).all()


def test_the_marker_is_bright_and_small():
    scene = render.Scene.middle(BY_NAME["elbow, lateral"])
    for seed in range(5):
        plain = render.render(scene, 64, rng(seed)).grey.astype(int)
        marked = render.render(replace(scene, marked=True), 64, rng(seed)).grey.astype(int)
        assert (marked >= plain).all()
        assert 0 < (marked != plain).mean() < 0.03


def test_metal_is_added_on_the_side_that_is_seen():
    scene = render.Scene.middle(BY_NAME["wrist, from behind"])  # a plate at the radius
    for left in (False, True):
        metal = traced(replace(scene, left=left, implant=0)).metal
        assert metal.max() > 0.001
        assert traced(replace(scene, left=left)).metal.max() == 0


def test_drawing_depends_on_the_seed_and_the_entry_alone():
    planned = recipe.plan_images(200, 5)[:6]
    first = [recipe.draw_image(one, 5, 40) for one in planned]
    again = [recipe.draw_image(one, 5, 40) for one in reversed(planned)][::-1]
    for (image, record), (other, its) in zip(first, again, strict=True):
        assert np.array_equal(image, other) and record == its
        assert image.dtype == np.uint8 and max(image.shape) == 40
        assert (record["height_px"], record["width_px"]) == image.shape
    # Another seed, and another image of the same subject and view.
    for other, seed in ((planned[0], 6), (planned[0]._replace(image_id="p00199"), 5)):
        assert not np.array_equal(recipe.draw_image(other, seed, 40)[0], first[0][0])


def test_a_place_is_undone_by_its_inverse():
    turn = Rotation.from_rotvec((0.3, -1, 0.5)).as_matrix()
    place = Place(turn, np.array([1.0, 2, 3]), np.array([0.8, 1.1, 1.3]))
    bent = place.bend(Rotation.from_rotvec((0, 0, 0.4)).as_matrix(), np.array([0.5, 0, 0]))
    for one in (place, bent):
        points = rng().normal(size=(5, 3))
        assert (one.to_world(points) - one.position) @ one.inverse.T == pytest.approx(points)
        voxels, offset = VOLUME.from_world(one)
        middle = (np.array(VOLUME.distances.shape) - 1) / 2
        assert voxels @ one.to_world(np.zeros(3)) + offset == pytest.approx(middle)
    fixed = place.bend(turn, place.position)
    assert fixed.position == pytest.approx(place.position)
