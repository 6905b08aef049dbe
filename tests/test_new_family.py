"""A new family of checkpoints is one TOML file: no Python, no list to extend."""

import shutil
from pathlib import Path

import factories
import pytest
import torch

import cxrzoo
from cxrzoo import cli, recipe
from cxrzoo._paths import RECIPES
from cxrzoo.converter import convert_into
from cxrzoo.errors import RecordError

FAMILY = r"""
name    = "novel"
method  = "novel"
summary = "A method that came out today: the eye is kept, the mouth goes."
unwrap  = ["weights"]
then    = ["torchvision"]

[[rule]]
match  = 'eye\.(?P<name>.+)'
rename = '{name}'

[[rule]]
match = 'mouth\.\w+'
drop  = "projection head"

[examples]
"eye.conv1.weight" = "conv1.weight"
"mouth.weight"     = "dropped: projection head"
"nose.weight"      = "no rule"
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file of that family."""
    network = factories.make_network("resnet18")
    network.fc = torch.nn.Identity()
    state = {f"eye.{name}": value for name, value in network.state_dict().items()}
    return factories.save(tmp_path / "novel.pt", {"weights": state | {"mouth.weight": torch.rand(2, 512)}})


def test_one_file_adds_a_family(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A TOML put beside the others is found by its keys, converts, and is proven; before, nothing fitted."""
    recipes = Path(shutil.copytree(RECIPES, tmp_path / "conversion"))
    monkeypatch.setattr(recipe, "RECIPES", recipes)
    prepared = {"imagenet": cxrzoo.describe("imagenet-mobilenetv2").preprocessing["imagenet"]}
    assert 1 == cli.main(["inspect", str(checkpoint)])
    assert "recipes fits this checkpoint" in capsys.readouterr().err

    (recipes / "novel.toml").write_text(FAMILY)
    (tmp_path / "out").mkdir()
    record = convert_into(tmp_path / "out", checkpoint, variants=prepared, isolated=False).record

    assert 0 == cli.main(["inspect", str(checkpoint)])
    assert "recipe novel fits: all 121 keys are accounted for" in capsys.readouterr().out
    assert ("novel", "novel-resnet18", {"projection head": 1}) == (
        record.method,
        record.model,
        record.coverage.dropped,
    )
    assert record.parity is not None and record.parity.max_difference <= 1e-5


def test_recipe_by_its_path(checkpoint: Path, tmp_path: Path) -> None:
    """A recipe of one's own needs no place in the zoo: its path is enough, in the child process as well."""
    (tmp_path / "novel.toml").write_text(FAMILY)

    conversion = cxrzoo.convert(
        checkpoint, tmp_path / "out", recipe=str(tmp_path / "novel.toml"), preprocessing="imagenet-mobilenetv2"
    )

    assert ("resnet18", 120) == (conversion.architecture, len(conversion.kept))


def test_no_such_recipe(checkpoint: Path, tmp_path: Path) -> None:
    """A path that leads nowhere is an error of ours."""
    with pytest.raises(RecordError, match=r"novel\.toml is no file"):
        cxrzoo.convert(checkpoint, tmp_path / "out", recipe=str(tmp_path / "novel.toml"))
