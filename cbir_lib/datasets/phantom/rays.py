"""Path lengths along the rays of a cone beam: bones, soft tissue, lungs, ellipsoids.

All lengths and positions are in metres. A ray runs from the source through one pixel of a picture
plane. Fields of signed distances allow long steps in empty space (sphere tracing, Hart 1996,
doi:10.1007/s003710050084) and cannot leak, as sums over the crossings of leaky meshes do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cbir_lib.compiling import compile_cached


class Beam(NamedTuple):
    """A point source and a picture plane, with one ray a pixel."""

    source: np.ndarray  # (3,)
    corner: np.ndarray  # (3,) centre of pixel (0, 0)
    down: np.ndarray  # (3,) from one row to the next
    right: np.ndarray  # (3,) from one column to the next
    directions: np.ndarray  # (H, W, 3) unit vectors from the source

    @classmethod
    def through(
        cls, source: np.ndarray, middle: np.ndarray, down: np.ndarray, right: np.ndarray, shape
    ) -> Beam:
        """Trace rays through a plane around ``middle``; ``shape`` is (rows, columns)."""
        rows, columns = shape
        corner = middle - down * (rows - 1) / 2 - right * (columns - 1) / 2
        points = (
            corner
            + np.arange(rows)[:, None, None] * down
            + np.arange(columns)[None, :, None] * right
        )
        ways = points - source
        ways /= np.linalg.norm(ways, axis=2, keepdims=True)
        return cls(source, corner, down, right, ways)

    def window(self, points: np.ndarray) -> tuple[int, int, int, int]:
        """Return rows and columns ``(top, bottom, left, right)`` of the shadow of points (N, 3)."""
        normal = np.cross(self.right, self.down)
        away = points - self.source
        reach = away @ normal
        height, width, _ = self.directions.shape
        if (reach <= 0).any():  # beside or behind the source
            return 0, height, 0, width
        scale = ((self.corner - self.source) @ normal) / reach
        on_plane = self.source + away * scale[:, None] - self.corner
        rows = on_plane @ self.down / (self.down @ self.down)
        columns = on_plane @ self.right / (self.right @ self.right)
        return (
            max(0, int(np.floor(rows.min()))),
            min(height, int(np.ceil(rows.max())) + 1),
            max(0, int(np.floor(columns.min()))),
            min(width, int(np.ceil(columns.max())) + 1),
        )


@compile_cached
def _turn(matrix, vector, out):
    """Write matrix times vector to ``out``, without allocating."""
    for axis in range(3):
        out[axis] = (
            matrix[axis, 0] * vector[0] + matrix[axis, 1] * vector[1] + matrix[axis, 2] * vector[2]
        )


@compile_cached
def _span(origin, direction, shape):
    """Where a ray is inside the box of a grid: entry and exit, in the ray's own units."""
    entry, leave = 0.0, 1e9
    for axis in range(3):
        highest = shape[axis] - 1.001
        if abs(direction[axis]) < 1e-12:
            if origin[axis] < 0 or origin[axis] > highest:
                return 1.0, 0.0
            continue
        a = -origin[axis] / direction[axis]
        b = (highest - origin[axis]) / direction[axis]
        entry, leave = max(entry, min(a, b)), min(leave, max(a, b))
    return entry, leave


@compile_cached
def _sample(grid, x, y, z):
    """Trilinear interpolation."""
    i, j, k = int(x), int(y), int(z)
    fx, fy, fz = x - i, y - j, z - k
    low = (grid[i, j, k] * (1 - fz) + grid[i, j, k + 1] * fz) * (1 - fy) + (
        grid[i, j + 1, k] * (1 - fz) + grid[i, j + 1, k + 1] * fz
    ) * fy
    high = (grid[i + 1, j, k] * (1 - fz) + grid[i + 1, j, k + 1] * fz) * (1 - fy) + (
        grid[i + 1, j + 1, k] * (1 - fz) + grid[i + 1, j + 1, k + 1] * fz
    ) * fy
    return low * (1 - fx) + high * fx


