"""The tables in README.md and MODEL_CARD.md, made from hub/; run as `python -m cxrzoo.documents`."""

import argparse
import sys
from pathlib import Path

from cxrzoo.cards import make_table, render_results
from cxrzoo.errors import CxrZooError, RecordError
from cxrzoo.manifest import first_sentence
from cxrzoo.registry import describe, list_models

_START, _END = "<!-- made from hub/: {} -->", "<!-- end of {} -->"


def render_models() -> str:
    """Return the table of all models, a row a manifest."""
    rows = []
    for name in list_models():
        manifest = describe(name)
        size = manifest.preprocessing[manifest.default_variant].input_size
        rows.append(
            [
                f"`{name}`",
                first_sentence(manifest.summary),
                f"`{manifest.architecture}`",
                f"{size[1]} px",
                manifest.licence.weights or "not stated",
                f"[{manifest.paper.rpartition('/')[2]}]({manifest.paper})" if manifest.paper else "–",
            ]
        )
    return make_table(["name", "what it is", "timm architecture", "input", "licence of the weights", "paper"], rows)


def render_all_results() -> str:
    """Return the published results of every model that has some."""
    return "\n".join(render_results(describe(n)) for n in list_models() if describe(n).results)


def refresh(text: str, where: str = "text") -> str:
    """Return `text` with the parts between its markers made anew from hub/.

    Raises:
        RecordError: A marker is missing its end.
    """
    for part, render in (("models", render_models), ("results", render_all_results)):
        start, end = _START.format(part), _END.format(part)
        if start not in text:
            continue
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise RecordError(f"{where}: found {start!r} but no {end!r} after it. Put the end marker back.")
        text = f"{before}{start}\n\n{render().strip()}\n\n{end}{after}"
    return text


def _main() -> int:
    parser = argparse.ArgumentParser(description="Make the tables in documents anew from hub/.")
    parser.add_argument("documents", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if a table is stale")
    arguments = parser.parse_args()
    stale = 0
    for path in arguments.documents:
        text = path.read_text(encoding="utf-8")
        try:
            fresh = refresh(text, path.name)
        except CxrZooError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        if fresh != text and arguments.check:
            sys.stderr.write(f"{path.name} is stale. Run `make docs`.\n")
            stale = 1
        elif fresh != text:
            path.write_text(fresh, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(_main())
