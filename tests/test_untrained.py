"""The untrained network: the honest floor of every comparison, which no one can mistake for a model."""

import numpy as np
import pytest
import timm
import torch
from phantoms import radiograph
from PIL import Image

import cxrzoo
from cxrzoo.errors import EvaluationError, UnknownModelError
from cxrzoo.evaluation.locks import digest_backbone
from cxrzoo.evaluation.untrained import make_untrained


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
