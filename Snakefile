# The study as a graph of files. `cbir study` starts it, shows its progress and mends what a kill left;
# `snakemake --cores 2 --config profile=quick` runs it bare.
#
# Config: study (file), profile, published (true: read results/, train nothing), fresh (true: in a
# folder of its own), only (true: some runs were named), data (checksum).
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from cbir_lib import paths
from cbir_lib.descriptors import DESCRIPTORS
from cbir_lib.messages import PLAN, send_message
from cbir_lib.study.config import CombinationRun, DescriptorRun, NetworkRun, read_study
from cbir_lib.workflow import graph

onstart:
    jobs = sorted({job.message for job in workflow.dag.needrun_jobs() if job.message})
    send_message(PLAN, " ".join(jobs))
    if workflow.local_exec:  # not for a cluster
        # For its limit of jobs per second, it would look for work once a second more for each job that
        # has finished, and at the end wait for that.
        workflow.scheduler.job_rate_limiter = None


STUDY = unquote(str(config.get("study", "study.yml")))
PROFILE = unquote(str(config.get("profile", "quick")))
PUBLISHED = str(config.get("published", False)).lower() == "true"
FRESH = str(config.get("fresh", False)).lower() == "true"
ONLY = str(config.get("only", False)).lower() == "true"
WORK = paths.build_folder(PROFILE + (paths.PUBLISHED if PUBLISHED else paths.FRESH * FRESH))
WORK = str(paths.shorten(WORK))
READ = read_study(STUDY)
RUNS = {run.id: run for run in READ.runs(PROFILE)}
EFFECTS = {run.name: run for run in READ.effects(PROFILE)}
CHAPTERS = [
    *("index", "data", "phantom", "checks"),
    *("networks", "training", "regularisation", "ablations", "inside"),
    *("grey_histogram", "tamura", "gabor", "fourier_mellin", "local_features", "other_classics"),
    *("pretrained", "learned_metrics"),
    *("comparison", "representation", "robustness", "retrieval", "real_films", "report"),
    *("verification", "scale", "cluster"),
]


def project(*parts):
    """A path of the project, as Snakemake finds it from where it works."""
    return str(paths.shorten(paths.project_root().joinpath(*parts)))


# Every path in a command is quoted: it may have spaces, quotes, or what a shell would execute.
JOB = f"{shlex.quote(sys.executable)} -m cbir_lib.cli job"
INTO = f"--work {shlex.quote(WORK)}"
OPTIONS = f"{INTO} --study {shlex.quote(STUDY)} --profile {shlex.quote(PROFILE)}"

@cache
def measuring(notebook, descriptors, own):
    """What decides the numbers of a run: the measuring cells, and the modules that they import."""
    code = graph.select_measuring_code(paths.notebook_source(notebook))
    cells = graph.write_if_changed(Path(f"{WORK}/measuring/{notebook}.py"), code)
    modules = graph.find_imported_modules(code, map(graph.name_descriptor_module, descriptors))
    return checksums(f"measuring/{notebook}{own}", [cells, *modules])


def measuring_of(run):
    own = f"-{run.descriptor}" if isinstance(run, DescriptorRun) else ""
    return measuring(run.notebook, tuple(getattr(run, "descriptor_names", ())), own)


def showing(notebook):
    """What decides how a notebook looks: its text, and the modules that its other cells import."""
    source = paths.notebook_source(notebook)
    # Cells of exercises are shown and not executed.
    apart = {"measure", "exercise"}
    code = "\n".join(code for tags, code in graph.read_cells(source) if not tags & apart)
    others = [] if notebook.startswith("run_") else DESCRIPTOR_MODULES
    files = [project("notebooks", f"{notebook}.md"), *graph.find_imported_modules(code, others)]
    return checksums(f"showing/{notebook}", files)


def checksums(name, files):
    return graph.write_checksums(Path(f"{WORK}/{name}.txt"), files)


def changed_since(made, file):
    return Path(file).stat().st_mtime > Path(made).stat().st_mtime


def page(run, executed):
    """The executed notebook of a run; if only its text has changed since, the page shown again."""
    stands = not PUBLISHED and Path(executed).exists()
    if stands and changed_since(executed, SHOWING[run.notebook]):
        if not changed_since(executed, MEASURING[run.id]):
            return str(paths.refreshed_page(Path(WORK), run.id))
    return executed


def networks_of(measured):
    """The networks that effects choose from; if only some runs were asked for, those they choose."""
    names = measured.networks
    if ONLY:  # which imports torch
        from cbir_lib.study.effects import list_networks_to_train
        from cbir_lib.workflow.publishing import finished_networks

        if finished := finished_networks(READ, PROFILE, Path(WORK), names):
            names = list_networks_to_train(Path(WORK), finished)
    return expand(f"{WORK}/runs/{{run}}/model.safetensors", run=names)


