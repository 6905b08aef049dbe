"""The command line: one function a command, errors as text on stderr, a traceback only with --debug."""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from cxrzoo import __version__
from cxrzoo.cli import comparing, converting, embedding, listing, pretraining
from cxrzoo.errors import CxrZooError, ImageWarning


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


def run_doctor(arguments: argparse.Namespace) -> None:
    """Which images this installation reads, and the one command that adds the rest."""
    from cxrzoo.doctor import render_examination

    print(render_examination())


def run_demo(arguments: argparse.Namespace) -> None:
    """Take one radiograph through a model and draw what was read, what the network sees and what it makes of it."""
    from cxrzoo.demo import show

    show(arguments.model, arguments.image, arguments.out)


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

    listing.add_list_options(add("list", listing.run_list))
    listing.add_describe_options(add("describe", listing.run_describe))
    listing.add_inspect_options(add("inspect", listing.run_inspect))
    converting.add_convert_options(add("convert", converting.run_convert))
    converting.add_verify_options(add("verify", converting.run_verify))
    embedding.add_embed_options(add("embed", embedding.run_embed))
    comparing.add_options(add("compare", comparing.run_compare))
    pretraining.add_options(add("pretrain", pretraining.run_pretrain))
    add("doctor", run_doctor)
    converting.add_card_options(add("card", converting.run_card))
    command = add("demo", run_demo)
    command.add_argument("--model", required=True)
    command.add_argument("--image", required=True, help="DICOM, PNG, JPEG or TIFF")
    command.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR")
    return parser
