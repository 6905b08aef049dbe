"""`cxrzoo compare`: its options, and what it prints. Heavy imports stand inside: `--help` must not wait for torch."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from cxrzoo.cli.extras import needing

_MODES = ("linear", "knn", "end-to-end", "linear-bn-adapt")


def run_compare(arguments: argparse.Namespace) -> None:
    """Which model is best for a table of labels, and by how much: a report with label-efficiency curves."""
    with needing("eval", "Comparing models"):
        from cxrzoo.evaluation import comparing

        if arguments.save is not None:
            from cxrzoo.evaluation import saving
    if arguments.save is not None:
        saving.check_place()  # before the work, not after
        saving.check_dataset(arguments.save, arguments.save_url)
    try:
        comparison = comparing.compare(
            arguments.models,
            arguments.data,
            arguments.label,
            out=arguments.out,
            against=arguments.against,
            baseline=arguments.baseline,
            protocol=arguments.protocol,
            modes=list(dict.fromkeys(arguments.mode or ["linear"])),
            floor=arguments.floor,
            seed=arguments.seed,
            uncertain=arguments.uncertain,
            positive=arguments.positive,
            image_level=arguments.image_level,
            patient_ids="per-split" if arguments.patients_per_split else "global",
            columns=dict(arguments.column),
            root=arguments.root,
            split=arguments.split,
            test_share=arguments.test_share,
            workers=arguments.workers,
            device=arguments.device,
            pictures=arguments.pictures,
            progress=sys.stderr.isatty() or arguments.verbose,
            title=arguments.title,
            command=describe_command(arguments.words, arguments.out),
        )
    except KeyboardInterrupt:
        print("\ncxrzoo: interrupted. What is done is kept: the same command goes on from there.", file=sys.stderr)
        raise
    from cxrzoo.evaluation.report.words import name_mode, show_interval, show_value

    print(comparison.recommendation)
    for rank in comparison.ranking:
        mode = f", {name_mode(rank.mode)}" if len(comparison.modes) > 1 else ""
        print(f"  {show_value(rank.average)} ({show_interval(rank.average)})  {rank.model}{mode}")
    print(f"{arguments.out / comparing.REPORT}: the report; {comparing.RESULTS} beside it has all figures")
    if arguments.save is not None:
        for path in saving.save_results(comparison, arguments.save, dataset_url=arguments.save_url):
            print(f"hub/{path.name}: results written")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `cxrzoo compare`."""
    command.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a name, NAME:VARIANT, a folder, hf-hub:org/name, untrained:ARCHITECTURE, untrained:MODEL for that "
        "model's network with random weights, or a store of `embed --data`",
    )
    command.add_argument("--out", type=Path, default=Path("comparison"), metavar="DIR", help="default: comparison")
    what = command.add_argument_group("the table")
    what.add_argument("--data", required=True, type=Path, metavar="TABLE", help="CSV or Parquet, a row an image")
    what.add_argument(
        "--label",
        required=True,
        action="append",
        metavar="COLUMN",
        help="a finding, or NAME=COLUMN: 1, 0, -1 for uncertain, empty for missing; may be given several times",
    )
    what.add_argument("--against", metavar="COLUMN", help="a 0 counts only where this column is 1, such as no_finding")
    what.add_argument(
        "--uncertain", choices=("ignore", "positive", "negative"), default="ignore", help="what -1 means (ignore)"
    )
    what.add_argument("--positive", metavar="VALUE", help="of labels in words, the one that is 1; all others are 0")
    what.add_argument(
        "--column",
        type=_column,
        action="append",
        default=[],
        metavar="ROLE=NAME",
        help="where path, patient, study, view or split has an unusual name; ROLE= to use no column for it",
    )
    what.add_argument("--root", type=Path, metavar="DIR", help="where paths start; the table's own folder if left out")
    split = command.add_argument_group("the split", "by patient, unless told otherwise")
    split.add_argument("--split", type=Path, metavar="FILE", help="a split.csv of an earlier run, to be used again")
    split.add_argument(
        "--test-share", type=float, metavar="SHARE", help="of a drawn split, such as .4; the protocol's if left out"
    )
    split.add_argument("--seed", type=int, default=0, help="of split, draws and replicates (0)")
    split.add_argument(
        "--image-level", action="store_true", help="images of one patient may fall into several parts of the split"
    )
    split.add_argument(
        "--patients-per-split", action="store_true", help="patients are numbered anew in each part of a given split"
    )
    how = command.add_argument_group("the comparison")
    how.add_argument("--protocol", default="default", help="default, moco-cxr, moco-cxr-shenzhen, dvme or a TOML file")
    how.add_argument("--mode", action="append", choices=_MODES, help="linear if left out; may be given several times")
    how.add_argument("--baseline", metavar="MODEL", help="what the others are compared with; the first if left out")
    floor = how.add_mutually_exclusive_group()
    floor.add_argument(
        "--floor", metavar="untrained:ARCHITECTURE", help="the network whose random weights are the floor"
    )
    floor.add_argument("--no-floor", dest="floor", action="store_const", const="", help="compare without a floor")
    how.add_argument(
        "--workers", type=int, default=int(os.name == "posix"), metavar="N", help="processes that read the images (1)"
    )
    how.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    report = command.add_argument_group("the report")
    report.add_argument("--title", default="")
    report.add_argument(
        "--no-pictures", dest="pictures", action="store_false", help="leave the images of errors out of the report"
    )
    report.add_argument(
        "--save", metavar="DATASET", help="write the figures under this name into the models' manifests"
    )
    report.add_argument("--save-url", default="", metavar="URL", help="with --save: where the data set is described")


def _column(text: str) -> tuple[str, str]:
    role, found, name = text.partition("=")
    if not found or not role:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected ROLE=NAME, such as path=Image_Index, or ROLE= for no column"
        )
    return role, name


def describe_command(words: Sequence[str], out: Path | None = None) -> str:
    """Return the command as it was given, without the folders of this machine: of a path the last part stays.

    Args:
        out: What is known to be a path, though there may be nothing yet.
    """
    command = shlex.join(["cxrzoo", *(_last_part(word, out) for word in words)])
    return command.encode("utf-8", "replace").decode()  # a file's name may be no text at all


def _last_part(word: str, out: Path | None) -> str:
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    # not the methods of Path, which raise where there is no such user, and where a name is too long
    path = os.path.expanduser(value)  # noqa: PTH111
    known = Path(value) == out or os.path.exists(path)  # noqa: PTH110
    if os.sep in value and (known or value.startswith((os.sep, "~", "."))):
        value = Path(path).resolve().name or value
    return f"{option}{equals}{value}"
