"""The command line: one function a command, errors as text on stderr, a traceback only with --debug."""

import argparse
import contextlib
import dataclasses
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cxrzoo import __version__
from cxrzoo.errors import CxrZooError, ImageWarning
from cxrzoo.evaluation.command import add_options as add_compare_options
from cxrzoo.evaluation.command import run_compare
from cxrzoo.manifest import NAME, Manifest, Preprocessing

if TYPE_CHECKING:
    from cxrzoo.catalogue import Row

#: Options of `embed` that belong to one of its two forms.
_FILES_ONLY, _TABLE_ONLY = ("frame", "window", "overwrite"), ("root", "column", "retry")
#: A name that ends so was meant as a file.
_IMAGES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for an error that is explained, 2 for wrong usage.

    130 where the user stopped it with Ctrl-C, as in a shell.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parsed = _parser().parse_args(words, argparse.Namespace(words=words))
    logging.basicConfig(level=logging.INFO if parsed.verbose else logging.WARNING, format="%(message)s")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.simplefilter("always", ImageWarning)
            run: Callable[[argparse.Namespace], None] = parsed.run
            run(parsed)
    except CxrZooError as error:
        if parsed.debug:
            raise
        print(f"cxrzoo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if parsed.debug:
            raise
        print("cxrzoo: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `cxrzoo list | head`
        sys.stderr.close()
        return 1
    return 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: object = None,
) -> None:
    print(f"cxrzoo: warning: {message}", file=sys.stderr)


# The heavy imports stand inside the functions: `cxrzoo list` and `--help` must not wait for torch.


def run_list(arguments: argparse.Namespace) -> None:
    """The models: method, architecture, input, normalisation, licence of the weights, and where the file is."""
    from cxrzoo.catalogue import group_rows
    from cxrzoo.registry import describe, list_models

    names = list_models(arguments.pattern)
    if not names:
        raise CxrZooError(f"no model matches {arguments.pattern!r}. `cxrzoo list` without a pattern shows all.")
    titles = {
        "by name": "Load by name:",
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
    from cxrzoo.registry import describe

    if _is_file(arguments.name):
        _describe_image(arguments.name, arguments.frame, arguments.window, arguments.windows)
        return
    if os.path.isdir(arguments.name):  # noqa: PTH112 - as in _is_file
        raise CxrZooError("that is a folder. `cxrzoo card FOLDER` shows what a model folder says of itself.")
    if not NAME.fullmatch(arguments.name) or Path(arguments.name).suffix.lower() in _IMAGES:
        raise CxrZooError("there is no such file, and no model has such a name. Check the path, or see `cxrzoo list`.")
    manifest = describe(arguments.name)
    print(f"{manifest.name}\n  {manifest.summary}")
    for title, value in _facts(manifest).items():
        print(f"{title:18} {value}")
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


def _is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - that of Path raises where a name is too long


def _describe_image(path: str, frame: int | None, window: str | int | None, show_windows: bool) -> None:
    from cxrzoo.imaging import read

    report = read(path, frame=frame, window=window).report
    print(report)
    if show_windows:
        for position, name in enumerate(report.windows):
            print(f"  window {position}: {name or 'nameless'}")
    elif len(report.windows) > 1:
        print(f"  {len(report.windows)} windows and VOI LUTs: --windows shows their names, which are text of the file")


def _window(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _facts(manifest: Manifest) -> dict[str, object]:
    from cxrzoo.catalogue import readiness

    licence, source = manifest.licence, manifest.source
    loads = {
        "by name": "yes",
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
        "repository": manifest.repository,
        "released as": str(source),
        "its sha256": source.sha256 or "not published; pinned here at the first conversion",
        "licence, weights": licence.weights or "not stated",
        "licence, code": licence.code or "not stated",
        "licence, data": licence.data or "not stated",
        "may be re-hosted": "yes" if licence.rehost else "no",
        "licence, note": licence.note or "–",
    }


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


def run_convert(arguments: argparse.Namespace) -> None:
    """Make a model folder of a checkpoint, with the proof beside the weights."""
    from cxrzoo.publisher import convert

    conversion = convert(
        arguments.checkpoint,
        arguments.out,
        recipe=arguments.recipe,
        architecture=arguments.architecture,
        model=arguments.model,
        preprocessing=_preprocessing(arguments),
    )
    record = conversion.record
    dropped = "".join(f", {count} dropped ({reason})" for reason, count in record.coverage.dropped.items())
    print(f"recipe        {record.coverage.recipe}: {record.coverage.kept} keys kept{dropped}, none unaccounted for")
    if record.coverage.path:
        print(f"read from     {record.coverage.path}")
    for operation, count in record.coverage.computed.items():
        print(f"computed      {count} tensors by `{operation}`")
    print(f"architecture  {conversion.architecture}, loaded strictly")
    if record.untold:
        print(f"              no shape tells {record.untold}")
    if record.parity is None:
        print("parity        not measured: the recipe names no reference network for this architecture")
    else:
        print(f"parity        {record.parity.max_difference:g} from {record.parity.reference}, pooled features")
    print(f"fingerprint   {record.fingerprint.digest}")
    said = {"manifest": f"as hub/{record.model}.toml says", "stated": "as stated"}
    print(f"preprocessing {record.default_variant!r}, {said[record.preprocessing_origin]}")
    print(f"checkpoint    sha256 {record.source_sha256}, {record.source_size} bytes")
    print(f"weights       sha256 {record.weights.sha256}, {record.weights.size} bytes")
    print(f'\n{conversion.folder} is ready: cxrzoo.load("{_as_path(conversion.folder)}")')


def _preprocessing(arguments: argparse.Namespace) -> str | Preprocessing | None:
    """Return what the options state; size, mean and std belong together."""
    given = {name: getattr(arguments, name) for name in ("size", "mean", "std")}
    stated = [name for name, value in given.items() if value is not None]
    if arguments.preprocess_from is not None and stated:
        raise CxrZooError(f"found --preprocess-from and --{stated[0]}, expected one or the other.")
    if not stated:
        return arguments.preprocess_from  # type: ignore[no-any-return]
    if len(stated) < 3:
        missing = ", ".join(f"--{name}" for name in given if name not in stated)
        raise CxrZooError(f"--{stated[0]} is given without {missing}. Size, mean and std belong together: state all.")
    channels = max(len(arguments.mean), len(arguments.std))
    return Preprocessing(
        input_size=(channels, arguments.size, arguments.size),
        mean=arguments.mean * (channels if len(arguments.mean) == 1 else 1),
        std=arguments.std * (channels if len(arguments.std) == 1 else 1),
        interpolation=arguments.interpolation,
        crop_pct=arguments.crop_pct,
        crop_mode=arguments.crop_mode,
        source="stated at the conversion",
    )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected numbers joined by commas without spaces, such as 0.485,0.456,0.406"
        ) from None


def _path_column(text: str) -> str:
    role, _, name = text.partition("=")
    if role != "path" or not name:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected path=NAME, such as path=Image_Index")
    return name


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number, 0 or more")
    return int(text)


def _as_path(folder: Path) -> str:
    return str(folder) if len(folder.parts) > 1 else f"./{folder}"


def run_verify(arguments: argparse.Namespace) -> None:
    """Check every byte of a model folder, and prove again, offline, what was proven when it was converted."""
    from cxrzoo.verification import verify_folder

    for line in verify_folder(arguments.folder, arguments.checkpoint, arguments.recipe):
        print(line, flush=True)


def run_embed(arguments: argparse.Namespace) -> None:
    """Embed images: print the vectors, write them as .npy with a .json that says what made them, or fill a store."""
    misplaced = _FILES_ONLY if arguments.data is not None else _TABLE_ONLY
    for option in misplaced:
        if getattr(arguments, option) not in (None, False, []):
            form = "FILE..." if misplaced is _FILES_ONLY else "--data"
            raise CxrZooError(
                f"--{option} belongs to {form} only. Leave it out; `cxrzoo embed --help` shows both forms."
            )
    if arguments.data is not None:
        _embed_table(arguments)
    else:
        _embed_files(arguments)


def _embed_files(arguments: argparse.Namespace) -> None:
    from cxrzoo.embedding import embed_images, write_embeddings
    from cxrzoo.loader import load

    if arguments.out is not None and arguments.out.suffix != ".npy":
        raise CxrZooError(f"--out is {arguments.out.name!r}, expected a file name that ends in .npy.")
    if arguments.out is not None and arguments.out.exists() and not arguments.overwrite:
        raise CxrZooError(f"{arguments.out} exists already. Give another name, or --overwrite to replace it.")
    for position, image in enumerate(arguments.images, 1):
        if not _is_file(image):  # said before a model is fetched; by position, as names may be patients'
            raise CxrZooError(f"image {position} of {len(arguments.images)} is no file. Check the path.")
    model = load(arguments.model, variant=arguments.variant, decoding=arguments.decoding)
    embeddings = embed_images(
        model,
        arguments.images,
        workers=arguments.workers,
        device=arguments.device,
        frame=arguments.frame,
        window=arguments.window,
    )
    if arguments.out is not None:
        write_embeddings(arguments.out, embeddings, model)
        print(f"{arguments.out}: {embeddings.shape[0]} × {embeddings.shape[1]}")
        return
    for name, value in dataclasses.asdict(model.provenance).items():
        print(f"# {name}: {value}")
    for embedding in embeddings:
        print(" ".join(f"{value:.6g}" for value in embedding))


def _embed_table(arguments: argparse.Namespace) -> None:
    if arguments.out is None or arguments.out.suffix == ".npy":
        raise CxrZooError("--data needs --out DIR, the folder of an embedding store: a new one, or one to go on with.")
    try:
        from tqdm import tqdm

        from cxrzoo.evaluation.tables import read_table
    except ImportError as error:
        raise CxrZooError(f"Tables take the package {error.name}. Run: pip install 'cxrzoo[eval]'") from error
    from cxrzoo.embedding import embed_table
    from cxrzoo.loader import load

    # patients and splits are no matter here: each row is an image
    columns = dict.fromkeys(("patient", "study", "view", "split"), "")
    if arguments.column:
        columns["path"] = arguments.column
    table = read_table(arguments.data, [], image_level=True, root=arguments.root, columns=columns)
    model = load(arguments.model, variant=arguments.variant, decoding=arguments.decoding)
    with contextlib.ExitStack() as stack:
        bar: tqdm[NoReturn] | None = None

        def report(done: int, total: int) -> None:
            nonlocal bar
            if bar is None:  # made late, since what is kept takes no time
                bar = stack.enter_context(tqdm(total=total, initial=done, unit=" images", disable=None))
            bar.update(done - bar.n)

        stored = embed_table(
            model,
            table.root,
            table.paths,
            arguments.out,
            workers=arguments.workers,
            progress=report,
            device=arguments.device,
            retry=arguments.retry,
        )
    embeddings, failures = stored.read(table.paths)
    for code in sorted(set(failures.values())):
        rows = [position + 1 for position, other in failures.items() if other == code]
        _warn_of_rows(f"not readable ({code})", rows)
    for notice, positions in stored.store.read_notices(table.paths).items():
        _warn_of_rows(f"worth a look ({notice})", [position + 1 for position in positions])
    if len(failures) == len(table):
        raise CxrZooError(
            "None of the images could be read. Do their paths start from the table's own folder? Else say from which: "
            "--root DIR."
        )
    print(
        f"{arguments.out}: {len(table) - len(failures)} × {embeddings.shape[1]}, {stored.kept} of {len(table)} images "
        "were there already" + (f"; {len(failures)} could not be read, --retry tries again" if failures else "")
    )


def _warn_of_rows(text: str, rows: Sequence[int]) -> None:
    shown = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
    print(f"cxrzoo: warning: {len(rows)} images {text}: row {shown}", file=sys.stderr)


def run_card(arguments: argparse.Namespace) -> None:
    """Print the card of a model folder."""
    from cxrzoo.cards import render_card

    print(render_card(arguments.folder), end="")


def run_doctor(arguments: argparse.Namespace) -> None:
    """Which images this installation reads, and the one command that adds the rest."""
    from cxrzoo.doctor import render_examination

    print(render_examination())


def run_demo(arguments: argparse.Namespace) -> None:
    """Take one radiograph through a model and draw what was read, what the network sees and what it makes of it."""
    from cxrzoo.demo import show

    show(arguments.model, arguments.image, arguments.out)


def _add_choice_of_image(command: argparse.ArgumentParser) -> None:
    command.add_argument("--frame", type=int, metavar="N", help="of several frames or pages, counted from 0")
    command.add_argument(
        "--window", type=_window, metavar="NAME|N", help="of several windows of a DICOM image; the first if left out"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cxrzoo",
        description="Chest X-ray backbones learned without labels, as timm models with their preprocessing.",
    )
    parser.add_argument("--version", action="version", version=f"cxrzoo {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--verbose", action="store_true", help="say what is fetched, converted and loaded from where")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        assert run.__doc__ is not None
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        return command

    command = add("list", run_list)
    command.add_argument("pattern", nargs="?", default="*", help="a glob pattern; all of them if left out")
    command = add("describe", run_describe)
    command.add_argument("name", metavar="MODEL|FILE")
    _add_choice_of_image(command)
    command.add_argument("--windows", action="store_true", help="show the names of a file's windows")
    command = add("inspect", run_inspect)
    command.add_argument("checkpoint", type=Path)
    command.add_argument("--recipe", help="take this one, instead of the one that fits")
    command = add("convert", run_convert)
    command.add_argument("checkpoint", type=Path)
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; it must not exist yet"
    )
    command.add_argument(
        "--recipe", help="name in conversion/, or path of a TOML of your own; found from the keys if left out"
    )
    command.add_argument("--architecture", help="timm's name; found from names and shapes if left out")
    command.add_argument("--model", help="the model of the zoo that this checkpoint is, which says all that follows")
    how = command.add_argument_group("preprocessing", "how images were prepared when the weights were trained")
    how.add_argument("--preprocess-from", metavar="NAME[:VARIANT]", help="a model of the zoo that was trained alike")
    how.add_argument("--size", type=int, metavar="PIXELS", help="height and width of the input")
    how.add_argument(
        "--mean", type=_numbers, metavar="M[,M,M]", help="for pixels in [0, 1]; one for all channels, or one for each"
    )
    how.add_argument("--std", type=_numbers, metavar="S[,S,S]")
    how.add_argument("--interpolation", choices=("bilinear", "bicubic"), default="bilinear")
    how.add_argument(
        "--crop-pct", type=float, default=1.0, metavar="SHARE", help="of the resized image that the crop keeps"
    )
    how.add_argument(
        "--crop-mode",
        choices=("center", "squash", "pad"),
        default="center",
        help="resize the shorter side, or both, or the longer one and pad with black",
    )
    command = add("verify", run_verify)
    command.add_argument("folder", type=Path)
    command.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="what it was converted from, to convert it once more"
    )
    command.add_argument("--recipe", metavar="FILE.toml", help="the recipe, where it was one of your own")
    command = add("embed", run_embed)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("images", nargs="*", default=[], metavar="FILE", help="DICOM, PNG, JPEG or TIFF")
    what.add_argument("--data", type=Path, metavar="TABLE", help="or a CSV or Parquet table, a row an image")
    command.add_argument("--model", required=True, help="a name, a folder or hf-hub:org/name")
    command.add_argument("--variant", help="preprocessing, by its name in the manifest")
    _add_choice_of_image(command)
    command.add_argument(
        "--decoding", choices=("exact", "fast"), help="fast: read large images smaller, still above the model's size"
    )
    command.add_argument(
        "--workers",
        type=_count,
        default=int(os.name == "posix"),
        metavar="N",
        help="processes that read the images (1), which a damaged file may crash without harm; 0: read in this one",
    )
    command.add_argument("--device", default="cpu", help="where the network runs: cpu, cuda")
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE.npy|DIR",
        help="of images, a file; of a table, a folder that can be gone on with",
    )
    command.add_argument("--overwrite", action="store_true", help="replace FILE.npy where it exists")
    table = command.add_argument_group("with --data")
    table.add_argument("--root", type=Path, metavar="DIR", help="where paths start; the table's own folder if left out")
    table.add_argument(
        "--column", type=_path_column, metavar="path=NAME", help="which column has the paths, where that is not clear"
    )
    table.add_argument("--retry", action="store_true", help="read images again that could not be read")
    add_compare_options(add("compare", run_compare))
    add("doctor", run_doctor)
    command = add("card", run_card)
    command.add_argument("folder", type=Path)
    command = add("demo", run_demo)
    command.add_argument("--model", required=True)
    command.add_argument("--image", required=True, help="DICOM, PNG, JPEG or TIFF")
    command.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR")
    return parser
