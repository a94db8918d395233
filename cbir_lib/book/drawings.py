"""Drawn images that show the idea of a descriptor before radiographs do; all (H, W) uint8."""

from __future__ import annotations

import cv2
import numpy as np

SIDE_PX = 64


def draw_disc_and_bar() -> np.ndarray:
    """Draw a bright disc and a grey bar on a ramp from dark to grey."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    drawn = np.where((y - 22) ** 2 + (x - 24) ** 2 < 16**2, 200, 24 + x)
    drawn[44:56, 12:60] = 128
    return drawn.astype(np.uint8)


def draw_stripes(
    period_px: int, *, slanted: bool = False, dark: int = 0, bright: int = 255
) -> np.ndarray:
    """Draw stripes of two grey values: upright, or slanted by 45 degrees.

    ``period_px`` is measured along a row of pixels, and even.
    """
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    along = x + y if slanted else x
    return np.where(along // (period_px // 2) % 2, bright, dark).astype(np.uint8)


def draw_figures() -> dict[str, np.ndarray]:
    """Draw three figures of thick strokes on black: a leg, a fan and a ring, by name."""
    leg, fan, ring = np.zeros((3, SIDE_PX, SIDE_PX), np.uint8)
    for x in (28, 36):
        cv2.line(leg, (32, 12), (x, 50), 200, 4)
    cv2.circle(leg, (32, 30), 6, 255, -1)
    for x in (18, 26, 34, 42):
        cv2.line(fan, (32, 48), (x, 16), 220, 3)
    cv2.ellipse(ring, (32, 32), (20, 16), 0, 0, 360, 220, 3)
    drawn = {"leg": leg, "fan": fan, "ring": ring}
    return {name: cv2.GaussianBlur(image, (0, 0), 0.8) for name, image in drawn.items()}
