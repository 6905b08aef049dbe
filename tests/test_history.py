"""The record of a training: written line by line, cut where a run goes on, and read past a torn end."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cxrzoo.errors import DiskError, PretrainingError
from cxrzoo.pretraining.history import History


def make_row(step: int) -> dict[str, float]:
    """Return what a training records after a step."""
    row = {"step": step, "epoch": step / 10, "loss": 7 - step / 100, "learning_rate": 0.03}
    return row | ({"knn": 0.8 + step / 1000} if step % 10 == 0 else {})


def write_rows(history: History, first: int, last: int) -> None:
    """Append the rows of steps from `first` to `last`."""
    for step in range(first, last + 1):
        history.append(make_row(step))


def test_rows_come_back(tmp_path: Path) -> None:
    """What was appended is read back, by another object too, in the same order."""
    history = History(tmp_path / "history.jsonl")

    write_rows(history, 1, 3)

    assert [make_row(1), make_row(2), make_row(3)] == History(history.path).rows()


def test_a_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    """After each append the file holds one more whole line of JSON."""
    history = History(tmp_path / "history.jsonl")

    lines = []
    for step in (1, 2):
        history.append(make_row(step))
        lines.append([json.loads(line)["step"] for line in history.path.read_text().splitlines()])

    assert [[1], [1, 2]] == lines


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, torch.tensor(math.nan), np.float32("inf"), None])
def test_what_is_not_finite_becomes_null(tmp_path: Path, value: float) -> None:
    """NaN and infinity are no JSON: they are written as null, and read as None."""
    history = History(tmp_path / "history.jsonl")

    history.append({"step": 1, "loss": value})

    assert '{"step": 1, "loss": null}\n' == history.path.read_text()
    assert [{"step": 1, "loss": None}] == history.rows()


def test_scalars_of_torch_and_numpy_are_numbers(tmp_path: Path) -> None:
    """Scalars of libraries are written as the numbers they hold."""
    history = History(tmp_path / "history.jsonl")

    history.append({"step": 1, "loss": torch.tensor(0.5), "usage": np.float64(0.25)})

    assert [{"step": 1, "loss": 0.5, "usage": 0.25}] == history.rows()


def test_columns_have_nan_where_a_row_has_nothing(tmp_path: Path) -> None:
    """Columns are as long as there are rows; gaps and nulls are NaN."""
    history = History(tmp_path / "history.jsonl")
    for row in ({"step": 1, "loss": 2.0}, {"step": 2, "loss": math.nan, "knn": 0.8}, {"step": 3, "loss": 1.0}):
        history.append(row)

    columns = history.columns()

    assert ["step", "loss", "knn"] == list(columns)
    np.testing.assert_array_equal([1, 2, 3], columns["step"])
    np.testing.assert_array_equal([2, math.nan, 1], columns["loss"])
    np.testing.assert_array_equal([math.nan, 0.8, math.nan], columns["knn"])


def test_no_file_is_an_empty_history(tmp_path: Path) -> None:
    """Without a file there are no rows, resuming is no error, and none is made by looking."""
    history = History(tmp_path / "history.jsonl")

    history.resume(5)

    assert ([], {}, False) == (history.rows(), history.columns(), history.path.exists())


@pytest.mark.parametrize("torn", [b"", b'{"step": 18, "lo', b"\x00\x00\x00\xff", b"{"])
def test_resumed_is_as_if_uninterrupted(tmp_path: Path, torn: bytes) -> None:
    """A run that died after step 17 and goes on from its state of step 12 leaves the file of a run that did not."""
    whole, broken = History(tmp_path / "whole.jsonl"), tmp_path / "broken.jsonl"
    write_rows(whole, 1, 30)
    write_rows(History(broken), 1, 17)
    with broken.open("ab") as file:
        file.write(torn)

    history = History(broken)
    history.resume(12)
    write_rows(history, 13, 30)

    assert whole.path.read_bytes() == broken.read_bytes()


@pytest.mark.parametrize(("step", "kept"), [(0, []), (1, [1]), (2, [1, 2]), (99, [1, 2, 3])])
def test_rows_after_the_state_are_dropped(tmp_path: Path, step: int, kept: list[int]) -> None:
    """Rows up to the step that a run goes on from stay, its own included."""
    history = History(tmp_path / "history.jsonl")
    write_rows(history, 1, 3)

    history.resume(step)

    assert kept == [row["step"] for row in history.rows()]


def test_a_torn_last_line_is_no_row(tmp_path: Path) -> None:
    """Reading, as for a curve of a run that is going on, passes over an unfinished line and changes nothing."""
    history = History(tmp_path / "history.jsonl")
    write_rows(history, 1, 2)
    torn = history.path.read_bytes() + b'{"step": 3, "loss": 6.9'
    history.path.write_bytes(torn)

    assert [1, 2] == [row["step"] for row in history.rows()]
    assert torn == history.path.read_bytes()


def test_appending_to_a_torn_file_mends_it(tmp_path: Path) -> None:
    """A row never continues a torn line, even where nobody called `resume`."""
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "lo')

    History(path).append({"step": 2})

    assert b'{"step": 1}\n{"step": 2}\n' == path.read_bytes()


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"{", b"[1]", b"\xff", b'{"loss": 1}', b'{"step": "2"}', b'{"step": 1.5}', b'{"step": 0}'),
        *(b'{"step": 2, "loss": NaN}', b'{"step": 2, "loss": "1"}'),
    ],
    ids=repr,
)
@pytest.mark.parametrize("read", [History.rows, History.columns, History.resume], ids=lambda f: f.__name__)
def test_damage_elsewhere_is_refused(tmp_path: Path, line: bytes, read: object) -> None:
    """A damaged line that ends is no trace of a killed run: it is named, and the file is left alone."""
    path = tmp_path / "history.jsonl"
    data = b'{"step": 1}\n' + line + b'\n{"step": 3}\n'
    path.write_bytes(data)

    with pytest.raises(PretrainingError, match=r"history.jsonl, line 2: found .*, expected .* Mend"):
        read(History(path))

    assert data == path.read_bytes()


def test_rows_of_another_run_are_not_continued(tmp_path: Path) -> None:
    """A run from the beginning is not appended to one that went further."""
    path = tmp_path / "history.jsonl"
    write_rows(History(path), 1, 20)

    with pytest.raises(PretrainingError, match="goes to step 20 and would get a row of step 1, expected a later one"):
        History(path).append({"step": 1})

    assert 20 == len(History(path).rows())


def test_steps_don_t_go_back(tmp_path: Path) -> None:
    """Within a run a row is not before the last one; two may be of one step."""
    history = History(tmp_path / "history.jsonl")
    history.append({"step": 5})
    history.append({"step": 5})

    with pytest.raises(PretrainingError, match="goes to step 5 and would get a row of step 4"):
        history.append({"step": 4})


def test_a_file_that_can_t_be_written_is_a_disk_error(tmp_path: Path) -> None:
    """Where there is no folder, the error names the file."""
    with pytest.raises(DiskError, match="history.jsonl"):
        History(tmp_path / "missing" / "history.jsonl").append({"step": 1})
