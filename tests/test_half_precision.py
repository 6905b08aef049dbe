"""Weights in half precision: what is narrowed, what is refused, and that it changes nothing that matters."""

import json
from collections.abc import Callable
from pathlib import Path

import factories
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from test_folders import rewrite

import cxrzoo
from cxrzoo import precision
from cxrzoo.cli import main
from cxrzoo.converter import convert_into
from cxrzoo.errors import ConversionError, FolderError, UntrainedError
from cxrzoo.evidence import HalfPrecision
from cxrzoo.folders import read_folder
from cxrzoo.manifest import Preprocessing
from cxrzoo.precision import compare_precision
from cxrzoo.verification import verify_folder

#: Small, since nothing here depends on the size.
SMALL = Preprocessing((3, 64, 64), (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0, "center")
DTYPES: dict[HalfPrecision, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}
#: More than float16 holds, and less than a running variance may be.
LARGE = 1e6


def convert(
    folder: Path, checkpoint: Path, dtype: HalfPrecision | None, *, isolated: bool = False
) -> dict[str, torch.Tensor]:
    """Convert into a new folder and return what the safetensors library finds in its weights."""
    folder.mkdir()
    convert_into(folder, checkpoint, variants={"small": SMALL}, dtype=dtype, isolated=isolated)
    return load_file(folder / "model.safetensors")


def changed(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """Write a checkpoint whose query encoder, by timm's names, was changed."""
    made = factories.make_moco("resnet18")
    prefix = "module.encoder_q."
    own = {key.removeprefix(prefix): value for key, value in made["state_dict"].items() if key.startswith(prefix)}
    change(own)
    made["state_dict"] |= {prefix + key: value for key, value in own.items()}
    return factories.save(path, made)


@pytest.fixture(scope="module", params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> HalfPrecision:
    """Each type of half precision in turn."""
    found: HalfPrecision = request.param
    return found


@pytest.fixture(scope="module")
def narrow(dtype: HalfPrecision, resnet18_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MoCo-CXR-shaped checkpoint, converted in half precision through the public function."""
    out = tmp_path_factory.mktemp("narrow") / dtype
    return cxrzoo.convert(resnet18_checkpoint, out, preprocessing=SMALL, dtype=dtype).folder


@pytest.fixture(scope="module")
def wide(resnet18_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as it is."""
    return cxrzoo.convert(resnet18_checkpoint, tmp_path_factory.mktemp("wide") / "out", preprocessing=SMALL).folder


def test_tensors_of_two_axes_are_narrowed(dtype: HalfPrecision, narrow: Path, wide: Path) -> None:
    """Tensors of two axes or more are PyTorch's rounding of what they were; vectors and counters are as they were."""
    before, after = (load_file(folder / "model.safetensors") for folder in (wide, narrow))

    assert list(before) and sorted(before) == sorted(after)
    for name, tensor in before.items():
        expected = tensor.to(DTYPES[dtype]) if tensor.dim() >= 2 else tensor
        assert expected.dtype == after[name].dtype
        assert torch.equal(expected, after[name])


def test_the_file_is_half_as_large(narrow: Path, wide: Path) -> None:
    """Nearly all of a network is in tensors of two axes or more."""
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (narrow, wide)]

    assert 0.5 <= sizes[0] / sizes[1] <= 0.51


def test_loading_gives_float32(narrow: Path) -> None:
    """cxrzoo, timm and transformers load half precision into networks that compute in float32, all to the same."""
    from transformers import AutoModel

    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    ours = cxrzoo.load(narrow)
    theirs = timm.create_model(f"local-dir:{narrow}", pretrained=True).eval()
    transformers = AutoModel.from_pretrained(narrow).eval()

    with torch.inference_mode():
        expected = ours(images)
        assert torch.equal(expected, theirs(images))
        assert torch.equal(expected, transformers(images).pooler_output)
    assert {torch.float32} == {parameter.dtype for parameter in ours.parameters()}
    assert torch.equal(ours.conv1.weight, load_file(narrow / "model.safetensors")["conv1.weight"].float())


def test_what_it_changed_is_recorded(dtype: HalfPrecision, narrow: Path, wide: Path) -> None:
    """The record has type, number of tensors, and the cosine of the embeddings of the synthetic radiograph."""
    from cxrzoo.fingerprint import make_phantom

    embeddings = []
    for folder in (narrow, wide):
        model = cxrzoo.load(folder)
        with torch.inference_mode():
            embeddings.append(model(model.transform(make_phantom())[None])[0].double())
    cosine = float(torch.nn.functional.cosine_similarity(*embeddings, dim=0))

    found = read_folder(narrow).record.narrowing

    assert found is not None
    assert (dtype, 20, 0.9999) == (found.dtype, found.tensors, found.least)
    assert abs(1 - cosine) == pytest.approx(1 - found.cosine, rel=0.1)
    assert 0 < 1 - cosine < 1e-5


def test_parity_is_that_of_the_checkpoint(narrow: Path) -> None:
    """Parity with the upstream network is measured before narrowing, so it is as strict as ever."""
    parity = read_folder(narrow).record.parity

    assert parity is not None
    assert parity.max_difference <= 1e-5 < 1e-4 < parity.scale


def test_verify(narrow: Path, resnet18_checkpoint: Path) -> None:
    """`verify` proves the folder again, and with the checkpoint gets the same bytes in half precision."""
    record = read_folder(narrow).record

    lines = [*verify_folder(narrow, resnet18_checkpoint)]

    assert f"half precision as recorded: {record.narrowing}" in lines
    assert "converted again from resnet18.pth.tar: the same bytes, 120 keys kept" in lines
    assert f"half precision measured again: {record.narrowing}" in lines


def test_verify_counts_what_is_narrow(narrow: Path, tmp_path: Path) -> None:
    """A record that says more of the tensors to be in half precision than are is found out."""
    folder = rewrite(tmp_path / "edited", narrow, {"cxrzoo.narrowing.tensors": 21})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n")

    with pytest.raises(FolderError, match="does not hold 21 tensors in b?float16, as the record says"):
        list(verify_folder(folder))


def test_card_says_so(dtype: HalfPrecision, narrow: Path, wide: Path) -> None:
    """The card of a folder in half precision says so with the figure, and no other card does."""
    assert f"- Stored in half precision: 20 tensors in {dtype}, which" in (narrow / "README.md").read_text()
    assert "half precision" not in (wide / "README.md").read_text()


def test_same_bytes_twice(dtype: HalfPrecision, narrow: Path, resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """Converting once more gives the same files."""
    again = cxrzoo.convert(resnet18_checkpoint, tmp_path / "again", preprocessing=SMALL, dtype=dtype).folder

    assert {p.name: p.read_bytes() for p in narrow.iterdir()} == {p.name: p.read_bytes() for p in again.iterdir()}


def test_records_without_it_stay_as_they_were(resnet18_folder: Path) -> None:
    """config.json of a folder in full precision has no field that folders of earlier versions have not.

    A new field would change the digest of every record, and `verify` would refuse the folders that lack it.
    """
    record = json.loads((resnet18_folder / "config.json").read_text())["cxrzoo"]

    assert {
        "coverage", "default_variant", "digest", "fingerprint", "intended_use", "licence", "method", "model", "paper",
        "parity", "preprocessing", "preprocessing_origin", "preprocessing_sha256", "repository", "schema", "source",
        "source_proof", "source_sha256", "source_size", "summary", "tags", "training_data", "untold", "weights",
    } == set(record)  # fmt: skip
    assert {"url", "page", "distribution", "file", "sha256", "size"} == set(record["source"])


# What is refused


def test_overflow_names_the_tensor(tmp_path: Path) -> None:
    """A weight beyond the range of float16 stops the conversion, which names it and the type that holds it."""

    def change(state: dict[str, torch.Tensor]) -> None:
        state["conv1.weight"].view(-1)[:3] = LARGE

    checkpoint = changed(tmp_path / "c.pth", change)

    with pytest.raises(
        ConversionError,
        match=r"conv1\.weight: 3 of 9408 values are beyond what float16 holds: found 1e\+06, expected at most 65504. "
        "Store bfloat16",
    ):
        convert(tmp_path / "float16", checkpoint, "float16")
    assert torch.bfloat16 == convert(tmp_path / "bfloat16", checkpoint, "bfloat16")["conv1.weight"].dtype


def test_a_large_variance_is_kept(tmp_path: Path) -> None:
    """A running variance that float16 can't hold is stored as it is, since vectors are not narrowed."""

    def change(state: dict[str, torch.Tensor]) -> None:
        state["layer1.0.bn1.running_var"][5] = LARGE

    weights = convert(tmp_path / "out", changed(tmp_path / "c.pth", change), "float16")

    assert LARGE == float(weights["layer1.0.bn1.running_var"][5])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_was_broken_before_is_called_so(value: float, tmp_path: Path) -> None:
    """NaN and infinity of the checkpoint itself are no matter of its precision."""

    def change(state: dict[str, torch.Tensor]) -> None:
        state["conv1.weight"].view(-1)[0] = value

    with pytest.raises(UntrainedError, match=r"conv1\.weight: 1 of 9408 values are NaN or infinite"):
        convert(tmp_path / "out", changed(tmp_path / "c.pth", change), "float16")


def test_other_halves_are_brought_to_the_one_asked_for(tmp_path: Path) -> None:
    """A checkpoint in float16 becomes one in bfloat16, but for its vectors, which stay as they are."""
    made = factories.make_moco("resnet18")
    made["state_dict"] = {k: v.half() if v.is_floating_point() else v for k, v in made["state_dict"].items()}

    weights = convert(tmp_path / "out", factories.save(tmp_path / "c.pth", made), "bfloat16")

    assert torch.equal(made["state_dict"]["module.encoder_q.conv1.weight"].bfloat16(), weights["conv1.weight"])
    assert torch.float16 == weights["bn1.weight"].dtype


def embedding(cosine: float) -> np.ndarray:
    """Return a vector that has this cosine with (1, 0)."""
    return np.array([cosine, np.sqrt(1 - cosine**2)], np.float32)


def test_the_least_cosine() -> None:
    """Embeddings with a cosine of .99991 pass, those with .99989 don't, and the error says what was found."""
    expected = np.array([1, 0], np.float32)

    assert 0.99991 == compare_precision(embedding(0.99991), expected, {}, "float16").cosine
    with pytest.raises(ConversionError, match=r"cosine of 0\.999890, expected at least 0\.9999.*without a dtype\.$"):
        compare_precision(embedding(0.99989), expected, {}, "float16")
    with pytest.raises(ConversionError, match="or try float16, which is finer"):
        compare_precision(embedding(0.5), expected, {}, "bfloat16")


def test_a_network_that_it_breaks(resnet18_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion whose embeddings change by more than is allowed is refused."""
    monkeypatch.setattr(precision, "LEAST_COSINE", 1 - 1e-9)

    with pytest.raises(ConversionError, match="bfloat16 changes what the network computes"):
        convert(tmp_path / "out", resnet18_checkpoint, "bfloat16")


def test_another_type(resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """A type that is none of the two is refused by name, and nothing is left behind."""
    with pytest.raises(ConversionError, match="dtype: found 'int8', expected one of 'float16', 'bfloat16'"):
        cxrzoo.convert(resnet18_checkpoint, tmp_path / "out", preprocessing=SMALL, dtype="int8")  # type: ignore[arg-type]

    assert not (tmp_path / "out").exists()


def test_command_line(resnet18_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`cxrzoo convert --dtype` stores half precision and says what that changed; another word is wrong usage."""
    command = ["convert", str(resnet18_checkpoint), "--out", str(tmp_path / "out"), "--preprocess-from"]
    command.append("moco-cxr-resnet18")

    assert 0 == main([*command, "--dtype", "float16"])
    assert "precision     20 tensors in float16, which leaves the embedding" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--dtype", "float8"])
