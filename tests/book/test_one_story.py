"""One story: two chapters never state two accuracies of the same network, trained in the same way.

What is gathered from the executed chapters of a book, as a reader sees them:

- Tables that are about test accuracy: a header says ``accuracy``, or the words below begin with
  ``*Test accuracy``; and the evidence's column of the table "Your run". A row is of a network if a
  cell of its first column, or of a column ``network`` or ``method``, names one.
- Sentences in which ``Network X`` is followed by a number in percent. Not what stands after words
  such as ``paper`` or ``mAP`` in the same clause.

A profile is the one that the words name, or the next caption. What is labelled "your run" is none
of the book's statements, and neither is what is said of films of patients. Means of all seeds,
means of as many as a column ``seeds`` names, and single seeds are different numbers.
"""

import re
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

from cbir_lib.messages import WARM
from cbir_lib.reproduction import paper
from cbir_lib.study import config, results
from tests.book.test_report import cbir_in, environment_of, project
from tests.reproduction.test_verdicts import NAMED as DESCRIPTOR_OF
from tests.reproduction.test_verdicts import series

ROOT = Path(__file__).parents[2]
NETWORK = r"Network ([A-H])\b"
TERMS = {  # as sentences have them, and as the names of runs do
    r"both": "dropout-augment",
    r"dropout": "dropout",
    r"augmentation": "augment",
    r"batch normalisation": "normalised",
    r"(\d+) variations": r"\1variations",
    r"varied (\w+)": r"\1",
    r"no CLAHE": "raw",
    r"no mean image": "uncentred",
    r"no weight decay": "decay0",
    r"(flattened|pooled) maps": r"\1",
    r"(\d+) classes": r"\1classes",
    r"crops of (\d+) px": r"crop\1",
    r"a learning rate of ([\d.]+)": r"rate\1",
    r"a constant learning rate": "constant",
    r"early stopping": "stopped",
    r"twice the epochs": "2xepochs",
    r"(\d+) learnt bits": r"\1bits",
    r"a weight decay of ([\d.]+)": r"decay\1",
    r"the ([\w-]+) loss": r"\1",
    r"the supervised contrastive loss": "supervised-contrastive",
    r"IRMA codes for classes": "codes",
    r"the tree of IRMA codes": "code-tree",
    r"float32": "float32",
}
TERM = rf"(?:{'|'.join(TERMS)})".replace("(", "(?:").replace("(?:?:", "(?:")
VARIANT = rf"((?: with {TERM}(?:, {TERM})*(?: and {TERM})?)?)"
SEED = r"(?:, seed (\d+))?"
NAMED = re.compile(NETWORK + VARIANT + SEED)
NUMBER = re.compile(r"(?<![\d.(])(\d{1,2}\.\d) %")  # one in brackets is the end of an interval
PROFILE = re.compile(r"\b[Pp]rofile `?([a-z][\w-]*)`?(?=[:,;.)*])")
OTHER = re.compile(
    r"paper|mAP|precision|points|P@|nDCG|neighbour|validation|chance|level|mark|interval|against|answer",
    re.I,
)
RANKED = re.compile(r"mAP|mean average precision")
OF_FILMS = re.compile(r"films|[Rr]eal")
WAYS = (("both", "dropout-augment"), ("augment", "augment"), ("dropout", "dropout"))


@dataclass(frozen=True)
class Statement:
    """An accuracy of a network that a chapter states; ``seed`` None is the mean of all."""

    chapter: str
    network: str
    variant: str
    profile: str
    seed: int | str | None  # "2 seeds" is the mean of those that both sides of a pair have
    accuracy: float

    @property
    def key(self):
        return self.network, self.variant, self.profile, self.seed


