"""Samples of torchxrayvision, MONAI, torch and datasets give the image that reading the file itself gives."""

import subprocess
import sys
import warnings

import numpy as np
import phantoms
import pytest
from PIL import Image

from cxrzoo.errors import ImageError
from cxrzoo.imaging import read_image
from cxrzoo.imaging.samples import image_in

SHAPES = [(40, 24), (24, 24)]  # a transposition can't hide in the first, nor a guess by the shape in the second


@pytest.fixture(params=SHAPES, ids=["upright", "square"])
def png(request, tmp_path):
    """Give the path of an asymmetric 8-bit PNG in a class folder of its own."""
    path = tmp_path / "class" / "chest.png"
    path.parent.mkdir()
    Image.fromarray(phantoms.radiograph(*request.param)).save(path)
    return path


@pytest.fixture(scope="module")
def xrv():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchxrayvision
    return torchxrayvision


@pytest.fixture(scope="module")
def monai():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import monai.transforms
    return monai.transforms


@pytest.fixture(scope="module")
def hf_datasets():
    import datasets

    datasets.disable_progress_bars()
    return datasets


def assert_same(path, sample, atol=0.0):
    np.testing.assert_allclose(read_image(sample), read_image(path), rtol=0, atol=atol)


def nih(xrv, path, **options):
    """Return a torchxrayvision dataset over one file."""
    table = path.parent.parent / "labels.csv"
    table.write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
        f"{path.name},Effusion,0,1,50,F,PA\n"
    )
    return xrv.datasets.NIH_Dataset(str(path.parent), csvpath=str(table), **options)


def test_torchxrayvision(xrv, png):
    """A sample of torchxrayvision is brought from [-1024, 1024] to [0, 1], alone and in a merged dataset."""
    dataset = nih(xrv, png)
    merged = xrv.datasets.MergeDataset([dataset, dataset])

    assert -1024 == dataset[0]["img"].min()
    for sample in (dataset[0], merged[1], xrv.datasets.SubsetDataset(dataset, [0])[0]):
        assert_same(png, sample, atol=1e-6)


def test_torchxrayvision_with_tensors(xrv, png):
    """The same holds where a transform of the dataset has made a tensor of the image."""
    torch = pytest.importorskip("torch")

    assert_same(png, nih(xrv, png, transform=torch.from_numpy)[0], atol=1e-6)


def test_torchxrayvision_on_another_scale(xrv, png):
    """A sample whose transform has left the scale of torchxrayvision is refused rather than read as grey."""
    for transform in (lambda image: (image + 1024) / 2048, lambda image: image * 2):
        with pytest.raises(ImageError, match="from -1024 to 1024") as caught:
            read_image(nih(xrv, png, transform=transform)[0])
        assert "values" == caught.value.code


def loaded(monai, path, *others, **options):
    """Return what a chain of MONAI's transforms makes of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return monai.Compose([monai.LoadImaged("image", **options), *others])({"image": str(path)})


def test_monai(monai, png):
    """MONAI's (width, height) on the scale of the file is turned and scaled back exactly, with and without channels."""
    first, scaled = monai.EnsureChannelFirstd("image"), monai.ScaleIntensityRanged("image", 0, 255, 0, 1)

    assert read_image(png).shape[::-1] == loaded(monai, png)["image"].shape
    assert_same(png, loaded(monai, png))
    assert_same(png, loaded(monai, png, first))
    assert_same(png, loaded(monai, png, first, scaled), atol=1e-6)
    assert_same(png, loaded(monai, png, first, monai.ScaleIntensityd("image")), atol=1e-6)
    assert_same(png, loaded(monai, png)["image"])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16", "1"])
def test_monai_modes(monai, png, mode):
    """The scale follows from the mode that MONAI notes, and colour comes back with its channels in place."""
    picture = Image.open(png)
    deep = np.asarray(picture).astype(np.uint16) * 257
    picture = Image.fromarray(deep) if mode == "I;16" else picture.convert(mode)
    picture.save(png)

    assert_same(png, loaded(monai, png))
    assert_same(png, loaded(monai, png, monai.EnsureChannelFirstd("image")))


def test_monai_turned_upright(monai, png):
    """A picture that MONAI's own transforms have turned upright, which its affine shows, is not turned again."""
    upright = [monai.EnsureChannelFirstd("image"), monai.Rotate90d("image"), monai.Flipd("image", 0)]

    assert_same(png, loaded(monai, png, *upright))


def test_monai_without_reverse_indexing(monai, tmp_path):
    """Axes that the reader was told not to reverse are known by the shape, unless the picture is square."""
    path = tmp_path / "chest.png"
    Image.fromarray(phantoms.radiograph(40, 24)).save(path)

    assert_same(path, loaded(monai, path, reader="PILReader", reverse_indexing=False))


