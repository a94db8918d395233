"""Content-based retrieval of radiographs: an executable re-study of ELMarakbey et al.

``import cbir_lib`` is light: torch, pandas and the rest are imported when first needed.
"""

from importlib import import_module

__version__ = "0.1.0"

LAZY = {
    "Archive": "cbir_lib.archive.store",
    "CbirError": "cbir_lib.errors",
    "Index": "cbir_lib.retrieval.index",
    "Preprocessing": "cbir_lib.images.preprocessing",
    "RadiographSet": "cbir_lib.datasets.radiographs",
    "load": "cbir_lib.datasets",
    "load_network": "cbir_lib.descriptors.learned",
    "search_widget": "cbir_lib.archive.widget",
}
__all__ = ["__version__", *LAZY]


def __getattr__(name: str):
    if name not in LAZY:
        raise AttributeError(f"module 'cbir_lib' has no attribute {name!r}")
    return getattr(import_module(LAZY[name]), name)
