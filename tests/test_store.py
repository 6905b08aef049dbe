"""The embedding store: filled from a table, stopped and gone on with, damaged and mended, never of two models."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import phantoms
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from cxrzoo.cli import main
from cxrzoo.embedding import EmbeddingStore, embed_images, embed_table, open_store
from cxrzoo.embedding.parts import Part, Row, pack, read_part
from cxrzoo.errors import CxrZooError, DigestError, EvaluationError, FolderError, RecordError
from cxrzoo.loader import Provenance
from cxrzoo.manifest import Preprocessing

RECORD = Preprocessing((1, 20, 20), (0.5,), (0.1,), "bilinear", 1.0, "center")
PROVENANCE = Provenance("mean", "folder", "a" * 64, "given", "b" * 64, "exact", 2)


class Mean(torch.nn.Module):
    """In the place of a backbone: mean and deviation of an image, and a count of the images it saw."""

    def __init__(self, provenance: Provenance = PROVENANCE) -> None:
        super().__init__()
        self.transform, self.provenance, self.seen = types.SimpleNamespace(record=RECORD), provenance, 0
        self.factor, self.moves = torch.nn.Parameter(torch.ones(1)), list[str]()

    def to(self, device: Any) -> Any:
        """Move to a device, and keep in mind to which."""
        self.moves.append(str(device))
        return super().to(device)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        flat = images.flatten(1)
        return torch.stack([flat.mean(1), flat.std(1)], 1) * self.factor


def make_model(**provenance: Any) -> Any:
    """Return a model whose provenance differs so from the usual one."""
    return Mean(dataclasses.replace(PROVENANCE, **provenance))


def make_images(folder: Path, count: int) -> list[str]:
    """Write so many small radiographs, and return their paths below `folder`."""
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    names = [f"sub/{number:03}.png" for number in range(count)]
    for seed, name in enumerate(names):
        (folder / name).write_bytes(phantoms.saved(phantoms.radiograph(24, 20, seed=seed)))
    return names


def fill(folder: Path, names: Sequence[str], root: Path, *, model: Any = None, **options: Any) -> Any:
    """Embed in this process, in parts of 16; return what became of it, and how many images the model saw."""
    model = model or make_model()
    stored = embed_table(model, root, names, folder, **{"workers": 0, "chunk": 16} | options)
    return stored, model.seen


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with 40 images."""
    make_images(tmp_path / "images", 40)
    return tmp_path / "images"


NAMES = [f"sub/{number:03}.png" for number in range(40)]


@pytest.mark.parametrize("workers", [0, 2])
def test_equal_to_embedding_images(workers: int, root: Path, tmp_path: Path) -> None:
    """A store gives back the very embeddings that `embed_images` computes, in any order and as often as asked."""
    expected = embed_images(make_model(), [root / name for name in NAMES])

    stored, _ = fill(tmp_path / "store", NAMES, root, workers=workers)

    order = [39, 0, 17, 0]
    embeddings, failures = stored.read([NAMES[position] for position in order])
    assert np.float32 == embeddings.dtype
    np.testing.assert_array_equal(expected[order], embeddings)
    assert ({}, 40, 40, 0) == (failures, len(stored.store), stored.embedded, stored.kept)


def test_opened_again(root: Path, tmp_path: Path) -> None:
    """A store that is opened later has the same content, and says whose it is."""
    stored, _ = fill(tmp_path / "store", NAMES, root)

    opened = open_store(tmp_path / "store", PROVENANCE)

    assert PROVENANCE == opened.provenance
    assert NAMES == list(opened)
    np.testing.assert_array_equal(stored.read(NAMES)[0], opened.read(NAMES)[0])


def test_second_run_reads_nothing(root: Path, tmp_path: Path) -> None:
    """What is there is not embedded again, and no file is touched."""
    fill(tmp_path / "store", NAMES, root)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.*")}

    stored, seen = fill(tmp_path / "store", NAMES, root)

    assert (0, 0, 40) == (seen, stored.embedded, stored.kept)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.*")}