def test_monai_refused(monai, png, tmp_path):
    """What MONAI's metadata leave open is refused: another reader, a palette, no metadata, two values, normalised."""
    np.save(tmp_path / "chest.npy", phantoms.radiograph(40, 24))
    Image.open(png).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(phantoms.radiograph(40, 24) // 255).save(tmp_path / "dark.png")
    rows = [
        (loaded(monai, tmp_path / "chest.npy"), "PILReader"),
        (loaded(monai, tmp_path / "palette.png"), "PILReader"),
        (monai.ToMetaTensord("image")({"image": read_image(png)}), "PILReader"),
        (loaded(monai, tmp_path / "dark.png"), "0 or 1"),
        (loaded(monai, png, monai.NormalizeIntensityd("image")), "Undo any normalisation"),
    ]
    for sample, text in rows:
        with pytest.raises(ImageError, match=text) as caught:
            read_image(sample)
        assert "values" == caught.value.code


def test_datasets(hf_datasets, png):
    """An image column of `datasets` is read decoded, as bytes, as a path, and as the row around it."""
    column = hf_datasets.Image()
    by_path = hf_datasets.Dataset.from_dict({"image": [str(png)], "label": [1]}).cast_column("image", column)
    by_bytes = hf_datasets.Dataset.from_dict({"image": [{"bytes": png.read_bytes(), "path": None}]})
    raw = hf_datasets.Image(decode=False)

    for dataset in (by_path, by_bytes.cast_column("image", column), by_path.cast_column("image", raw)):
        assert_same(png, dataset[0])
        assert_same(png, dataset[0]["image"])
        assert_same(png, next(iter(dataset["image"])))
    assert_same(png, by_bytes.cast_column("image", raw)[0])
    assert_same(png, by_path.with_format("torch")[0])
    assert_same(png, by_path.with_format("numpy")[0])
    assert_same(png, by_path.rename_column("image", "pixel_values")[0])


def test_torchvision(png):
    """A folder of images gives (image, label), which is read as it is, and a picture may be read on the way in."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    root = str(png.parent.parent)
    assert_same(png, ImageFolder(root)[0])
    assert_same(png, list(ImageFolder(root)[0]))
    loader = DataLoader(ImageFolder(root, transform=read_image), batch_size=1, num_workers=2)
    batch, labels = next(iter(loader))
    np.testing.assert_array_equal(read_image(png), batch[0])
    assert [0] == labels.tolist()


def test_own_datasets(png):
    """A dataset of one's own may give an array or a tensor, first in a tuple or under any of the three names."""
    torch = pytest.importorskip("torch")
    image = read_image(png)

    for value in (image, torch.from_numpy(image), torch.from_numpy(image)[None], Image.open(png), str(png), png):
        for sample in ((value, 1), (value, torch.zeros(14)), [value, 1], {"image": value}, {"img": value, "y": 1}):
            assert_same(png, sample)


def test_dicom_in_a_sample():
    """A sample may hold a DICOM file or dataset."""
    dataset = phantoms.make_dataset(phantoms.radiograph(16, 12, bits=16) >> 4)
    expected = read_image(phantoms.dicom_file(dataset))

    for sample in ({"image": dataset}, (dataset, 1), {"bytes": phantoms.dicom_file(dataset), "path": None}):
        np.testing.assert_array_equal(expected, read_image(sample))


@pytest.mark.parametrize(
    ("sample", "text", "code"),
    [
        ({"scan": 1, "l" * 99: 2, 3: 4}, f"keys 'scan', '{'l' * 24}', expected the image under", "values"),
        ({str(number): 0 for number in range(9)}, "'7', …, expected", "values"),
        ({}, "keys none, expected", "values"),
        ({"bytes": None, "path": None}, "both empty", "values"),
        ({"img": "chest.png", "lab": 0, "idx": 0}, "of type str", "values"),
        ([np.zeros((2, 2)), np.zeros((2, 2))], "one by one", "several-images"),
        (["a.png", "b.png"], "one by one", "several-images"),
        ({"image": None}, "keys 'image', expected", "values"),
    ],
    ids=["keys", "many keys", "nothing", "empty column", "path as xrv", "arrays", "paths", "None"],
)
def test_refused(sample, text, code):
    """A sample without one image is refused, and the text shows its keys, though few of them and cut short."""
    with pytest.raises(ImageError) as caught:
        read_image(sample)
    assert text in str(caught.value)
    assert code == caught.value.code


@pytest.mark.parametrize("source", [None, 3, [], [1, 2], [[0, 1]], (), "chest.png", np.zeros((2, 2))], ids=repr)
def test_no_sample(source):
    """What is no sample comes back as it is."""
    assert image_in(source) is source


def test_nothing_is_imported():
    """Reading samples imports none of the libraries that they come from."""
    code = (
        "import sys, cxrzoo.imaging.samples as _; print(*{'torch', 'monai', 'datasets', 'pydicom'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "" == done.stdout.strip()