def gather(notebook: Path) -> list[Statement]:
    """Every accuracy of a network that an executed chapter states."""
    pieces = list(_pieces(nbformat.read(notebook, as_version=4)))
    profiles = [m[1] if (m := PROFILE.search(text)) else None for _, text in pieces]
    statements = []
    for number, (kind, text) in enumerate(pieces):
        known = [p for p in [*profiles[number:], *reversed(profiles[:number])] if p]
        profile = known[0] if known else ""
        if kind == "table":
            after = pieces[number + 1][1] if number + 1 < len(pieces) else ""
            before = [words for kind, words in pieces[:number] if kind != "table"]
            rows = _of_table(text, before[-1] if before else "", after)
        elif "| method | profile" in text or "your run" in text.lower():
            rows, stated = _of_your_run(text), re.search(r"evidence \(profile ([\w-]+)", text)
            profile = stated[1] if stated else profile
        else:
            rows = _of_words(text)
        statements += [
            Statement(notebook.stem, network, variant, profile, seed, value)
            for network, variant, seed, value in rows
        ]
    return statements


def contradictions(statements: list[Statement]) -> list[str]:
    """What is stated with two values, a line each."""
    stated = defaultdict(lambda: defaultdict(set))
    for statement in statements:
        stated[statement.key][statement.accuracy].add(statement.chapter)
    lines = []
    for (network, variant, profile, seed), values in stated.items():
        if len(values) > 1:
            what = f"network {network} {variant or 'plain'}, profile {profile}, seed {seed}: "
            readings = (
                f"{value} in {', '.join(sorted(pages))}" for value, pages in sorted(values.items())
            )
            lines.append(what + "; ".join(readings))
    return lines


def _pieces(notebook):
    """What a reader sees, in order: ``words`` or ``table``, and the text."""
    for cell in notebook.cells:
        if "remove-cell" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown":
            yield "words", cell.source
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/markdown" in data:
                yield "words", data["text/markdown"]
            elif "<table" in data.get("text/html", ""):
                yield "table", data["text/html"]


def _named(text: str):
    """Network, variant and seed that a name is of; None where it is none."""
    match = NAMED.fullmatch(text.strip())
    return match and _of_match(match)


def _of_match(match):
    network, variant, seed = match.groups()
    terms = re.split(r", | and ", variant.removeprefix(" with ")) if variant else []
    return network, "-".join(map(_name_term, terms)), None if seed is None else int(seed)


def _name_term(term):
    """What the name of a run has for a term."""
    matches = ((re.fullmatch(pattern, term), name) for pattern, name in TERMS.items())
    return next(match.expand(name) for match, name in matches if match).lower()


def _of_table(html: str, before: str, after: str):
    """``(network, variant, seed, accuracy)`` of every cell of a table that states one."""
    lines = [
        [cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])]
        for row in BeautifulSoup(html, "html.parser").find_all("tr")
    ]
    if not lines or not (
        after.lstrip().startswith("*Test accuracy") or any("accuracy" in h for h in lines[0])
    ):
        return
    header = next((line for line in lines if any(line[1:])), [])
    label = next((i for i, h in enumerate(header) if h in ("network", "method")), 0)
    if [*lines[1:2]] and lines[1][0] in ("network", "method"):
        label = 0  # pandas names the index in a line of its own
    for line in lines:
        if len(line) != len(header):
            continue
        name = line[label]
        named = _named(f"Network {name}" if re.fullmatch("[A-H]", name) else name)
        if not named:
            continue
        network, variant, seed = named
        of_pair = re.match(r"one|\d+", dict(zip(header, line, strict=True)).get("seeds", ""))
        for title, cell in zip(header, line, strict=True):
            values = [float(v) for v in re.findall(r"(?<![\d.])\d{1,2}\.\d(?!\d)", cell)]
            one_seed = re.fullmatch(r"seed (\d+)", title)
            classes = re.fullmatch(r"(\d) classes \(%\)", title)
            if not values:
                continue
            if one_seed:
                yield network, variant, int(one_seed[1]), values[0]
            elif classes:
                yield network, "" if classes[1] == "5" else f"{classes[1]}classes", None, values[0]
            elif title == "here (%)" and "→" in cell:
                section = re.split(r"(?m)^#+ ", before)[-1].lower()
                way = next((v for word, v in WAYS if word in section), None)
                sides = [v.strip() for v in cell.split("→")]
                for side, trained in zip(sides, ("", way), strict=True):
                    if re.fullmatch(r"\d{1,2}\.\d", side) and trained is not None:
                        yield network, trained, _name_seeds(of_pair), float(side)
            elif title == "here (%)":
                yield network, paper.TRAINED[network], None, values[0]
            elif title == "plain (%)":
                yield network, "", None, values[0]
            elif title in ("accuracy (%)", "test accuracy (%)", "mean"):
                yield network, variant, seed, values[0]


