"""`list`, `describe`, `inspect`: what is known of models, images and checkpoints."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cxrzoo.cli.images import add_choice_of_image, is_file
from cxrzoo.errors import CxrZooError
from cxrzoo.manifest import NAME, Manifest, Source

if TYPE_CHECKING:
    from cxrzoo.catalogue import Row

#: A name that ends so was meant as a file.
_IMAGES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff")


def run_list(arguments: argparse.Namespace) -> None:
    """The models: method, architecture, input, normalisation, licence of the weights, and where the file is."""
    from cxrzoo.catalogue import group_rows
    from cxrzoo.registry import describe, list_models

    names = list_models(arguments.pattern)
    if not names:
        raise CxrZooError(f"no model matches {arguments.pattern!r}. `cxrzoo list` without a pattern shows all.")
    titles = {
        "by name": "Load by name:",
        "with the repository": "Load by name in a clone of the repository, beside whose manifests the weights lie:",
        "by hand": "The file is fetched by hand, then `cxrzoo convert FILE --model NAME --out DIR`:",
        "incomplete": "Facts are missing, `cxrzoo describe NAME` says which and what is known:",
    }
    for readiness, rows in group_rows(map(describe, names)).items():
        if rows:
            _print_table(titles[readiness], rows)
    print(
        'licence: as stated for the weights; "re-host" where it lets them be published again.\n'
        "`cxrzoo describe NAME` says everything that is known of a model, and what is not."
    )


def _print_table(title: str, rows: "list[Row]") -> None:
    head = ("name", "method", "architecture", "input", "mean / std", "licence", "file")
    cells = [
        (row.name, row.method, row.architecture, row.input, row.normalisation, _licence(row), _host(row))
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    print(title)
    for line in (head, *cells):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()


def _licence(row: "Row") -> str:
    return row.licence + (", re-host" if row.rehost == "yes" else "")


def _host(row: "Row") -> str:
    return row.file.partition(":")[0]  # the name of a package is for `describe`


def run_describe(arguments: argparse.Namespace) -> None:
    """Everything a manifest says of a model; or of a file with an image how it is read, step by step."""
    from cxrzoo.account import describe_source, list_facts
    from cxrzoo.registry import describe

    if is_file(arguments.name):
        _describe_image(arguments.name, arguments.frame, arguments.window, arguments.windows)
        return
    if os.path.isdir(arguments.name):  # noqa: PTH112 - as in is_file
        raise CxrZooError("that is a folder. `cxrzoo card FOLDER` shows what a model folder says of itself.")
    if not NAME.fullmatch(arguments.name) or Path(arguments.name).suffix.lower() in _IMAGES:
        raise CxrZooError("there is no such file, and no model has such a name. Check the path, or see `cxrzoo list`.")
    manifest = describe(arguments.name)
    print(f"{manifest.name}\n  {manifest.summary}")
    for title, value in _facts(manifest).items():
        print(f"{title:18} {value}")
    for source in manifest.training_source:
        print(f"{'trained on':18} {describe_source(source)}")
    if manifest.reproduces:
        print(f"{'reproduces':18} {manifest.reproduces}")
    for title, value in (list_facts(manifest.training) if manifest.training else {}).items():
        print(f"{'training':18} {title}: {value}")
    for limit in manifest.limits:
        print(f"{'limits':18} {limit}")
    for fact, text in manifest.unknown.items():
        print(f"{'unknown':18} {fact}: {text}")
    for name, variant in manifest.preprocessing.items():
        mark = " (default)" if name == manifest.default_variant else ""
        print(f"{'preprocessing':18} {name}{mark}, digest {variant.digest[:16]}")
        for field, value in variant.as_dict().items():
            shown = variant.contrast or "none" if field == "contrast" else value
            print(f"    {field:16} {shown}")
    for result in manifest.results:
        values = ", ".join(
            f"{fraction:g}: {value[0]:.3f}"
            for fraction, value in zip(result.label_fractions, result.value, strict=True)
        )
        print(f"{'published':18} {result.dataset}, {result.finding}, {result.mode}, {result.metric} at {values}")
    for row in manifest.measured:
        values = ", ".join(
            f"{fraction}: {value:.3f} ({lower:.3f} to {upper:.3f})"
            for fraction, (value, lower, upper) in zip(row.label_fractions, row.value, strict=True)
        )
        print(f"{'measured':18} {row.dataset}, {row.task}, {row.mode}, {row.metric} at {values}")
        print(f"{'':18} protocol {row.protocol}, {row.test_images:,} test images, {row.date}: {row.command}")


def _describe_image(path: str, frame: int | None, window: str | int | None, show_windows: bool) -> None:
    from cxrzoo.imaging import read

    report = read(path, frame=frame, window=window).report
    print(report)
    if show_windows:
        for position, name in enumerate(report.windows):
            print(f"  window {position}: {name or 'nameless'}")
    elif len(report.windows) > 1:
        print(f"  {len(report.windows)} windows and VOI LUTs: --windows shows their names, which are text of the file")


def _facts(manifest: Manifest) -> dict[str, object]:
    from cxrzoo.catalogue import readiness

    licence, source = manifest.licence, manifest.source
    loads = {
        "by name": "yes",
        "with the repository": "in a clone of the repository, which holds the weights",
        "by hand": "no: its file is fetched by hand, see below",
        "incomplete": "no: facts are missing, see below",
    }
    return {
        "loads by name": loads[readiness(manifest)],
        "architecture": manifest.architecture or "unknown",
        "method": manifest.method,
        "recipe": manifest.recipe or "unknown",
        "training data": "; ".join(manifest.training_data) or "not stated",
        "intended use": manifest.intended_use,
        "paper": manifest.paper or "not stated",
        "repository": manifest.repository or "this one",
        "released as": str(source),
        "its sha256": source.sha256 or _unstated_digest(source),
        "licence, weights": licence.weights or "not stated",
        "licence, code": licence.code or "not stated",
        "licence, data": licence.data or "not stated",
        "may be re-hosted": "yes" if licence.rehost else "no",
        "licence, note": licence.note or "–",
    }


def _unstated_digest(source: Source) -> str:
    return "not stated" if source.command else "not published; pinned here at the first conversion"


def run_inspect(arguments: argparse.Namespace) -> None:
    """What kind of file a checkpoint is, its keys by prefix, and which recipe and architecture it is of, and why."""
    from cxrzoo.checkpoint import Tensor, describe_root, list_mappings, open_checkpoint
    from cxrzoo.matching import choose_fit, group_keys

    with open_checkpoint(arguments.checkpoint) as checkpoint:
        print(f"{arguments.checkpoint.name}: {checkpoint.kind}, {checkpoint.size:,} bytes, sha256 {checkpoint.sha256}")
        mappings = list_mappings(checkpoint.root)
        if "" not in mappings:
            for line in describe_root(checkpoint.root):
                print(f"  {line}")
        for path, mapping in mappings.items():
            keys = [key for key, value in mapping.items() if isinstance(value, Tensor)]
            print(f"{len(keys)} tensors {f'in {path}' if path else 'at the top level'}, by prefix:")
            for prefix, count in group_keys(map(str, keys)).items():
                print(f"  {count:5}  {prefix}")
        fit = choose_fit(checkpoint.root, arguments.recipe)
        print(f"recipe {fit.recipe.name} {fit.explain()}")
        print(f"  read from {fit.path or 'the top level'}")
        print(f"  {fit.recipe.summary}", flush=True)
        tensors, computed = fit.outputs()
        for operation, count in computed.items():
            print(f"  {count} tensors are made by `{operation}`")

        from cxrzoo.architectures import match_architecture  # late: it waits for timm

        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
        network = match_architecture(shapes, fit.route.architectures, None)
    args = "".join(f", {name} = {value}" for name, value in network.model_args.items())
    print(f"architecture {network.architecture}{args}: all {len(shapes)} tensors have its names and shapes")
    print(f"  embeddings of {network.num_features} numbers, pooling {network.global_pool!r}")
    if network.untold:
        print(f"  no shape tells {network.untold}")


def add_list_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `cxrzoo list`."""
    command.add_argument("pattern", nargs="?", default="*", help="a glob pattern; all of them if left out")


def add_describe_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `cxrzoo describe`."""
    command.add_argument("name", metavar="MODEL|FILE")
    add_choice_of_image(command)
    command.add_argument("--windows", action="store_true", help="show the names of a file's windows")


def add_inspect_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `cxrzoo inspect`."""
    command.add_argument("checkpoint", type=Path)
    command.add_argument("--recipe", help="take this one, instead of the one that fits")
