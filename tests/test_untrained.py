"""The untrained network: the honest floor of every comparison, which no one can mistake for a model."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from phantoms import radiograph
from PIL import Image

import cxrzoo
from cxrzoo.errors import EvaluationError, FolderError, UnknownModelError
from cxrzoo.evaluation.contenders import list_entries
from cxrzoo.evaluation.locks import digest_backbone
from cxrzoo.evaluation.untrained import make_untrained, make_untrained_like


def test_seed_gives_the_network() -> None:
    """One seed gives one network, another seed another, whatever the caller drew before."""
    torch.manual_seed(1)
    first = make_untrained("test_resnet", seed=3)
    torch.rand(7)
    second, other = make_untrained("test_resnet", seed=3), make_untrained("test_resnet", seed=4)

    assert digest_backbone(first) == digest_backbone(second)
    assert digest_backbone(first) != digest_backbone(other)


def test_callers_random_numbers_stay() -> None:
    """Making a network leaves the global random numbers where they were."""
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)

    make_untrained("test_resnet")

    assert expected.tolist() == torch.rand(3).tolist()


def test_weights_are_those_that_timm_draws() -> None:
    """The network is timm's own, as timm draws it under that seed, with every residual branch switched on."""
    torch.manual_seed(5)
    expected = timm.create_model("test_resnet", num_classes=0, zero_init_last=False)

    assert digest_backbone(expected) == digest_backbone(make_untrained("test_resnet", seed=5))


@pytest.mark.parametrize(("architecture", "size"), [("resnet18", 224), ("test_resnet", 64), ("test_vit", 128)])
def test_provenance(architecture: str, size: int) -> None:
    """It is used like a loaded backbone, and says what it is, with the digests of weights and preprocessing."""
    backbone = make_untrained(architecture, size=size)
    with torch.no_grad():
        embedding = backbone(backbone.transform(radiograph(300, 260))[None])

    provenance = backbone.provenance

    assert (1, provenance.dimension) == embedding.shape and embedding.std() > 0
    assert (f"untrained:{architecture}", "untrained") == (provenance.model, provenance.origin)
    assert digest_backbone(backbone) == provenance.weights_sha256
    assert backbone.transform.record.digest == provenance.preprocessing_sha256
    assert not any(module.training for module in backbone.modules())


def test_transform_is_the_usual_one() -> None:
    """A picture becomes the tensor that timm's evaluation transform makes by the network's own pretrained_cfg."""
    backbone = make_untrained("test_resnet", size=96)
    picture = Image.fromarray(radiograph(300, 260))
    reference = timm.data.create_transform(**timm.data.resolve_data_config(backbone.pretrained_cfg))

    expected = reference(picture.convert("RGB"))

    assert (3, 96, 96) == expected.shape
    np.testing.assert_allclose(expected, backbone.transform(picture), atol=1e-6)


@pytest.mark.parametrize(
    ("architecture", "size", "text"),
    [
        ("resnet19", 224, "no architecture named 'resnet19'. Near it: resnet18"),
        ("resnet18.a1_in1k", 224, "names weights as well, expected an architecture: 'resnet18'"),
        ("densenet121", 8, "takes no images of 8 x 8 pixels"),
    ],
)
def test_what_can_not_be_made(architecture: str, size: int, text: str) -> None:
    """An architecture that timm lacks, or that is too large for the images, is an error with a way out."""
    with pytest.raises(EvaluationError) as caught:
        make_untrained(architecture, size=size)

    assert text in str(caught.value)


def test_load_never_returns_one() -> None:
    """Loading by the name of an untrained network is an error: random weights come only from where they are asked."""
    with pytest.raises(UnknownModelError):
        cxrzoo.load("untrained:resnet18")


def test_floor_of_a_model(resnet18_folder: Path) -> None:
    """Like a model, a network has its architecture, input and preprocessing, and nothing of its weights."""
    model, floor = cxrzoo.load(resnet18_folder), make_untrained_like(str(resnet18_folder))

    assert model.transform.record == floor.transform.record
    assert list(model.state_dict()) == list(floor.state_dict())
    assert floor.provenance.model == "untrained:moco-cxr-resnet18" and floor.provenance.origin == "untrained"
    assert not torch.equal(model.conv1.weight, floor.conv1.weight)
    assert floor.provenance.weights_sha256 == digest_backbone(make_untrained_like(str(resnet18_folder)))


def test_floor_of_a_model_can_be_compared(resnet18_folder: Path) -> None:
    """In a comparison `untrained:MODEL` is an untrained network with the name of that model, and of no folder above."""
    (entry,) = list_entries([f"untrained:{resnet18_folder}"])

    assert ("untrained:resnet18", "untrained") == (entry.name, entry.kind)
    assert entry.load().provenance.origin == "untrained"


@pytest.mark.parametrize(
    ("name", "error"), [("untrained:./nowhere", FolderError), ("untrained:moco-cxr-resnet-18", EvaluationError)]
)
def test_floor_of_no_model(name: str, error: type[Exception]) -> None:
    """What is neither a model nor an architecture is refused before anything is embedded."""
    with pytest.raises(error):
        list_entries([name])
