"""The papers of a phantom set: data card, Croissant metadata, credits, checksums."""

from __future__ import annotations

import json
from importlib.metadata import files
from pathlib import Path
from string import Template

import pandas as pd

from cbir_lib.datasets.phantom.contents import CHECKSUMS_FILE
from cbir_lib.datasets.radiographs import SPLITS
from cbir_lib.files import compute_file_checksum, replacing

TEMPLATE = Path(__file__).with_name("card.md")
NAME = "Phantom radiographs"
DESCRIPTION = (
    "Simulated radiographs of five body regions with IRMA codes, for content-based image retrieval."
)
LICENCE = "https://creativecommons.org/licenses/by/4.0/"
VERSION, PUBLISHED = "1.0", "2026-11-23"
FIELDS = {
    "image": ("sc:ImageObject", "the radiograph, 8-bit grey, JPEG"),
    "label": (
        "sc:Integer",
        "0 cranium, 1 spine, 2 upper extremity, 3 chest, 4 lower extremity",
    ),
    "image_id": ("sc:Text", "p and five digits, the number of the image in the recipe"),
    "irma_code": ("sc:Text", "TTTT-DDD-AAA-BBB"),
    "subject_id": ("sc:Text", "simulated subject; in one split only"),
    "view": ("sc:Text", "what is photographed, and from where"),
}
LABELS = {
    "image_id": FIELDS["image_id"],
    "split": ("sc:Text", "train, validation or test"),
    "class": ("sc:Text", "one of five regions"),
    "irma_code": FIELDS["irma_code"],
    "subject_id": FIELDS["subject_id"],
    "view": FIELDS["view"],
    "side": ("sc:Text", "right, left, or empty where there is only one"),
    "width_px": ("sc:Integer", "width"),
    "height_px": ("sc:Integer", "height"),
    "seed": ("sc:Integer", "seed of the set; with image_id it draws the image again"),
    "quarter_turns": ("sc:Integer", "how often turned by 90 degrees"),
    "inverted": ("sc:Boolean", "bone is dark"),
    "metal": ("sc:Boolean", "an implant or a ring may be in the picture"),
    "marked": ("sc:Boolean", "with a letter at the side"),
    "rotation_deg": ("sc:Float", "turned in the plane, degrees"),
    "field": ("sc:Float", "size of the field against the view's"),
    "photons": ("sc:Float", "photons in a pixel behind the body"),
    "scatter": ("sc:Float", "scattered over primary radiation"),
    "blur_px": ("sc:Float", "standard deviation of the detector's blur, pixels"),
    "gamma": ("sc:Float", "slope of the film curve"),
    "darkness": ("sc:Float", "over- or under-exposure, decades"),
    "collimation": ("sc:Float", "margin outside the collimator, share of a side; none below zero"),
}
# The context that Croissant 1.0 prescribes.
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "conformsTo": "dct:conformsTo",
} | {
    name: f"cr:{name}"
    for names in (
        "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format",
        "includes isLiveDataset jsonPath key md5 parentField path recordSet references regex",
        "repeated replace samplingRate separator source subField transform",
    )
    for name in names.split()
}


def write_card(out: Path, labels: pd.DataFrame, described: dict) -> None:
    """Write card, metadata, credits and checksums of the shards and labels in ``out``."""
    with replacing(out / "NOTICE") as part:
        part.write_text(compose_notice())
    sums = {path.name: compute_file_checksum(path) for path in sorted(out.glob("*.parquet"))}
    sums["labels.csv"] = compute_file_checksum(out / "labels.csv")
    with replacing(out / "croissant.json") as part:
        part.write_text(json.dumps(build_croissant(sums, out), indent=2) + "\n")
    size = sum(path.stat().st_size for path in out.glob("*.parquet"))
    counts = pd.crosstab(labels["class"], labels["split"])[list(SPLITS)].rename_axis(None)
    counts.loc["all"] = counts.sum()
    changes = described.get("changes", [])
    options = [f"--{key} {described[key]}" for key in ("count", "seed", "size")]
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        described,
        version=described["version"] + (f", changed: {', '.join(changes)}" if changes else ""),
        images=f"{len(labels):,}",
        megabytes=f"{size / 1e6:.1f}",
        subjects=f"{labels['subject_id'].nunique():,}",
        counts=format_markdown(counts.rename_axis("class").reset_index()),
        features=json.dumps(list(FIELDS)),
        parameters=format_markdown(tabulate_parameters()),
        tools=", ".join(f"{k} {v}" for k, v in described.get("drawn_with", {}).items()),
        command=" ".join(options + [f"--change {name}" for name in changes]),
        category=name_size_category(len(labels)),
        difficulty=format_difficulty(out),
    )
    with replacing(out / "README.md") as part:
        part.write_text(text, encoding="utf-8")
    with replacing(out / CHECKSUMS_FILE) as part:
        part.write_text("".join(f"{value}  {name}\n" for name, value in sums.items()))


