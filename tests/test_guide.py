"""The guide to conversion does what it says: all its blocks are run, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cxrzoo._paths import RECIPES

BLOCK = re.compile(r"(<!-- fails -->\n)?```(\w+)\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_guide(tmp_path: Path, child_environment: dict[str, str]) -> None:
    """Every block of the guide runs in the order of the page; only those marked so fail."""
    blocks = BLOCK.findall((RECIPES / "GUIDE.md").read_text(encoding="utf-8"))
    environment = child_environment | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    for number, (fails, language, text) in enumerate(blocks):
        if language == "toml":
            (tmp_path / text.split()[1]).write_text(text)
            continue
        command = {"python": [sys.executable, "-c", text], "sh": ["sh", "-e", "-c", text]}[language]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert bool(fails) == bool(done.returncode), f"block {number}:\n{text}\n{done.stdout}\n{done.stderr}"

    assert {"python", "sh", "toml"} == {language for _, language, _ in blocks}
    assert {"mine", "simclr", "simclr-as-moco"} == {path.name for path in tmp_path.iterdir() if path.is_dir()}