DESCRIPTOR_MODULES = [graph.name_descriptor_module(name) for name in DESCRIPTORS]
EXECUTED = {run.id: f"{WORK}/runs/{run.id}/notebook.ipynb" for run in RUNS.values()}
EXECUTED |= {run.id: f"{WORK}/effects/{run.name}.ipynb" for run in EFFECTS.values()}
EVERY = {run.id: run for run in (*RUNS.values(), *EFFECTS.values())}
# What steps depend on, as files. Written before Snakemake looks at the folder: it looks once.
MEASURING = {run.id: measuring_of(run) for run in EVERY.values()}
SHOWING = {name: showing(name) for name in {*CHAPTERS, *(run.notebook for run in EVERY.values())}}
# Chapters show the published evidence beside the study at hand, and shipped networks.
PUBLISHED_BESIDES = checksums(
    "showing/published",
    [
        str(path)
        for folder in (*Path(project("results")).glob("*/"), Path(project("models")))
        if folder.name != "verification"
        for path in folder.rglob("*.*")
    ],
)
# The chapter on verification alone shows these.
VERIFIED = [
    *sorted(str(p) for kind in ("verification", PROFILE) for p in Path(project("results", kind)).glob("*.json")),
    *(str(p) for p in Path(WORK).glob("verification.json")),
]
RUNS_FIRST = 10  # a priority: one that is left to the end keeps all chapters waiting
BOOK = [project("_config.yml"), *graph.find_imported_modules("from cbir_lib.book import rewriting, site")]
BOOK += sorted(str(p) for p in Path(project("book")).rglob("*.*"))


def ids(kind):
    found = [re.escape(run_id) for run_id, run in RUNS.items() if isinstance(run, kind)]
    return "|".join(found) or "none"


# One file of the built book: before a job starts, Snakemake removes what it will write, and this one
# is not missed by who reads the book of before.
BUILT = f"{WORK}/html/.buildinfo"


rule all:
    input:
        BUILT,


rule runs:
    input:
        expand(f"{WORK}/runs/{{run}}/result.json", run=RUNS),


if PUBLISHED:

    rule published_run:
        input:
            shows=lambda wc: SHOWING[RUNS[wc.run].notebook],
            published=project("results", PROFILE, "{run}.json"),
        output:
            f"{WORK}/runs/{{run}}/notebook.ipynb",
            f"{WORK}/runs/{{run}}/result.json",
        params:
            run=lambda wc: RUNS[wc.run].model_dump_json(),
        log:
            f"{WORK}/logs/{{run}}.ipynb",
        message:
            "{wildcards.run}"
        shell:
            "{JOB} run {wildcards.run} {OPTIONS} --published {input.published:q}"

    rule published_effects:
        input:
            shows=lambda wc: SHOWING[EFFECTS[wc.effects].notebook],
            published=project("results", PROFILE, "effects", "{effects}.json"),
        output:
            f"{WORK}/effects/{{effects}}.ipynb",
            f"{WORK}/effects/{{effects}}.json",
        wildcard_constraints:
            effects="|".join(EFFECTS) or "none",
        params:
            run=lambda wc: EFFECTS[wc.effects].model_dump_json(),
        log:
            f"{WORK}/logs/effects-{{effects}}.ipynb",
        message:
            "effects-{wildcards.effects}"
        shell:
            "{JOB} effects {wildcards.effects} {OPTIONS} --published {input.published:q}"

