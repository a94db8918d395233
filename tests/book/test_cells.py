"""What cells display, in order."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from cbir_lib.book import cells
from cbir_lib.study import results, summaries, wording
from cbir_lib.study.results import name_method


@pytest.fixture(autouse=True)
def decoded(phantom_set, phantom_cache, monkeypatch):
    monkeypatch.setenv("CBIR_CACHE", str(phantom_cache))
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def published():
    result_of = summaries.select_descriptors(
        results.read_published("quick"), ["haralick", "zernike"]
    )
    assert all(result.confused for result in result_of.values())
    return list(result_of.values())


CAPTION = f"*{wording.CONFUSED} From the phantom (simulated images).*"


@pytest.fixture
def displayed(monkeypatch):
    """Call ``show_confused_pairs``; what it displays, Markdown as text."""

    def show(*shown_results):
        outputs = []
        monkeypatch.setattr(cells, "display", outputs.append)
        cells.show_confused_pairs(*shown_results)
        return [output if isinstance(output, Figure) else output.data for output in outputs]

    return show


def test_pairs_of_one_method_are_a_figure_and_a_caption(published, displayed):
    figure, caption = displayed(published[0])
    assert isinstance(figure, Figure) and caption == CAPTION


def test_pairs_of_two_methods_are_named(published, displayed):
    outputs = displayed(*published)
    assert outputs[::2] == [f"**{name_method(r)}**" for r in published] + [CAPTION]
    assert all(isinstance(output, Figure) for output in outputs[1::2])


def test_a_method_without_pairs_is_left_out(published, displayed):
    right = published[0].model_copy(update={"confused": []})
    assert displayed(right, published[1])[0] == f"**{name_method(published[1])}**"
    [note] = displayed(right)
    assert note == "*No test image's nearest image is of another class.*"


def test_pairs_of_images_that_are_not_here_are_a_note(published, displayed):
    data = published[0].data.model_copy(update={"dataset": "irma"})
    assert displayed(published[0].model_copy(update={"data": data})) == [wording.NO_PICTURES]
