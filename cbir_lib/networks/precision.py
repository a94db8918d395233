"""The precision of products: float32, or bfloat16 where the processor or the GPU has it."""

from __future__ import annotations

import os
import time
from functools import cache

import torch
from torch import nn

from cbir_lib.errors import unknown_name_error

# As Lightning calls them; and "auto": the faster of them.
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}
EMULATED = 1.5  # times float32's time, from which bfloat16 is not native; 0.5 to 0.7 where it is


def check_precision(precision: str) -> None:
    """Refuse what is neither ``auto`` nor a precision."""
    if precision not in (known := ("auto", *PRECISIONS)):
        raise unknown_name_error("precision", precision, known)


@cache
def measure_bfloat16_cost(on_gpu: bool = False) -> float:
    """Measure what a convolution costs in bfloat16, in times of float32; below 1 where native.

    Emulated it costs about 5 to 20. Where the processor has the instructions it is native
    whatever a clock says: on busy cores a measurement has taken it for emulated.
    """
    if on_gpu:
        return 0.5 if torch.cuda.is_bf16_supported(including_emulation=False) else 20.0
    if has_bfloat16():
        return 0.6
    layer = nn.Conv2d(20, 20, 3, padding="same").to(memory_format=torch.channels_last)
    images = torch.zeros(16, 20, 32, 32).to(memory_format=torch.channels_last)
    seconds = {True: [], False: []}
    for _ in range(6):
        for half, taken in seconds.items():
            started = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                layer(images).float().sum().backward()
            taken.append(time.perf_counter() - started)
    layer.zero_grad()
    return max(EMULATED, min(seconds[True]) / min(seconds[False]))


def has_bfloat16() -> bool:
    """Return whether oneDNN may use instructions for bfloat16 that this processor has."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    allowed = limit in ("ALL", "DEFAULT") or "BF16" in limit or "FP16" in limit or "AMX" in limit
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return allowed and has and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def resolve_precision(precision: str, on_gpu: bool = False) -> str:
    """Return ``float32`` or ``bfloat16``: for ``auto`` bfloat16 where it is native.

    Warns with the cost where bfloat16 is asked for and emulated.
    """
    if precision == "float32":
        return precision
    cost = measure_bfloat16_cost(on_gpu)
    if precision == "auto":
        return "bfloat16" if cost < EMULATED else "float32"
    if cost >= EMULATED:
        print(
            f"warning: bfloat16 is emulated on this device and takes {cost:.0f} times as long as "
            "float32; leave precision to auto"
        )
    return precision
