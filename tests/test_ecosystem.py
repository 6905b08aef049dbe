"""A converted folder, opened by the libraries people use: timm, transformers, segmentation_models_pytorch."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import cxrzoo


@pytest.fixture(params=[3, 1], ids=["three channels", "one channel"])
def folder(request: pytest.FixtureRequest, resnet18_folder: Path, one_channel_folder: Path) -> Path:
    """A converted folder, and the same with one channel."""
    return resnet18_folder if request.param == 3 else one_channel_folder


def channels_of(folder: Path) -> int:
    """Return how many channels a folder's backbone takes."""
    size: list[int] = json.loads((folder / "config.json").read_text())["pretrained_cfg"]["input_size"]
    return size[0]


@pytest.fixture
def radiograph(folder: Path) -> Image.Image:
    """A picture with as many channels as the backbone takes."""
    pixels = np.random.default_rng(0).integers(0, 256, (400, 360), dtype=np.uint8)
    return Image.fromarray(pixels).convert("RGB" if channels_of(folder) == 3 else "L")


def embed(model: torch.nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """Return the embedding of one image."""
    with torch.inference_mode():
        embedding: torch.Tensor = model(tensor[None])
    return embedding


def test_timm_loads_it(folder: Path, radiograph: Image.Image) -> None:
    """timm.create_model and timm's own transform give what cxrzoo gives."""
    ours = cxrzoo.load(folder)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))

    tensor = transform(radiograph)

    assert torch.allclose(ours.transform(radiograph), tensor, rtol=0, atol=1e-6)
    assert torch.equal(embed(ours, tensor), embed(theirs, tensor))


def test_nothing_is_leaked_from_imagenet(folder: Path) -> None:
    """No tag, licence, test size or address of timm's own weights stands in what timm resolves."""
    cfg = timm.create_model(f"local-dir:{folder}", pretrained=True).pretrained_cfg

    for field in ("tag", "license", "test_input_size", "test_crop_pct", "hf_hub_id", "url"):
        assert not cfg.get(field), field
    assert 0 == cfg["num_classes"]


def test_config_has_only_what_belongs_there(folder: Path) -> None:
    """config.json has no num_classes in model_args, which AutoModel would meet twice, and our facts at top level."""
    config = json.loads((folder / "config.json").read_text())

    assert "num_classes" not in config.get("model_args", {})
    assert 0 == config["num_classes"]
    assert 512 == config["num_features"]
    assert "cxrzoo" not in config["pretrained_cfg"]


def test_timm_with_a_new_classifier(folder: Path) -> None:
    """timm adds a fresh classifier on request, for fine-tuning."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=14)

    assert (1, 14) == tuple(model(torch.zeros(1, channels_of(folder), 64, 64)).shape)


def test_timm_features_only(folder: Path) -> None:
    """timm gives the pyramid of features."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, features_only=True)

    assert [64, 64, 128, 256, 512] == [f.shape[1] for f in model(torch.zeros(1, channels_of(folder), 64, 64))]


def test_automodel(folder: Path, radiograph: Image.Image) -> None:
    """transformers' AutoModel gives the same pooled output."""
    from transformers import AutoModel

    ours = cxrzoo.load(folder)
    theirs = AutoModel.from_pretrained(folder).eval()
    tensor = ours.transform(radiograph)

    with torch.inference_mode():
        pooled = theirs(tensor[None]).pooler_output

    assert torch.equal(embed(ours, tensor), pooled)


def test_autoimageprocessor(folder: Path, radiograph: Image.Image) -> None:
    """transformers' AutoImageProcessor gives the same tensor for pictures with the right number of channels."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder)

    tensor = processor(radiograph, return_tensors="pt")["pixel_values"][0]

    assert torch.allclose(cxrzoo.load(folder).transform(radiograph), tensor, rtol=0, atol=1e-6)


def test_pipeline(resnet18_folder: Path) -> None:
    """transformers' pipeline gives our embedding; with three channels, since it opens every picture as RGB."""
    from transformers import pipeline

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 360), dtype=np.uint8)).convert("RGB")
    extract = pipeline("image-feature-extraction", model=str(resnet18_folder), pool=True)
    ours = cxrzoo.load(resnet18_folder)

    found = torch.tensor(extract(picture))

    assert torch.allclose(embed(ours, ours.transform(picture)), found.reshape(1, -1), rtol=0, atol=1e-5)


def test_segmentation_model(folder: Path) -> None:
    """smp.Unet takes the folder as its encoder, with the same weights."""
    import segmentation_models_pytorch as smp

    channels = channels_of(folder)
    unet = smp.Unet(f"tu-local-dir:{folder}", in_channels=channels, classes=1, encoder_weights=True)

    assert (1, 1, 64, 64) == tuple(unet.eval()(torch.zeros(1, channels, 64, 64)).shape)
    state = unet.encoder.state_dict()
    (stem,) = [value for key, value in state.items() if key.endswith("conv1.weight") and value.shape[2] == 7]
    assert torch.equal(cxrzoo.load(folder).conv1.weight, stem)


def test_card(folder: Path) -> None:
    """The card's front matter is what the Hub reads, and does not claim a licence that nobody stated."""
    from huggingface_hub import ModelCard

    card = ModelCard.load(folder / "README.md")

    assert "timm" == card.data.to_dict()["library_name"]
    assert "image-feature-extraction" == card.data.pipeline_tag
    assert "other" == card.data.license
    assert "not-stated-by-the-authors" == card.data.license_name