@compile_cached
def add_bone(
    paths, beam, window, grid, step, matrix, offset, long_axis, shaft, end, spongy, base, face
):
    """Add a bone's path to ``paths`` (H, W), as metres of cortical bone.

    Parameters
    ----------
    grid, step
        Signed distances and the distance of its voxels.
    matrix, offset
        From world to voxels: ``matrix @ x + offset``.
    shaft, end
        Thickness of the cortical shell in the middle of the long axis and at its ends.
    spongy
        (2,) density inside the shell relative to cortical bone: in the middle, at the ends.
    base : (4,)
        A plane ``n . voxel + c``; where it is positive, the inside is hollow. Zeros: nowhere.
    face
        Density inside where ``base`` is not positive, instead of ``spongy``; negative: unused.
    """
    top, bottom, left, right = window
    origin = matrix @ beam.source + offset
    half = 0.5 * (grid.shape[long_axis] - 1)
    direction = np.empty(3)
    for row in range(top, bottom):
        for column in range(left, right):
            _turn(matrix, beam.directions[row, column], direction)
            per_metre = np.sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2)  # voxels
            t, leave = _span(origin, direction, grid.shape)
            metres = step * per_metre  # of the bone's own, scaled space, for one of the world
            total = 0.0
            while t < leave:
                x = origin[0] + t * direction[0]
                y = origin[1] + t * direction[1]
                z = origin[2] + t * direction[2]
                depth = -_sample(grid, x, y, z)
                if depth < -step:
                    t += max(-0.9 * depth, 0.5 * step) / metres
                    continue
                pace = 0.7 * step / metres
                cover = min(1.0, max(0.0, 0.5 + depth / step))
                place = (x, y, z)[long_axis]
                middle = min(1.0, max(0.0, 1.6 - 2.2 * abs(place / half - 1.0)))
                shell = end + (shaft - end) * middle
                core = min(1.0, max(0.0, (depth - shell) / step + 0.5))
                inner = spongy[1] + (spongy[0] - spongy[1]) * middle
                if face >= 0.0:
                    above = base[0] * x + base[1] * y + base[2] * z + base[3]
                    inner = face * min(1.0, max(0.0, 0.5 - above))
                total += pace * cover * (1.0 - core * (1.0 - inner))
                t += pace
            paths[row, column] += total


@compile_cached
def add_skin(soft, fat, beam, matrices, lengths, radii, scales, fat_depth, blend):
    """Add what is under the skin, a smooth union of tapered capsules, to ``soft`` and ``fat``.

    Parameters
    ----------
    matrices : (K, 3, 4)
        From world to a capsule's space, where it lies along z from 0 to its length.
    lengths, scales : (K,)
        Length in that space; metres of the world for one of that space, at least.
    radii : (K, 2)
        At both ends, in that space.
    fat_depth, blend
        Thickness of the fat under the skin; width over which two capsules melt together.
    """
    count = len(lengths)
    active = np.empty(count, dtype=np.int64)
    starts = np.empty((count, 3))
    way = np.empty(3)
    slopes = np.empty((count, 3))
    for k in range(count):
        for axis in range(3):
            starts[k, axis] = (
                matrices[k, axis, 0] * beam.source[0]
                + matrices[k, axis, 1] * beam.source[1]
                + matrices[k, axis, 2] * beam.source[2]
                + matrices[k, axis, 3]
            )
    for row in range(beam.directions.shape[0]):
        for column in range(beam.directions.shape[1]):
            hits, entry, leave = 0, 1e9, 0.0
            for k in range(count):
                _turn(matrices[k], beam.directions[row, column], way)
                vx, vy, vz = way[0], way[1], way[2]
                # The sphere around the whole capsule, in its own space.
                reach = 0.5 * lengths[k] + max(radii[k, 0], radii[k, 1]) + blend / scales[k]
                cz = starts[k, 2] - 0.5 * lengths[k]
                a = vx * vx + vy * vy + vz * vz
                b = vx * starts[k, 0] + vy * starts[k, 1] + vz * cz
                c = starts[k, 0] ** 2 + starts[k, 1] ** 2 + cz * cz - reach * reach
                inside = b * b - a * c
                if inside > 0:
                    root = np.sqrt(inside)
                    entry, leave = min(entry, (-b - root) / a), max(leave, (-b + root) / a)
                    slopes[hits, 0], slopes[hits, 1], slopes[hits, 2] = vx, vy, vz
                    active[hits] = k
                    hits += 1
            t = max(entry, 0.0)
            while t < leave:
                distance = 1.0
                for n in range(hits):
                    k = active[n]
                    px = starts[k, 0] + t * slopes[n, 0]
                    py = starts[k, 1] + t * slopes[n, 1]
                    pz = starts[k, 2] + t * slopes[n, 2]
                    along = min(1.0, max(0.0, pz / lengths[k]))
                    pz -= along * lengths[k]
                    radius = radii[k, 0] + (radii[k, 1] - radii[k, 0]) * along
                    d = (np.sqrt(px * px + py * py + pz * pz) - radius) * scales[k]
                    h = max(0.0, blend - abs(distance - d)) / blend
                    distance = min(distance, d) - 0.25 * h * h * blend
                pace = max(0.0025, 0.7 * abs(distance))
                cover = min(1.0, max(0.0, 0.5 - distance / 0.0025))
                if cover > 0:
                    pace = min(pace, max(0.0025, leave - t))
                    shallow = min(1.0, max(0.0, 0.5 + (fat_depth + distance) / 0.0025))
                    if distance < -fat_depth:  # do not step from muscle into fat unnoticed
                        pace = max(0.0025, min(pace, -distance - fat_depth))
                    fat[row, column] += pace * cover * shallow
                    soft[row, column] += pace * cover * (1.0 - shallow)
                t += pace