def _name_seeds(count):
    """How many seeds a pair has, by the match of its cell; None where no column says it."""
    return count and f"{count[0].replace('one', '1')} seeds"


def _of_your_run(text: str):
    """The last column of the table "Your run", which is of the evidence."""
    lines = [[c.strip() for c in row.strip("|").split("|")] for row in text.splitlines()]
    for line in lines:
        if len(line) == 3 and (named := _named(line[0])):
            yield *named, float(line[-1])


def _of_words(text: str):
    """``Network X ... NN.N %`` within a sentence, where the number is its accuracy."""
    for sentence in re.split(r"(?<=[a-z%)])[.;] |\n\s*\n|\n- ", text.replace("*", "")):
        if OF_FILMS.search(sentence):
            continue
        names = [*NAMED.finditer(sentence)]
        for match, following in zip(names, [*names[1:], None], strict=False):
            if RANKED.search(sentence[: match.start()]):
                continue  # "By mean average precision the best network (Network E) has ..."
            start, end = match.end(), following.start() if following else len(sentence)
            for number in NUMBER.finditer(sentence, start, end):
                between, start = sentence[start : number.start()], number.end()
                if not OTHER.search(between):
                    yield *_of_match(match), float(number[1])
                    break


# The gatherer


def page(path, *pieces):
    """An executed chapter that shows these: words, or a table as lists of cells, header first."""
    outputs = []
    for piece in pieces:
        if isinstance(piece, str):
            data = {"text/markdown": piece}
        else:
            rows = ("".join(f"<td>{cell}</td>" for cell in row) for row in piece)
            table = "".join(f"<tr>{row}</tr>" for row in rows)
            data = {"text/html": f"<table>{table}</table>"}
        outputs.append(nbformat.v4.new_output("display_data", data))
    cells = [nbformat.v4.new_code_cell("...", outputs=outputs)]
    hidden = nbformat.v4.new_output("display_data", {"text/markdown": "Network B has 1.0 %."})
    cells.append(
        nbformat.v4.new_code_cell("x", outputs=[hidden], metadata={"tags": ["remove-cell"]})
    )
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


CAPTION = "*Profile full: simulated images; 20 epochs.*"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("The best is Network B, 91.2 % (90.1 to 92.0 %).", [("B", "", None, 91.2)]),
        ("The best network (Network C with dropout) classifies **93.4 % (92.0 to 94.1 %)** of "
         "them correctly, the best handcrafted method (VLAD) **97.8 %**.",
         [("C", "dropout", None, 93.4)]),
        ("Network E with dropout and augmentation, seed 1 reaches 88.0 %.",
         [("E", "dropout-augment", 1, 88.0)]),
        ("Network A, which the paper reports at 43.1 %, reaches 83.3 % here.",
         [("A", "", None, 83.3)]),
        ("Network G ends highest with 95.0 % of the test images, A lowest.",
         [("G", "", None, 95.0)]),
        ("By mean average precision the best network (Network E) has 58.0 %.", []),
        ("Network E has a mAP of 58.0 %.", []),
        ("The best with real films is Network B with batch normalisation: 98.6 %.", []),
        ("Network B with batch normalisation and 8 variations has 96.2 %, Network B with batch "
         "normalisation 95.0 %.",
         [("B", "normalised-8variations", None, 96.2),
          ("B", "normalised", None, 95.0)]),
        ("Network B is 2.1 points ahead. The descriptor has 91.0 %.", []),
    ],
)  # fmt: skip
def test_numbers_in_sentences(words, expected, tmp_path):
    statements = gather(page(tmp_path / "a.ipynb", words, CAPTION))
    assert [(s.network, s.variant, s.seed, s.accuracy) for s in statements] == expected
    assert {s.profile for s in statements} <= {"full"}