def test_only_what_changed(root: Path, tmp_path: Path) -> None:
    """An image whose file has changed is embedded again, and so are new ones; the others keep their embeddings."""
    first = fill(tmp_path / "store", NAMES[:30], root)[0].read(NAMES[:30])[0]
    (root / NAMES[3]).write_bytes(phantoms.saved(phantoms.radiograph(50, 20, seed=99)))
    os.utime(root / NAMES[7], (0, 0))

    stored, seen = fill(tmp_path / "store", NAMES, root)

    again = stored.read(NAMES)[0]
    assert (12, 28) == (seen, stored.kept)
    assert [3] == np.flatnonzero((first != again[:30]).any(axis=1)).tolist()
    np.testing.assert_array_equal(embed_images(make_model(), [root / name for name in NAMES]), again)


def test_repeated_paths(root: Path, tmp_path: Path) -> None:
    """A path that comes twice is embedded once and read twice."""
    stored, seen = fill(tmp_path / "store", NAMES[:2] * 2, root)

    embeddings, _ = stored.read(NAMES[:2] * 2)
    assert (2, 2) == (seen, stored.embedded)
    np.testing.assert_array_equal(embeddings[:2], embeddings[2:])


def test_nothing_to_embed(tmp_path: Path) -> None:
    """A table without rows makes a store without rows, of the right width."""
    stored, _ = fill(tmp_path / "store", [], tmp_path)

    assert (0, 2) == stored.read([])[0].shape
    assert 0 == len(open_store(tmp_path / "store"))


def test_progress(root: Path, tmp_path: Path) -> None:
    """Progress starts with what is there already, grows with each batch, and ends with all images."""
    fill(tmp_path / "store", NAMES[:5], root)
    calls: list[tuple[int, int]] = []

    fill(tmp_path / "store", NAMES, root, progress=lambda done, total: calls.append((done, total)))

    assert [(5, 40), (21, 40), (37, 40), (40, 40)] == calls


CHILD = """
import os, signal, sys
import test_store
def progress(done, total):
    {deed}
stored, seen = test_store.fill({folder!r}, test_store.NAMES, {root!r}, progress=progress)
print(stored.embedded, stored.kept, seen)
"""


def start_child(
    deed: str, folder: Path, root: Path, environment: dict[str, str], **options: Any
) -> "subprocess.Popen[str]":
    """Start a process that embeds all images, and does `deed` whenever it tells its progress."""
    code = CHILD.format(deed=deed, folder=str(folder), root=str(root))
    return subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, stdout=subprocess.PIPE, **options)


def test_killed(root: Path, tmp_path: Path, child_environment: dict[str, str]) -> None:
    """A process that is killed loses at most one part; the next run goes on from there, to the same embeddings."""
    folder = tmp_path / "store"
    child = start_child("done == 32 and os.kill(os.getpid(), signal.SIGKILL)", folder, root, child_environment)
    child.communicate(timeout=120)

    assert -9 == child.returncode
    assert 32 == len(open_store(folder))
    stored, seen = fill(folder, NAMES, root)
    assert (8, 32) == (seen, stored.kept)
    np.testing.assert_array_equal(embed_images(make_model(), [root / name for name in NAMES]), stored.read(NAMES)[0])


def test_interrupted(root: Path, tmp_path: Path) -> None:
    """Ctrl-C loses nothing that was embedded, however large the parts are."""

    def progress(done: int, total: int) -> None:
        if done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "store", NAMES, root, progress=progress, chunk=1000)

    assert NAMES[:32] == list(open_store(tmp_path / "store"))


def test_leftovers_of_killed_processes(root: Path, tmp_path: Path, child_environment: dict[str, str]) -> None:
    """What a killed process left half-written goes when the next one embeds."""
    folder = tmp_path / "store"
    fill(folder, NAMES[:1], root)
    code = "from cxrzoo.sources.owners import *; print(TEMPORARY + owner())"
    left = subprocess.run([sys.executable, "-c", code], env=child_environment, capture_output=True, text=True)
    (folder / left.stdout.strip()).write_bytes(b"half")

    fill(folder, NAMES[:1], root)

    assert ["part-00000.parquet", "store.json"] == sorted(p.name for p in folder.iterdir() if p.name != ".lock")


def test_two_processes(root: Path, tmp_path: Path, child_environment: dict[str, str], caplog: Any) -> None:
    """A second process on the same store says that it waits for the first, and then has nothing left to do."""
    folder = tmp_path / "store"
    deed = "done or (print('locked', flush=True), sys.stdin.readline())"
    child = start_child(deed, folder, root, child_environment, stdin=subprocess.PIPE)
    assert child.stdout is not None
    assert "locked" == child.stdout.readline().strip()
    results: list[Any] = []
    second = threading.Thread(target=lambda: results.append(fill(folder, NAMES, root)))
    second.start()
    wait_for(lambda: "waiting" in caplog.text)
    assert [] == results

    said, _ = child.communicate("go\n", timeout=120)
    second.join(120)

    assert "40 0 40" == said.strip()
    [(stored, seen)] = results
    assert (0, 40) == (seen, stored.kept)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition comes true."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    assert condition()


