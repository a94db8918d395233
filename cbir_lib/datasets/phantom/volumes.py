"""From a bone's triangles to a field of signed distances, which has no holes to leak through."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from cbir_lib.compiling import compile_cached

MARGIN = 3  # voxels of free space around a bone


class Volume(NamedTuple):
    """Signed distances on a grid: negative inside, in metres."""

    distances: np.ndarray  # (X, Y, Z) float32
    origin: np.ndarray  # (3,) position of voxel [0, 0, 0] in the body's frame, metres
    step: float  # metres

    def corners(self) -> np.ndarray:
        """Return the (8, 3) corners of the grid's box, in metres."""
        unit = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, 8).T
        return self.origin + unit * (np.array(self.distances.shape) - 1) * self.step

    def from_world(self, place) -> tuple[np.ndarray, np.ndarray]:
        """Return matrix (3, 3) and offset (3,) from world to voxels, for a body at ``place``."""
        matrix = place.inverse / self.step
        return matrix, -(matrix @ place.position) - self.origin / self.step


def compute_signed_distances(vertices: np.ndarray, faces: np.ndarray, step: float) -> Volume:
    """Fill a mesh and measure the distance to its surface.

    Many of the meshes have small holes or flipped triangles, so that one ray may enter and never
    leave. Each voxel is therefore asked along all three axes whether it is inside, by the winding
    number of the triangles before it, and the majority decides.

    Parameters
    ----------
    vertices : (V, 3) float
        In metres.
    faces : (F, 3) int
        Counter-clockwise seen from outside.
    step
        Distance of voxels in metres.
    """
    import edt

    origin = vertices.min(0) - MARGIN * step
    shape = np.ceil((vertices.max(0) - origin) / step).astype(int) + MARGIN + 1
    grid = (vertices - origin) / step
    votes = np.zeros(shape, dtype=np.int8)
    for axis in range(3):
        order = [(axis + 1) % 3, (axis + 2) % 3, axis]  # cyclic: keeps the orientation
        crossings = np.zeros(shape[order], dtype=np.int32)
        _count_crossings(np.ascontiguousarray(grid[:, order][faces]), crossings)
        inside = np.cumsum(crossings, axis=2) > 0
        votes += inside.transpose(np.argsort(order)).astype(np.int8)
    inside = votes >= 2
    # Of each voxel to the nearest on the other side, squared: whole numbers, so exact in float32.
    squared = edt.edtsq(inside.astype(np.uint8) + 1, order="C")
    # Half a voxel less, because the surface lies between two voxels; then smooth the stairs.
    distances = np.sqrt(squared, dtype=np.float64) - 0.5
    distances[inside] *= -1
    distances = gaussian_filter(distances, 0.7) * step
    return Volume(distances.astype(np.float32), origin, step)


@compile_cached
def _count_crossings(triangles, crossings):
    """Add +1 where a line along the last axis enters a triangle's inside, -1 where it leaves."""
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0.0:
            continue
        sign = -1 if area > 0 else 1  # a normal along the axis is where the line leaves
        lowest_x = max(0, int(np.ceil(min(a[0], b[0], c[0]))))
        highest_x = min(crossings.shape[0] - 1, int(np.floor(max(a[0], b[0], c[0]))))
        lowest_y = max(0, int(np.ceil(min(a[1], b[1], c[1]))))
        highest_y = min(crossings.shape[1] - 1, int(np.floor(max(a[1], b[1], c[1]))))
        for x in range(lowest_x, highest_x + 1):
            for y in range(lowest_y, highest_y + 1):
                v = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / area
                w = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / area
                if v >= 0.0 and w >= 0.0 and v + w <= 1.0:
                    z = a[2] + v * (b[2] - a[2]) + w * (c[2] - a[2])
                    k = min(max(int(np.ceil(z)), 0), crossings.shape[2] - 1)
                    crossings[x, y, k] += sign
