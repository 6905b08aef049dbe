"""The tables in the documents, made from hub/ and conversion/, and cards; run as `python -m cxrzoo.documents`."""

import argparse
import sys
from pathlib import Path

from cxrzoo._paths import CHECKOUT
from cxrzoo.cards import CARD, render_card
from cxrzoo.catalogue import UNKNOWN, Readiness, Row, group_rows
from cxrzoo.errors import CxrZooError, RecordError
from cxrzoo.figures import make_table, render_measured, render_overview, render_results
from cxrzoo.folders import CONFIG
from cxrzoo.recipe import Recipe, list_recipes, load_recipe
from cxrzoo.registry import describe, list_models

_START, _END = "<!-- made by `make docs`: {} -->", "<!-- end of {} -->"


def render_models() -> str:
    """Return the tables of all models, a row a manifest: first those that load by name, last those with gaps."""
    titles: dict[Readiness, str] = {
        "by name": '**Load by name**, `cxrzoo.load("NAME")`:',
        "with the repository": "**Load by name in a clone of the repository**, beside whose manifests the weights lie:",
        "by hand": "**Fetch the file by hand**, then `cxrzoo convert FILE --model NAME --out DIR`:",
        "incomplete": "**Facts are missing.** `cxrzoo describe NAME` says which, and what is known:",
    }
    groups = group_rows(map(describe, list_models()))
    return "\n".join(f"{titles[readiness]}\n\n{_render_rows(rows)}\n" for readiness, rows in groups.items() if rows)


def _render_rows(rows: list[Row]) -> str:
    head = [
        "name",
        "what it is",
        "method",
        "architecture",
        "input",
        "mean / std",
        "licence of the weights",
        "re-hosting",
        "file",
    ]
    cells = [
        [
            f"`{row.name}`",
            row.what,
            row.method,
            row.architecture if row.architecture == UNKNOWN else f"`{row.architecture}`",
            row.input,
            row.normalisation,
            row.licence,
            row.rehost,
            f"[{row.file}]({row.address})" if row.address else row.file,
        ]
        for row in rows
    ]
    return make_table(head, cells)


def render_recipes() -> str:
    """Return the table of all recipes, those that refuse last."""
    recipes = sorted(map(load_recipe, list_recipes()), key=lambda recipe: (recipe.refuses is not None, recipe.name))
    rows = [
        [
            f"[`{recipe.name}`]({recipe.name}.toml)",
            recipe.summary if recipe.refuses is None else f"**Refused.** {recipe.summary}",
            _render_networks(recipe),
        ]
        for recipe in recipes
    ]
    return make_table(["recipe", "checkpoints", "networks"], rows)


def _render_networks(recipe: Recipe) -> str:
    own = list(dict.fromkeys(architecture.name for architecture in recipe.architectures))
    if own:
        return ", ".join(own[:8]) + (f" and {len(own) - 8} more" if len(own) > 8 else "")
    return "those of " + ", ".join(f"`{name}`" for name in recipe.then) if recipe.then else "–"


def render_all_results() -> str:
    """Return the published results of every model that has some."""
    return "\n".join(render_results(describe(n)) for n in list_models() if describe(n).results)


def render_all_measured() -> str:
    """Return what this project measured, a table for each comparison."""
    return render_overview(map(describe, list_models()))


def render_all_measurements() -> str:
    """Return what this project measured of each model, with all that it takes to repeat it."""
    models = filter(lambda manifest: manifest.measured, map(describe, list_models()))
    return "\n".join(render_measured(model.name, model.measured) for model in models)


def render_all_targets() -> str:
    """Return what the open weights were to show, and how far they do."""
    from cxrzoo.evaluation.claims import render_targets  # which takes the packages of the extra `eval`

    return render_targets(_find_documents())


def render_all_evidence() -> str:
    """Return all that was measured of the open weights beyond the manifests."""
    from cxrzoo.evaluation.exhibits import render_evidence

    return render_evidence(_find_documents())


def _find_documents() -> Path:
    if CHECKOUT is None:
        raise RecordError("found no checkout of the repository, expected one: its docs/ hold the evidence. Clone it.")
    return CHECKOUT / "docs"


def refresh(text: str, where: str = "text") -> str:
    """Return `text` with the parts between its markers made anew.

    Raises:
        RecordError: A marker is missing its end.
    """
    parts = {
        "models": render_models,
        "recipes": render_recipes,
        "results": render_all_results,
        "measured": render_all_measured,
        "measurements": render_all_measurements,
        "targets": render_all_targets,
        "evidence": render_all_evidence,
    }
    for part, render in parts.items():
        start, end = _START.format(part), _END.format(part)
        if start not in text:
            continue
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise RecordError(f"{where}: found {start!r} but no {end!r} after it. Put the end marker back.")
        text = f"{before}{start}\n\n{render().strip()}\n\n{end}{after}"
    return text


def list_cards(folder: Path) -> list[Path]:
    """Return where the cards of the model folders in a folder lie, or belong."""
    return [entry / CARD for entry in sorted(folder.iterdir()) if (entry / CONFIG).is_file()]


def _refresh_file(path: Path) -> tuple[str, str]:
    """Return what stands in a document, or in a card, and what should."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if (path.parent / CONFIG).is_file():
        return text, render_card(path.parent)
    return text, refresh(text, path.name)


def _main() -> int:
    parser = argparse.ArgumentParser(
        description="Make the tables in documents anew from hub/ and conversion/, and the cards of model folders."
    )
    parser.add_argument(
        "documents", nargs="+", type=Path, help="a document, or a folder such as hub/, for the cards in its folders"
    )
    parser.add_argument("--check", action="store_true", help="change nothing, fail if a table or a card is stale")
    arguments = parser.parse_args()
    stale = 0
    paths = [file for path in arguments.documents for file in (list_cards(path) if path.is_dir() else [path])]
    for path in paths:
        try:
            text, fresh = _refresh_file(path)
        except CxrZooError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        if fresh != text and arguments.check:
            shown = f"{path.parent.name}/{CARD}" if path.parent.joinpath(CONFIG).is_file() else path.name
            sys.stderr.write(f"{shown} is stale. Run `make docs`.\n")
            stale = 1
        elif fresh != text:
            path.write_text(fresh, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(_main())