def test_names_are_never_taken_twice(tmp_path: Path) -> None:
    """Where files can't be locked, parts that two processes add at once get names of their own."""
    first, second = (EmbeddingStore(tmp_path, PROVENANCE) for _ in range(2))
    for store, path in ((first, "a"), (second, "b"), (first, "c")):
        store.add([Row(path, 1, 1)], np.ones((1, 2), np.float32))

    (tmp_path / "store.json").write_text(json.dumps({"schema": 1, "provenance": dataclasses.asdict(PROVENANCE)}))
    assert ["a", "b", "c"] == list(open_store(tmp_path))


def spoil(root: Path) -> None:
    """Damage one image, and take away another."""
    (root / NAMES[1]).write_bytes(b"no picture")
    (root / NAMES[20]).unlink()


def test_failures_are_rows(root: Path, tmp_path: Path) -> None:
    """An image that can't be read is NaN and a code at its position; the others are as if it were not there."""
    expected = embed_images(make_model(), [root / name for name in NAMES])
    spoil(root)

    embeddings, failures = fill(tmp_path / "store", NAMES, root, workers=1)[0].read(NAMES)

    assert {1: "unknown-kind", 20: "missing"} == failures
    assert [1, 20] == np.flatnonzero(np.isnan(embeddings).all(axis=1)).tolist()
    good = ~np.isnan(embeddings).any(axis=1)
    np.testing.assert_array_equal(expected[good], embeddings[good])


def test_failures_are_tried_again(root: Path, tmp_path: Path) -> None:
    """A failed image is read again once its file is another one, or when that is asked for; not before."""
    spoil(root)
    fill(tmp_path / "store", NAMES, root)

    assert 0 == fill(tmp_path / "store", NAMES, root)[0].embedded
    assert 2 == fill(tmp_path / "store", NAMES, root, retry=True)[0].embedded
    for name in (NAMES[1], NAMES[20]):
        (root / name).write_bytes(phantoms.saved(phantoms.radiograph(24, 20)))
    stored, seen = fill(tmp_path / "store", NAMES, root)
    assert (2, {}) == (seen, stored.read(NAMES)[1])


def test_images_that_are_gone(root: Path, tmp_path: Path) -> None:
    """Images that are no longer there, as on a disk that is not mounted, keep their embeddings."""
    expected = fill(tmp_path / "store", NAMES, root)[0].read(NAMES)[0]
    root.rename(tmp_path / "elsewhere")

    stored, seen = fill(tmp_path / "store", NAMES, root)

    assert 0 == seen
    np.testing.assert_array_equal(expected, stored.read(NAMES)[0])


def test_embeddings_that_are_not_finite(root: Path, tmp_path: Path) -> None:
    """An embedding that is not finite is a failure of its image, with the code for values."""
    model = make_model()
    model.factor.data[:] = torch.inf

    embeddings, failures = fill(tmp_path / "store", NAMES[:2], root, model=model)[0].read(NAMES[:2])

    assert {0: "values", 1: "values"} == failures
    assert np.isnan(embeddings).all()


def test_notices(tmp_path: Path) -> None:
    """What needs a look is kept as codes with positions, also for images of an earlier run."""
    lateral = phantoms.make_dataset(phantoms.radiograph(24, 20, bits=12), ViewPosition="LL")
    names = make_images(tmp_path / "images", 3)
    (tmp_path / "images" / names[1]).write_bytes(phantoms.dicom_file(lateral))

    for _ in range(2):
        stored, _ = fill(tmp_path / "store", names, tmp_path / "images")
        assert {"view": [1]} == stored.store.read_notices(names)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"weights_sha256": "c" * 64}, "found weights_sha256 aaaaaaaaaaaa, expected cccccccccccc"),
        ({"preprocessing_sha256": "c" * 64}, "found preprocessing_sha256 bbbbbbbbbbbb, expected cccccccccccc"),
        ({"model": "median"}, "found model mean, expected median"),
        ({"decoding": "fast"}, "found decoding exact, expected fast"),
        ({"dimension": 3}, "found dimension 2, expected 3"),
    ],
)
def test_another_model_is_refused(other: dict[str, Any], named: str, root: Path, tmp_path: Path) -> None:
    """A store takes and gives embeddings of one model only, and says what differs."""
    fill(tmp_path / "store", NAMES[:2], root)
    model = make_model(**other)

    with pytest.raises(FolderError, match=named):
        fill(tmp_path / "store", NAMES, root, model=model)
    with pytest.raises(FolderError, match=named):
        open_store(tmp_path / "store", model.provenance)
    assert 2 == len(open_store(tmp_path / "store"))