def test_numbers_in_tables(tmp_path):
    accuracy = [["", "accuracy (%)", "balanced (%)", "paper (%)"],
                ["Network B with dropout", "91.2 (90.0 to 92.0)", "90.1 (89.0 to 91.0)", "92.03"],
                ["VLAD", "97.8 (97.0 to 98.0)", "97.0", ""]]  # fmt: skip
    retrieval = [["", "mAP (%)"], ["Network B", "61.0"]]
    four = [["method", "paper (%)", "here (%)", "plain (%)"],
            ["Network E", "88.38", "94.2 (93.0 to 95.0)", "93.1"]]  # fmt: skip
    ways = [["network", "here (%)"], ["F", "91.0 → 92.5"], ["G", "90.0 → \N{EN DASH}"]]
    pairs = [["network", "here (%)", "seeds"], ["F", "91.3 → 92.9", "2 seeds, +0.1 to +1.2"],
             ["G", "90.1 → 90.2", "one seed"]]  # fmt: skip
    seeds = [["", "seed 0", "seed 1", "mean", "mAP, mean"], ["network", "", "", "", ""],
             ["D", "90.1", "90.3", "90.2", "55.0"]]  # fmt: skip
    place = page(
        *(tmp_path / "a.ipynb", accuracy, CAPTION, retrieval, CAPTION, four, "*Test accuracy.*"),
        *("### Table 5: dropout", ways, "*Test accuracy without → with.*"),
        *("Both remedies.\n\n### Augmentation", pairs, "*Test accuracy without → with.*"),
        *(seeds, "*Test accuracy (%). Profile other, three seeds.*"),
    )
    assert {(*s.key, s.accuracy) for s in gather(place)} == {
        ("B", "dropout", "full", None, 91.2),
        ("E", "dropout-augment", "other", None, 94.2),
        ("E", "", "other", None, 93.1),
        ("F", "", "other", None, 91.0),
        ("F", "dropout", "other", None, 92.5),
        ("G", "", "other", None, 90.0),
        ("F", "", "other", "2 seeds", 91.3),
        ("F", "augment", "other", "2 seeds", 92.9),
        ("G", "", "other", "1 seeds", 90.1),
        ("G", "augment", "other", "1 seeds", 90.2),
        ("D", "", "other", 0, 90.1),
        ("D", "", "other", 1, 90.3),
        ("D", "", "other", None, 90.2),
    }


def test_the_terms_are_those_of_the_library():
    study = config.read_study(ROOT / "study.yml")
    networks = [run for profile in study.profiles for run in study.runs(profile)]
    for variant in {run.variant for run in networks if isinstance(run, config.NetworkRun)}:
        named = config.name_network("B", variant)
        assert _named(named)[:2] == ("B", variant), named


def test_your_run_is_not_the_books(tmp_path):
    text = (
        "**Your run** (profile quick: 4,000 training images) and the evidence "
        "(profile full: 11,409), test accuracy in percent:\n\n"
        "| method | profile quick | profile full |\n"
        "|---|---|---|\n| Network A | 81.0 | 92.0 |\n| VLAD | 80.0 | 90.0 |"
    )
    line = "**Your run** (profile quick): the best network (Network A) classifies 81.0 %."
    [one] = gather(page(tmp_path / "a.ipynb", text, line, CAPTION))
    assert (*one.key, one.accuracy) == ("A", "", "full", None, 92.0)


def test_two_numbers_for_one_network_are_found_and_two_profiles_are_not(tmp_path):
    one = page(tmp_path / "one.ipynb", "The best is Network B, 91.2 %.", CAPTION)
    two = page(tmp_path / "two.ipynb", "Network B reaches 90.9 %.", CAPTION)
    other = page(tmp_path / "three.ipynb", "Network B reaches 80.1 %.", "*Profile quick: few.*")
    same = page(tmp_path / "four.ipynb", "Network B reaches 91.2 %, Network C 93.0 %.", CAPTION)
    assert contradictions(gather(one) + gather(other) + gather(same)) == []
    [line] = contradictions(gather(one) + gather(two))
    assert line.startswith("network B plain, profile full")
    assert "90.9 in two" in line
    assert "91.2 in one" in line