else:

    rule network_run:
        input:
            measuring=lambda wc: MEASURING[wc.run],
        output:
            f"{WORK}/runs/{{run}}/notebook.ipynb",
            f"{WORK}/runs/{{run}}/result.json",
            f"{WORK}/runs/{{run}}/index.safetensors",
            f"{WORK}/runs/{{run}}/model.safetensors",
        wildcard_constraints:
            run=ids(NetworkRun),
        params:
            run=lambda wc: RUNS[wc.run].model_dump_json(),
            data=config.get("data", ""),
        log:
            f"{WORK}/logs/{{run}}.ipynb",
        message:
            "{wildcards.run}"
        resources:
            gpu=1,
        # One seed of everything first: a study that is cut short has something of each network.
        priority:
            lambda wc: RUNS_FIRST - RUNS[wc.run].seed
        shell:
            "{JOB} run {wildcards.run} {OPTIONS}"

    rule descriptor_run:
        input:
            measuring=lambda wc: MEASURING[wc.run],
        output:
            f"{WORK}/runs/{{run}}/notebook.ipynb",
            f"{WORK}/runs/{{run}}/result.json",
            f"{WORK}/runs/{{run}}/descriptor.safetensors",
            f"{WORK}/runs/{{run}}/index.safetensors",
            f"{WORK}/runs/{{run}}/queries.safetensors",
        wildcard_constraints:
            run=ids(DescriptorRun),
        params:
            run=lambda wc: RUNS[wc.run].model_dump_json(),
            data=config.get("data", ""),
        log:
            f"{WORK}/logs/{{run}}.ipynb",
        message:
            "{wildcards.run}"
        priority: RUNS_FIRST - 1  # networks take longest
        shell:
            "{JOB} run {wildcards.run} {OPTIONS}"

    rule effects:
        input:
            measuring=lambda wc: MEASURING[EFFECTS[wc.effects].id],
            networks=lambda wc: networks_of(EFFECTS[wc.effects]),
            descriptors=lambda wc: expand(
                f"{WORK}/runs/{{run}}/{{kind}}.safetensors",
                run=EFFECTS[wc.effects].descriptor_runs,
                kind=["descriptor", "index", "queries"],
            ),
        output:
            f"{WORK}/effects/{{effects}}.ipynb",
            f"{WORK}/effects/{{effects}}.json",
        wildcard_constraints:
            effects="|".join(EFFECTS) or "none",
        params:
            run=lambda wc: EFFECTS[wc.effects].model_dump_json(),
            data=config.get("data", ""),
        log:
            f"{WORK}/logs/effects-{{effects}}.ipynb",
        message:
            "effects-{wildcards.effects}"
        priority: RUNS_FIRST  # longer than what is left then
        shell:
            "{JOB} effects {wildcards.effects} {OPTIONS}"

    rule combination_run:
        input:
            measuring=lambda wc: MEASURING[wc.run],
            vectors=lambda wc: expand(
                f"{WORK}/runs/{{member}}/{{kind}}.safetensors",
                member=RUNS[wc.run].member_runs,
                kind=["index", "queries"],
            ),
        output:
            f"{WORK}/runs/{{run}}/notebook.ipynb",
            f"{WORK}/runs/{{run}}/result.json",
        wildcard_constraints:
            run=ids(CombinationRun),
        params:
            run=lambda wc: RUNS[wc.run].model_dump_json(),
            data=config.get("data", ""),
        log:
            f"{WORK}/logs/{{run}}.ipynb",
        message:
            "{wildcards.run}"
        priority: RUNS_FIRST - 1
        shell:
            "{JOB} run {wildcards.run} {OPTIONS}"


    rule page:
        input:
            shows=lambda wc: SHOWING[EVERY[wc.run].notebook],
            result=lambda wc: EXECUTED[wc.run],
        output:
            f"{WORK}/pages/{{run}}.ipynb",
        log:
            f"{WORK}/logs/{{run}}.ipynb",
        message:
            "{wildcards.run}"
        params:
            job=lambda wc: f"effects {EVERY[wc.run].name}" if "effects" in wc.run else f"run {wc.run}",
        shell:
            "{JOB} {params.job} {OPTIONS} --again"


rule chapter:
    input:
        shows=lambda wc: SHOWING[wc.chapter],
        results=rules.runs.input,
        effects=expand(f"{WORK}/effects/{{effects}}.json", effects=EFFECTS),
        published=PUBLISHED_BESIDES,
        verified=lambda wc: VERIFIED if wc.chapter == "verification" else [],
    output:
        f"{WORK}/chapters/{{chapter}}.ipynb",
    wildcard_constraints:
        chapter="|".join(CHAPTERS),
    log:
        f"{WORK}/logs/{{chapter}}.ipynb",
    message:
        "chapter-{wildcards.chapter}"
    shell:
        "{JOB} chapter {wildcards.chapter} {OPTIONS}"


rule search_page:
    input:
        code=graph.find_imported_modules("from cbir_lib.book import search_page"),
        networks=sorted(str(path) for path in Path(project("models")).glob("*.safetensors")),
        films=sorted(str(p) for p in Path(project("results", "real")).rglob("*.json")),  # which network serves real films
        images=project("data", "phantom", "SHA256SUMS"),
    output:
        f"{WORK}/search/search.json",
    message:
        "search-page"
    priority: 1  # while the last run keeps the chapters waiting
    shell:
        "{JOB} search-page {INTO}"


rule book:
    input:
        book=BOOK,
        search=rules.search_page.output,
        chapters=expand(f"{WORK}/chapters/{{chapter}}.ipynb", chapter=CHAPTERS),
        pages=[page(run, EXECUTED[name]) for name, run in EVERY.items()],
    output:
        BUILT,
    params:
        solutions=READ.solutions,
    log:
        f"{WORK}/logs/book.txt",
    message:
        "book"
    shell:
        "{JOB} book {OPTIONS}"
