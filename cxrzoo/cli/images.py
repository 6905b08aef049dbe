"""What several commands ask of images."""

import argparse
import os


def add_choice_of_image(command: argparse.ArgumentParser) -> None:
    """Add the options that choose one of several frames and windows."""
    command.add_argument("--frame", type=int, metavar="N", help="of several frames or pages, counted from 0")
    command.add_argument(
        "--window", type=_window, metavar="NAME|N", help="of several windows of a DICOM image; the first if left out"
    )


def _window(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def is_file(path: str) -> bool:
    """Return whether there is such a file."""
    return os.path.isfile(path)  # noqa: PTH113 - that of Path raises where a name is too long