@compile_cached
def add_lungs(paths, beam, window, grid, step, matrix, offset, carved):
    """Add the path through a cavity, outside the ellipsoids ``carved`` (K, 3, 4), to ``paths``."""
    top, bottom, left, right = window
    origin = matrix @ beam.source + offset
    count = len(carved)
    direction = np.empty(3)
    for row in range(top, bottom):
        for column in range(left, right):
            ray = beam.directions[row, column]
            _turn(matrix, ray, direction)
            metres = step * np.sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2)
            t, leave = _span(origin, direction, grid.shape)
            total = 0.0
            while t < leave:
                depth = -_sample(
                    grid,
                    origin[0] + t * direction[0],
                    origin[1] + t * direction[1],
                    origin[2] + t * direction[2],
                )
                if depth < -step:
                    t += -0.9 * depth / metres
                    continue
                pace = step / metres
                cover = min(1.0, max(0.0, 0.5 + depth / step))
                x = beam.source[0] + t * ray[0]
                y = beam.source[1] + t * ray[1]
                z = beam.source[2] + t * ray[2]
                for k in range(count):
                    m = carved[k]
                    a = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
                    b = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
                    c = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
                    cover *= min(1.0, max(0.0, 4.0 * (a * a + b * b + c * c) - 3.5))
                total += pace * cover
                t += pace
            paths[row, column] += total


@compile_cached
def add_ellipsoids(paths, beam, windows, matrices, weights):
    """Add chords of ellipsoids times their weights; ``matrices`` (K, 3, 4) make them unit spheres.

    ``windows`` (K, 4) are the pixels that their shadows may touch.
    """
    way = np.empty(3)
    start = np.empty(3)
    for k in range(len(weights)):
        m = matrices[k]
        _turn(m, beam.source, start)
        start += m[:, 3]
        for row in range(windows[k, 0], windows[k, 1]):
            for column in range(windows[k, 2], windows[k, 3]):
                _turn(m, beam.directions[row, column], way)
                vx, vy, vz = way[0], way[1], way[2]
                a = vx * vx + vy * vy + vz * vz
                b = vx * start[0] + vy * start[1] + vz * start[2]
                c = start[0] ** 2 + start[1] ** 2 + start[2] ** 2 - 1.0
                inside = b * b - a * c
                if inside > 0:
                    paths[row, column] += weights[k] * 2.0 * np.sqrt(inside) / a