def name_size_category(images: int) -> str:
    """Return Hugging Face's name for a number of images."""
    names = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K"}
    return next((name for limit, name in names.items() if images < limit), "100K<n<1M")


def format_difficulty(out: Path) -> str:
    """Tabulate the accuracies measured when the set was frozen, or say that there are none."""
    measured = out / "difficulty.json"
    if not measured.is_file():
        return "Not measured for this set."
    measurements = json.loads(measured.read_text())
    columns = {
        f"draft {i}": draft for i, draft in enumerate(measurements.get("drafts", []), start=1)
    }
    columns["version 1.0"] = {"images": measurements["images"], **measurements["accuracy"]}
    columns["version 1.0"]["largest class of the test"] = measurements["largest"]
    table = pd.DataFrame(columns).rename_axis("one nearest neighbour, accuracy (%)")
    percent = table.drop("images").map("{:.1f}".format, na_action="ignore")
    counts = table.loc[["images"]].map("{:,.0f}".format).rename({"images": "images of the set"})
    return format_markdown(pd.concat([counts, percent]).reset_index())


def tabulate_parameters() -> pd.DataFrame:
    """Tabulate every parameter that varies: its name, range and meaning."""
    from dataclasses import fields

    from cbir_lib.datasets.phantom.parameters import Exposure, Subject

    return pd.DataFrame(
        {
            "parameter": f.name,
            "drawn once": owner,
            "range": f"{f.metadata['low']:g} to {f.metadata['high']:g}",
            "how": f.metadata["kind"],
            "meaning": f.metadata["meaning"],
        }
        for owner, table in (("a subject", Subject), ("an image", Exposure))
        for f in fields(table)
    )


def format_markdown(table: pd.DataFrame) -> str:
    """Format a data frame as a Markdown table."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def compose_notice() -> str:
    """Compose the credits of the bone shapes from the notice of the package they come from."""
    theirs = next((f for f in files("musclemimic-models") or [] if f.name == "NOTICE"), None)
    head = (
        "Phantom radiographs: images, labels and text are under the Creative Commons Attribution\n"
        "4.0 International licence (CC BY 4.0).\n\n"
        "The shapes of the bones come from the package musclemimic-models (Apache-2.0). No mesh\n"
        "is contained here; the images show their shadows. The notice of that package:\n\n"
    )
    return head + (theirs.read_text(encoding="utf-8") if theirs else "not installed\n")


def build_croissant(sums: dict[str, str], out: Path) -> dict:
    """Build metadata in MLCommons Croissant 1.0: files, checksums, and their columns.

    Akhtar et al., Croissant: a metadata format for ML-ready datasets, 2024,
    doi:10.1145/3650203.3663326.
    """
    forms = {".parquet": "application/x-parquet", ".csv": "text/csv"}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": "phantom-radiographs",
        "description": DESCRIPTION,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": LICENCE,
        "url": LICENCE,
        "version": "1.0.0",
        "datePublished": PUBLISHED,
        "citeAs": f"{NAME}, version {VERSION}",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "contentSize": f"{(out / name).stat().st_size} B",
                "encodingFormat": forms[Path(name).suffix],
                "sha256": value,
            }
            for name, value in sums.items()
        ],
        "recordSet": [
            _build_record_set(
                Path(name).stem, name, FIELDS if name.endswith(".parquet") else LABELS
            )
            for name in sums
        ],
    }


def _build_record_set(key: str, file: str, columns: dict[str, tuple[str, str]]) -> dict:
    """The columns of one file."""
    fields = []
    for column, (kind, meaning) in columns.items():
        source = {"fileObject": {"@id": file}, "extract": {"column": column}}
        if kind == "sc:ImageObject":
            source["transform"] = {"jsonPath": "bytes"}
        fields.append(
            {
                "@type": "cr:Field",
                "@id": f"{key}/{column}",
                "name": column,
                "description": meaning,
                "dataType": kind,
                "source": source,
            }
        )
    return {"@type": "cr:RecordSet", "@id": key, "name": key, "field": fields}