def test_origin_does_not_matter(root: Path, tmp_path: Path) -> None:
    """The same weights are the same wherever they were found."""
    fill(tmp_path / "store", NAMES, root)

    assert 40 == fill(tmp_path / "store", NAMES, root, model=make_model(origin="hub"))[0].kept


def test_parts_of_another_model(root: Path, tmp_path: Path, caplog: Any) -> None:
    """A part of another model that got into the folder is set aside, and never read."""
    fill(tmp_path / "store", NAMES[:3], root)
    fill(tmp_path / "other", NAMES[3:5], root, model=make_model(weights_sha256="c" * 64))
    (tmp_path / "other/part-00000.parquet").rename(tmp_path / "store/part-00001.parquet")

    assert NAMES[:3] == list(open_store(tmp_path / "store"))
    assert (2, 3) == (fill(tmp_path / "store", NAMES[:5], root)[1], fill(tmp_path / "store", NAMES[:3], root)[0].kept)
    assert "part-00001.parquet is of another model" in caplog.text
    assert (tmp_path / "store/part-00001.parquet.damaged").exists()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-100],
    "text": lambda data: b"hello" * 100,
    "flipped": lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_part(damage: Callable[[bytes], bytes], root: Path, tmp_path: Path, caplog: Any) -> None:
    """A damaged part is set aside with a warning, and its images alone are embedded again."""
    expected = fill(tmp_path / "store", NAMES, root)[0].read(NAMES)[0]
    part = tmp_path / "store/part-00001.parquet"
    part.write_bytes(damage(part.read_bytes()))

    with pytest.raises(EvaluationError, match="16 of 40 images are not in the embedding store, number 17 the first"):
        open_store(tmp_path / "store").read(NAMES)
    stored, seen = fill(tmp_path / "store", NAMES, root)

    assert 16 == seen
    np.testing.assert_array_equal(expected, stored.read(NAMES)[0])
    assert "part-00001.parquet" in caplog.text
    assert (tmp_path / "store/part-00001.parquet.damaged").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.set_column(5, "embedding", pa.array(np.zeros(3, np.float32))),
        lambda table: table.set_column(5, "embedding", pa.array([{"a": 1}] * 3)),
        lambda table: table.set_column(2, "mtime_ns", pa.array([2**62] * 3, pa.date64())),
        lambda table: table.replace_schema_metadata({"cxrzoo": "[" * 100_000}),
        lambda table: table.replace_schema_metadata(
            {"cxrzoo": table.schema.metadata[b"cxrzoo"].replace(b'"dimension": 2', b'"dimension": 300000000')}
        ),
    ],
    ids=["numbers", "structures", "dates", "brackets", "dimension"],
)
def test_a_part_of_other_columns(
    change: Callable[[Any], Any], root: Path, tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound Parquet whose columns or metadata are not ours is a damaged part, before room is made for its promises."""
    fill(tmp_path / "store", NAMES[:3], root)
    part = tmp_path / "store/part-00000.parquet"
    pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(part)), part)
    asked = []
    full = np.full
    monkeypatch.setattr(np, "full", lambda shape, *rest: asked.append(shape) or full((1, 1), *rest))

    assert [] == list(open_store(tmp_path / "store"))
    assert "part-00000.parquet: found no part of an embedding store" in caplog.text
    assert [] == [shape for shape in asked if shape[1] > 2]


def test_no_flipped_byte_goes_unnoticed(tmp_path: Path) -> None:
    """Whatever byte of a part is flipped: the part is refused, or its content is the same as before."""
    path = tmp_path / "part-00000.parquet"
    values = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    values[1] = np.nan
    rows = (Row("a.png", 1, 2), Row("b.png", -1, -1, "missing"), Row("c.png", 3, 4, None, ("view",)))
    data = pack(Part(PROVENANCE, rows, values))
    refused = 0
    for position in range(0, len(data), 7):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        try:
            part = read_part(path)
        except DigestError:
            refused += 1
        else:
            assert (PROVENANCE, rows) == (part.provenance, part.rows)
            np.testing.assert_array_equal(values, part.embeddings)
    assert refused > len(data) / 7 / 4


def test_damaged_since_it_was_opened(root: Path, tmp_path: Path) -> None:
    """A part that is damaged while a store is open is an error, and no embedding."""
    store = fill(tmp_path / "store", NAMES, root)[0].store
    (tmp_path / "store/part-00002.parquet").write_bytes(b"PAR1")

    with pytest.raises(DigestError, match=r"part-00002\.parquet"):
        store.read(NAMES)


@pytest.mark.parametrize(
    "content", [None, b"{", b"[]", b'{"schema": 2}', b'{"schema": 1, "provenance": {}}', b"[" * 100_000]
)
def test_no_store(content: bytes | None, tmp_path: Path) -> None:
    """A folder without a record of what it holds, or with one that is malformed, is no store."""
    if content is not None:
        (tmp_path / "store.json").write_bytes(content)

    with pytest.raises(RecordError, match=r"store\.json"):
        open_store(tmp_path)


def test_lost_record(root: Path, tmp_path: Path) -> None:
    """Where the record alone is lost, embedding again writes it and keeps the parts."""
    fill(tmp_path / "store", NAMES, root)
    (tmp_path / "store/store.json").unlink()

    assert 40 == fill(tmp_path / "store", NAMES, root)[0].kept
    assert 40 == len(open_store(tmp_path / "store"))


def test_a_folder_of_something_else(root: Path, tmp_path: Path) -> None:
    """A folder that holds files of the user's is not filled with ours."""
    with pytest.raises(FolderError, match="holds 40 files that are of no embedding store"):
        fill(root / "sub", NAMES, root)

    assert [] == list((root / "sub").glob("part-*"))


def test_unknown_paths(root: Path, tmp_path: Path) -> None:
    """Paths that were never embedded are counted, and the first is named by its number, not by its name."""
    store = fill(tmp_path / "store", NAMES[:2], root)[0].store

    with pytest.raises(EvaluationError, match="2 of 3 images are not in the embedding store, number 1 the first") as e:
        store.read(["jane-doe.png", NAMES[0], "x"])
    assert "jane" not in str(e.value)


def test_no_more_than_the_table_says(root: Path, tmp_path: Path) -> None:
    """A store holds no folder of this machine and nothing of the images but paths, sizes, times and embeddings."""
    fill(tmp_path / "store", NAMES, root)

    facts: list[str] = [(tmp_path / "store/store.json").read_text()]
    for path in sorted((tmp_path / "store").glob("*.parquet")):
        table = pyarrow.parquet.read_table(path)
        facts += [str(table.schema.metadata), str(table.to_pylist())]
    assert len(facts) == 7
    assert NAMES[39] in facts[-1]
    places = {str(tmp_path), str(Path.cwd()), str(Path.home()), tmp_path.name}
    assert [] == [place for place in places for fact in facts if place in fact]


def test_other_programs_read_it(root: Path, tmp_path: Path) -> None:
    """A part is plain Parquet: pandas gets columns with the names that are documented, null where there is none."""
    spoil(root)
    stored, _ = fill(tmp_path / "store", NAMES[:3], root)

    frame = pd.read_parquet(tmp_path / "store/part-00000.parquet")

    assert ["path", "size", "mtime_ns", "failure", "notices", "embedding"] == list(frame.columns)
    assert ["", "unknown-kind", ""] == frame["failure"].fillna("").tolist()
    assert frame["embedding"][1] is None
    np.testing.assert_array_equal(stored.read(NAMES[:1])[0][0], frame["embedding"][0])


def test_without_pyarrow(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow, the command that installs it is named before anything is made."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(CxrZooError, match=r"pip install 'cxrzoo\[eval\]'"):
        fill(tmp_path / "store", NAMES, root)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("device", ["warp", "cuda:99", "meta"])
def test_no_such_device(device: str, root: Path, tmp_path: Path) -> None:
    """A device that is not there is an error that names it, and the network stays where it was."""
    model = make_model()

    with pytest.raises(CxrZooError, match=f"The network can't be moved to '{device}'"):
        fill(tmp_path / "store", NAMES, root, model=model, device=device)
    assert torch.device("cpu") == model.factor.device


def test_another_device(root: Path, tmp_path: Path) -> None:
    """The network is moved to the device that is named and back again, and embeds as before."""
    device = "cuda" if torch.cuda.is_available() else "cpu:0"
    model = make_model()

    embeddings = fill(tmp_path / "store", NAMES, root, model=model, device=device)[0].read(NAMES)[0]

    assert [device, "cpu"] == model.moves
    expected = embed_images(make_model(), [root / name for name in NAMES])
    np.testing.assert_allclose(expected, embeddings, rtol=1e-5)


@pytest.fixture
def command(root: Path, tmp_path: Path, resnet18_folder: Path) -> list[str]:
    """`cxrzoo embed` of a table with four images, into a store that is not there yet."""
    lines = ["name,pneumonia,Path", *(f"jane-doe-{number},1,{NAMES[number]}" for number in range(4))]
    (root / "table.csv").write_text("\n".join(lines))
    return ["embed", "--data", str(root / "table.csv"), "--model", str(resnet18_folder), "--out", str(tmp_path / "s")]


def test_command(command: list[str], root: Path, tmp_path: Path, resnet18_folder: Path, capsys: Any) -> None:
    """`embed --data` fills a store, goes on with it, and names rows that failed, never paths or patients."""
    import cxrzoo

    (root / NAMES[1]).write_bytes(b"no picture")
    assert 0 == main(command)
    assert 0 == main([*command, "--retry", "--workers", "0"])

    out, err = capsys.readouterr()
    assert f"{tmp_path / 's'}: 3 × 512, 0 of 4 images were there already; 1 could not be read" in out.splitlines()[0]
    assert f"{tmp_path / 's'}: 3 × 512, 3 of 4 images were there already; 1 could not be read" in out.splitlines()[1]
    assert ["cxrzoo: warning: 1 images not readable (unknown-kind): row 2"] * 2 == err.splitlines()
    model = cxrzoo.load(resnet18_folder)
    embeddings, _ = open_store(tmp_path / "s", model.provenance).read([NAMES[0]])
    np.testing.assert_allclose(embed_images(model, [root / NAMES[0]]), embeddings, rtol=1e-4, atol=1e-5)


def test_command_where_paths_start_elsewhere(command: list[str], root: Path, tmp_path: Path, capsys: Any) -> None:
    """Where no image is found, the option that says where they are is named; with it, they are embedded."""
    (root / "table.csv").rename(tmp_path / "table.csv")
    command[2] = str(tmp_path / "table.csv")

    assert 1 == main(command)
    assert "--root DIR" in capsys.readouterr().err
    assert 0 == main([*command, "--root", str(root)])
    assert "4 × 512" in capsys.readouterr().out


def test_command_with_a_strange_column(command: list[str], root: Path, capsys: Any) -> None:
    """A column with another name is named by an option, and the error that asks for it says so."""
    table = (root / "table.csv").read_text()
    (root / "table.csv").write_text(table.replace("Path", "where"))

    assert 1 == main(command)
    assert "--column path=NAME" in capsys.readouterr().err
    assert 0 == main([*command, "--column", "path=where"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frame", "1"], "--frame belongs to FILE"),
        (["--overwrite"], "--overwrite belongs to FILE"),
        (["--out", "x.npy"], "--data needs --out DIR"),
    ],
)
def test_options_of_the_other_form(options: list[str], message: str, command: list[str], capsys: Any) -> None:
    """An option that means nothing for a table is refused before a model is loaded."""
    assert 1 == main([*command, *options])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--retry"], ["--root", "."], ["--column", "path=x"]])
def test_options_of_tables(option: list[str], capsys: Any) -> None:
    """An option that means nothing for files is refused."""
    assert 1 == main(["embed", "a.png", "--model", "x", *option])
    assert f"{option[0]} belongs to --data" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["a.png", "--data", "t.csv"]])
def test_files_or_a_table(words: list[str], capsys: Any) -> None:
    """Files and a table exclude each other, and one of them is needed."""
    with pytest.raises(SystemExit) as end:
        main(["embed", "--model", "x", *words])
    assert 2 == end.value.code
