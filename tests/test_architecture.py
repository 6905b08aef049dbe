"""The invariants of DESIGN: what may import what, what no module may contain, and what travels with what."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cxrzoo
from cxrzoo.recipe import list_recipes, load_recipe
from cxrzoo.registry import list_models

PACKAGE = Path(cxrzoo.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)

#: From the bottom up. A module may import those in earlier rows, and its own package.
LAYERS = [
    ["errors", "_paths"],
    ["records"],
    ["timm_arguments", "results", "training"],
    ["manifest", "recipe"],
    ["registry", "catalogue", "figures"],
    ["checkpoint"],
    ["sources"],
    ["imaging"],
    ["geometry", "intensities", "doctor"],
    ["framing"],
    ["preprocessing"],
    ["numbers"],
    ["operations", "health"],
    ["computing"],
    ["fits"],
    ["weights", "evidence"],
    ["folders", "precision"],
    ["matching", "undrawn"],
    ["architectures", "fingerprint"],
    ["parity"],
    ["converter"],
    ["verification"],
    ["locations", "channels"],
    ["loader"],
    ["embedding"],
    ["evaluation"],
    ["account", "front_matter"],
    ["cards"],
    ["documents"],
    ["publisher"],
    ["pretraining"],
    ["demo"],
    ["cli"],
    ["__main__"],
]
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def top_module(path: Path) -> str:
    """Return the name of the module or package directly below cxrzoo that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def own_imports(path: Path) -> set[str]:
    """Return the names of the modules directly below cxrzoo that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            names = [
                f"{node.module}.{alias.name}" if node.module == "cxrzoo" else str(node.module) for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("cxrzoo.") and name != "cxrzoo.__version__"}
    return found


def test_every_module_has_a_place() -> None:
    """Each module is in the list of layers, and each name in that list is a module."""
    assert set(RANKS) == {top_module(path) for path in MODULES} - {"__init__"}


# the public names in cxrzoo/__init__.py are looked up when they are used, so it stands outside the layers
@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.parent != PACKAGE or p.stem != "__init__"], ids=lambda p: p.name
)
def test_imports_go_downward(path: Path) -> None:
    """Invariant 1: a module imports only from layers below its own."""
    own = top_module(path)

    upward = {name for name in own_imports(path) if name != own and RANKS[name] >= RANKS[own]}

    assert upward == set()


def run_child(code: str) -> str:
    """Return what a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    ).stdout.strip()


#: The same within the largest package: a room may import from those before it.
ROOMS = [
    ["comparison", "bars"],
    ["tables"],
    ["sampling"],
    ["statistics"],
    ["probes"],
    ["locks"],
    ["untrained"],
    ["contenders"],
    ["gathering"],
    ["tuning"],
    ["perturbations"],
    ["report"],
    ["proofs", "cells"],
    ["claims", "convergence", "robustness"],
    ["exhibits"],
    ["plates"],
    ["settings"],
    ["measurements"],
    ["saving"],
    ["trials", "requests"],
    ["comparing"],
]


@pytest.mark.parametrize("path", sorted((PACKAGE / "evaluation").rglob("*.py")), ids=lambda p: p.name)
def test_rooms_of_evaluation_import_downward(path: Path) -> None:
    """Each room of `evaluation` is listed, and imports only from rooms before its own."""
    ranks = {name: rank for rank, names in enumerate(ROOMS) for name in names}
    own = path.relative_to(PACKAGE / "evaluation").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    names = [f"{node.module}.{alias.name}".split(".") for node in nodes for alias in node.names]
    imported = {parts[2] for parts in names if parts[:2] == ["cxrzoo", "evaluation"]}

    assert {name for name in imported if name != own and ranks[name] >= ranks[own]} == set()


def test_import_is_light() -> None:
    """Invariant 2: importing cxrzoo and listing models imports no torch, timm, pydicom or numpy."""
    code = (
        "import sys, cxrzoo; cxrzoo.list_models(); cxrzoo.describe(cxrzoo.list_models()[0]); "
        "print(sorted({'torch', 'timm', 'pydicom', 'numpy', 'PIL', 'huggingface_hub'} & set(sys.modules)))"
    )

    assert run_child(code) == "[]"


def test_loading_leaves_maintainers_modules_alone(resnet18_folder: Path) -> None:
    """Invariant 2: loading a model and transforming an image never imports what publishes or documents."""
    code = (
        f"import sys, cxrzoo, numpy; m = cxrzoo.load({str(resnet18_folder)!r}); "
        "m.transform(numpy.zeros((40, 40), 'uint8')); "
        "maintainers = ('publisher', 'cards', 'pretraining', 'evaluation', 'cli'); "
        "print(sorted({'cxrzoo.' + name for name in maintainers} & set(sys.modules)))"
    )

    assert run_child(code) == "[]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_unpickling(path: Path) -> None:
    """Invariant 3: no module calls an unpickler, torch.load, eval or exec."""
    forbidden = {"torch.load", "pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "eval", "exec"}
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    imported = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }

    assert (calls & forbidden, imported & {"pickle", "cPickle", "dill", "cloudpickle", "joblib"}) == (set(), set())


def test_only_checkpoint_opens_untrusted_files() -> None:
    """Invariant 3: the zip and pickle layouts are known in one package only."""
    outside = [path for path in MODULES if top_module(path) != "checkpoint"]

    users = {p.name for p in outside if {"zipfile", "pickletools", "tarfile"} & _imported_modules(p)}

    assert users == set()


def _imported_modules(path: Path) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names} | {
        str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)
    }


@pytest.mark.parametrize(
    # those that train know their methods, whose names are recipes' as well
    "path",
    [path for path in MODULES if top_module(path) != "pretraining" and path.stem != "pretraining"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_names_of_models_or_families(path: Path) -> None:
    """Invariant 4: no model's name, no recipe's and no architecture's stands in the code, comments and docs aside."""
    libraries = {"torchvision", "timm", "torchxrayvision"}  # which are named as such
    families = (name for name in list_recipes() if load_recipe(name).refuses is None)
    names = {*list_models(), *families, *(cxrzoo.describe(name).architecture for name in list_models())}
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in names - libraries - {""}))
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    constants = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
    }

    assert {value for value in constants if pattern.search(value)} == set()


def test_public_names() -> None:
    """The public API is what __all__ says, every name of it can be had, and nothing else is offered."""
    public = ["CxrZooError", "ImageError", "ImageWarning", "IsolatedReader", "LinearProbe", "Manifest", "compare"]
    public += ["convert", "describe", "label_efficiency", "list_models", "load", "read_image"]

    assert public == cxrzoo.__all__
    assert all(hasattr(cxrzoo, name) for name in public)
    assert sorted([*public, "__version__"]) == dir(cxrzoo)


def test_no_module_is_named_like_a_function() -> None:
    """No module bears the name of a public function, which it would replace once imported."""
    assert {top_module(path) for path in MODULES} & set(cxrzoo.__all__) == set()


def test_unknown_attribute() -> None:
    """A public name that does not exist is an AttributeError, as for any module."""
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        cxrzoo.lode  # noqa: B018
