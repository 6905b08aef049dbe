"""The curves of a training as one SVG: what is drawn of what was recorded, and that nothing is lost between panels."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from cxrzoo.errors import PretrainingError
from cxrzoo.pretraining.curves import POINTS, draw_training
from cxrzoo.pretraining.history import History

SVG = "{http://www.w3.org/2000/svg}"


def make_columns(rows: int = 400, *names: str) -> dict[str, np.ndarray]:
    """Return a history with these columns; "knn" and "rank" are known after every twentieth row."""
    steps = np.arange(1.0, rows + 1)
    columns = {
        "step": steps,
        "loss": 6 + 3 * np.exp(-steps / 100) + np.random.default_rng(0).normal(0, 0.1, rows),
        "learning_rate": 0.03 * (1 - steps / rows),
        "spread": 0.1 + steps / rows / 5,
        "usage": np.full(rows, 0.95),
        "masked": np.full(rows, 0.47),
        "knn": np.where(steps % 20 == 0, 0.8 + steps / rows / 10, np.nan),
        "rank": np.where(steps % 20 == 0, 30 + steps / rows, np.nan),
    }
    return {name: columns[name] for name in ("step", "loss", *names)}


ALL = ("learning_rate", "spread", "usage", "masked", "knn", "rank")


def texts(svg: str) -> list[str]:
    """Return all texts of a picture."""
    return ["".join(element.itertext()).strip() for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_each_column_has_a_panel() -> None:
    """What was recorded has a panel with its name; what was not has none."""
    titles = {"loss, by steps", "learning rate", "masked share", "effective rank", "usage (dashed: too low)"}
    titles |= {"spread (dashed: collapse)", "kNN AUROC (dashed: first)"}

    assert titles == titles & set(texts(draw_training(make_columns(400, *ALL))))
    assert {"loss, by steps", "effective rank"} == titles & set(texts(draw_training(make_columns(400, "rank"))))


def test_a_column_without_numbers_has_no_panel() -> None:
    """A monitor that was never measured is left out."""
    columns = make_columns(40) | {"knn": np.full(40, np.nan)}

    assert draw_training(make_columns(40)) == draw_training(columns)


@pytest.mark.parametrize("names", [(), ("spread",), ("learning_rate", "knn", "spread"), ALL])
def test_nothing_lies_outside_the_picture(names: tuple[str, ...]) -> None:
    """The picture is 720 pixels wide, and all texts are within it and in different places."""
    root = ElementTree.fromstring(draw_training(make_columns(400, *names)))
    _, _, width, height = map(float, root.attrib["viewBox"].split())

    places = []
    for element in root.iter(f"{SVG}text"):
        found = re.search(r"translate\(([\d.-]+) ([\d.-]+)\)", element.get("transform", ""))
        x, y = found.groups() if found else (element.attrib["x"], element.attrib["y"])
        places.append((float(x), float(y)))

    assert 720 == width
    assert all(0 <= x <= width and 8 <= y <= height - 2 for x, y in places)
    assert len(places) == len(set(places))


@pytest.mark.parametrize(("highest", "shown"), [(0.03, ["0", "0.02"]), (5e-4, ["0", "5e-4"]), (2.5e-6, ["0", "2e-6"])])
def test_learning_rates_have_short_labels(highest: float, shown: list[str]) -> None:
    """Zeros before a small rate would leave the picture on its left."""
    columns = make_columns(400)

    labels = texts(draw_training(columns | {"learning_rate": highest * (1 - columns["step"] / 400)}))

    assert shown == labels[labels.index("learning rate") - len(shown) : labels.index("learning rate")]


def test_ids_are_used_once() -> None:
    """Panels that are laid together don't refer to each other's parts."""
    svg = draw_training(make_columns(400, *ALL))

    ids = re.findall(r'\bid="([^"]+)"', svg)

    assert len(ids) == len(set(ids))
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)) <= {(i, "") for i in ids} | {("", i) for i in ids}


def test_colours_follow_the_theme() -> None:
    """A file of its own has both themes; all colours of lines and texts are variables of them."""
    svg = draw_training(make_columns(400, *ALL))

    assert 1 == svg.count("prefers-color-scheme:dark")
    assert set() == set(re.findall(r"(?:stroke|fill): (#\w+)", svg))
    assert "prefers-color-scheme" not in draw_training(make_columns(400, *ALL), standalone=False)


def test_long_trainings_stay_small() -> None:
    """A line has a bounded number of points, the picture a bounded size, and its last value stays in the words."""
    columns = make_columns(50_000, *ALL)

    svg = draw_training(columns)

    longest = max(len(re.findall(r"[ML] ?", path)) for path in re.findall(r' d="([^"]+)"', svg))
    assert longest <= 2 * POINTS + 3
    assert len(svg) < 80_000
    assert f"loss from {columns['loss'][0]:.3g} to {columns['loss'][-1]:.3g}" in svg


def test_words_say_what_the_curves_show() -> None:
    """The label names steps and first and last values, skipping rows without."""
    columns = {"step": np.array([10.0, 20, 30]), "loss": np.array([7, np.nan, 6]), "knn": np.array([np.nan, 0.8, 0.85])}

    label = ElementTree.fromstring(draw_training(columns)).attrib["aria-label"]

    assert "Training of 30 steps: loss from 7 to 6, kNN AUROC from 0.8 to 0.85." == label


def test_a_single_row_can_be_drawn() -> None:
    """After the first row there is a picture already, with a point."""
    assert "<use" in draw_training({"step": np.array([5.0]), "loss": np.array([7.0])})


def test_a_history_can_be_drawn(tmp_path: Path) -> None:
    """What a history gives as columns is what is drawn."""
    history = History(tmp_path / "history.jsonl")
    for step in (1, 2, 3):
        history.append({"step": step, "loss": 9.0 - step, "spread": 0.2})

    assert "loss from 8 to 6, spread from 0.2 to 0.2" in draw_training(history.columns())


def test_the_same_history_gives_the_same_bytes() -> None:
    """A picture that is made anew from the same rows doesn't change."""
    assert draw_training(make_columns(400, *ALL)) == draw_training(make_columns(400, *ALL))


@pytest.mark.parametrize("columns", [{}, {"step": np.array([1.0]), "loss": np.array([np.nan])}])
def test_without_loss_there_is_nothing_to_draw(columns: dict[str, np.ndarray]) -> None:
    """A history without rows, or without any loss, is refused."""
    with pytest.raises(PretrainingError, match="without any loss, expected a row at least"):
        draw_training(columns)
