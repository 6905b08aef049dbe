"""The documents: their tables are fresh, their commands and functions exist, and what exists is in them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cxrzoo
from cxrzoo import documents
from cxrzoo.cli import _parser
from cxrzoo.errors import RecordError

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="the documents are in the checkout only")


def read(name: str) -> str:
    """Return the text of a document."""
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["README.md", "MODEL_CARD.md"])
def test_tables_are_fresh(name: str) -> None:
    """The tables made from hub/ are those that `make docs` would write now."""
    assert documents.refresh(read(name)) == read(name)


def test_stale_table_is_noticed(tmp_path: Path) -> None:
    """--check fails on a document whose table is stale, and leaves it as it is."""
    stale = tmp_path / "README.md"
    stale.write_text(read("README.md").replace("| `densenet121` |", "| `densenet169` |"))
    before = stale.read_text()

    done = subprocess.run(
        [sys.executable, "-m", "cxrzoo.documents", "--check", str(stale)], capture_output=True, text=True
    )

    assert (1, before) == (done.returncode, stale.read_text())
    assert "README.md is stale. Run `make docs`." in done.stderr


def test_lost_marker_is_an_error() -> None:
    """A table without its end marker is an error, not a document cut short."""
    with pytest.raises(RecordError, match="Put the end marker back"):
        documents.refresh("<!-- made by `make docs`: models -->\nrest of the document")


def test_every_model_is_in_the_tables() -> None:
    """Each manifest has a row in the README and in the model card."""
    for name in cxrzoo.list_models():
        assert f"| `{name}` |" in read("README.md")
        assert f"| `{name}` |" in read("MODEL_CARD.md")


def commands() -> dict[str, str]:
    """Return the commands of the command line with their help."""
    (action,) = [a for a in _parser()._actions if hasattr(a, "choices") and isinstance(a.choices, dict)]
    return {name: parser.description or "" for name, parser in action.choices.items()}


def test_commands_in_the_readme_exist() -> None:
    """Every `cxrzoo COMMAND` in the documents is a command."""
    for name in ("README.md", "CONTRIBUTING.md", "MODEL_CARD.md", "conversion/README.md", "hub/README.md"):
        mentioned = set(re.findall(r"(?:^|`)cxrzoo ([a-z]+)", read(name), re.MULTILINE))
        assert mentioned <= set(commands()), name


def test_every_command_is_in_the_readme() -> None:
    """Every command is mentioned in the README or the changelog, and has a help text of one sentence."""
    text = read("README.md") + read("CHANGELOG.md")
    for name, description in commands().items():
        assert re.search(rf"\b{name}\b", text), name
        assert description.endswith("."), name


def test_public_names_in_the_readme_exist() -> None:
    """Every `cxrzoo.name` in the README is a public name."""
    mentioned = set(re.findall(r"\bcxrzoo\.([a-z_]+)\b", read("README.md")))

    assert mentioned <= set(cxrzoo.__all__)


def test_make_targets_in_the_documents_exist() -> None:
    """Every `make TARGET` in the documents is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", "hub/README.md", "conversion/README.md", "benchmarks/README.md"):
        assert set(re.findall(r"\bmake ([a-z-]+)`", read(name))) <= targets, name


def test_links_in_the_documents_lead_somewhere() -> None:
    """Every relative link in the documents is a file or folder of the checkout."""
    for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "MODEL_CARD.md", "docs/reading.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", read(name)):
            assert ((ROOT / name).parent / link).exists(), (name, link)


def named_in(title: str) -> set[str]:
    """Return the modules in the first column of the tables below a title of ARCHITECTURE.md."""
    table = read("ARCHITECTURE.md").partition(f"## {title}")[2].partition("\n## ")[0]
    return set(
        re.findall(r"`([a-z_]+)/?`", "\n".join(line.split("|")[1] for line in table.splitlines() if "| `" in line))
    )


def modules_of(package: Path) -> set[str]:
    """Return the modules and packages that stand directly in a package."""
    found = {p.stem for p in package.glob("*.py")} | {p.parent.name for p in package.glob("*/__init__.py")}
    return found - {"__init__", "__main__", package.name}


def test_architecture_names_every_module() -> None:
    """ARCHITECTURE.md has each module of the package, and none that is gone."""
    package = Path(cxrzoo.__file__).parent

    assert modules_of(package) == named_in("The modules")
    assert modules_of(package / "evaluation") == named_in("The rooms")


def test_version_is_stated_once() -> None:
    """setup.cfg, the package and the citation agree on the version."""
    (version,) = re.findall(r"^version = (.+)$", read("setup.cfg"), re.MULTILINE)

    assert cxrzoo.__version__ == version
    assert f"version: {version}\n" in read("CITATION.cff")


def test_nothing_speaks_of_other_places() -> None:
    """No tracked file names a package registry's host or a path of some machine."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    hosts = ["py" + "pi.org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian", "/wo" + "rk/"]
    for name in tracked.stdout.split():
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace") if (ROOT / name).is_file() else ""
        assert [host for host in hosts if host in text] == [], name