# The chapters


PAGES = ("index", "comparison", "report")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The chapters on made-up results: profile full published, a study of quick of one's own."""
    ways = {(name, way) for name, trained in paper.TRAINED.items() for way in ("", trained)}
    ways.add(("H", ""))  # the evidence has it
    shares = {side: 0.8 + 0.01 * number for number, side in enumerate(sorted(ways))}
    handcrafted = dict.fromkeys(paper.FAMILIES, 0.75)
    full = [agreeing(r) for r in series(shares | handcrafted, seeds=range(2))]
    for r in full:
        r.data.images["train"] = 3000
    folder = project(tmp_path_factory.mktemp("story"), full=full)
    study = yaml.safe_load((ROOT / "study.yml").read_text(encoding="utf-8"))
    names = [DESCRIPTOR_OF[row] for row in paper.FAMILIES]
    grid = study["grid"]
    grid["descriptors"] = {name: grid["descriptors"][name] for name in names}
    del grid["combination"], grid["effects"], study["profiles"]["quick"]["effects_without"]
    (folder / "study.yml").unlink()
    (folder / "study.yml").write_text(yaml.safe_dump(study), encoding="utf-8")
    own = {side: share - 0.2 for side, share in shares.items() if not side[1]} | handcrafted
    for r in series(own, seeds=[0]):
        results.write(folder / "build/quick/runs" / r.run / "result.json", agreeing(r))
    address = tmp_path_factory.mktemp("warm") / "warm"
    with subprocess.Popen(
        [sys.executable, "-m", "cbir_lib.cli.warm", address],
        env=environment_of(folder),
        cwd=folder,
        stdin=subprocess.PIPE,
    ):
        while not address.exists():
            time.sleep(0.01)
        job = ("--work", "build/quick", "--profile", "quick")
        for name in PAGES:
            cbir_in(folder, "job", "chapter", name, *job, **{WARM: str(address)})
    return [gather(folder / "build/quick/chapters" / f"{name}.ipynb") for name in PAGES]


def agreeing(result):
    """A made-up result whose rule says what its answers say; it has a second distance."""
    share = sum(map(int.__eq__, result.answers, result.data.test_labels)) / len(result.answers)
    rule = result.rules[0].model_copy(
        update={"accuracy": share, "accuracy_interval": [share - 0.02, share + 0.02]}
    )
    tried = [*result.distances, result.distances[0].model_copy(update={"distance": "L1"})]
    return result.model_copy(update={"rules": [rule, *result.rules[1:]], "distances": tried})


def test_chapters_on_small_results_tell_one_story(executed):
    statements = [statement for of_page in executed for statement in of_page]
    assert contradictions(statements) == []
    assert {s.profile for s in statements} == {"full"}
    stated = {s.key for s in statements}
    assert {(name, way, "full", None) for name, way in paper.TRAINED.items()} <= stated
    of_pages = [{s.key for s in of_page} for of_page in executed]
    assert min(map(len, of_pages)) > 0
    assert len(of_pages[1] & of_pages[2]) >= 13  # so that there is something to compare


def test_one_number_changed_in_one_chapter_is_found(executed):
    first, *others = (s for of_page in executed for s in of_page)
    changed = Statement("elsewhere", *first.key, first.accuracy + 0.1)
    assert len(contradictions([first, *others, changed])) == 1


def test_the_executed_chapters_of_this_checkout_tell_one_story():
    if not (ROOT / "build" / "quick" / "html" / "index.html").is_file():
        pytest.skip("no book was built here: make study")
    chapters = sorted((ROOT / "build" / "quick" / "chapters").glob("*.ipynb"))
    statements = [statement for chapter in chapters for statement in gather(chapter)]
    assert len({s.chapter for s in statements}) >= 3
    assert contradictions(statements) == []
