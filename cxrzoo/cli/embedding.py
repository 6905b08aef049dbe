"""`embed`: images into vectors, a file of them, or a table into a store."""

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cxrzoo.cli.extras import needing
from cxrzoo.cli.images import add_choice_of_image, is_file
from cxrzoo.errors import CxrZooError

#: Options of `embed` that belong to one of its two forms.
_FILES_ONLY, _TABLE_ONLY = ("frame", "window", "overwrite"), ("root", "column", "retry")


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
        if not is_file(image):  # said before a model is fetched; by position, as names may be patients'
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
    with needing("eval", "Reading tables"):
        from tqdm import tqdm

        from cxrzoo.evaluation.tables import read_table
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


def _path_column(text: str) -> str:
    role, _, name = text.partition("=")
    if role != "path" or not name:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected path=NAME, such as path=Image_Index")
    return name


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number, 0 or more")
    return int(text)


def add_embed_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `cxrzoo embed`."""
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("images", nargs="*", default=[], metavar="FILE", help="DICOM, PNG, JPEG or TIFF")
    what.add_argument("--data", type=Path, metavar="TABLE", help="or a CSV or Parquet table, a row an image")
    command.add_argument("--model", required=True, help="a name, a folder or hf-hub:org/name")
    command.add_argument("--variant", help="preprocessing, by its name in the manifest")
    add_choice_of_image(command)
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
