"""A process of its own that reads one image after the other under an audit hook; run as a script.

Honest images of every kind are read first, so that whatever Python itself imports on the way is imported before the
hook looks. Requests come in as lines of JSON, and a line of JSON answers each.
"""

import contextlib
import gc
import hashlib
import json
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from phantoms import CANARY

from cxrzoo.errors import ImageError, ImageWarning
from cxrzoo.imaging import read_image
from hostile import image_mutants, inspector
from hostile.radiographs import encodings

#: Nothing of these is worth a look; everything else that Python audits is an alarm. Pillow changes the class of a JPEG
#: with several pictures.
_HARMLESS = {"builtins.id", "array.__new__", "sys._getframe", "object.__setattr__"}
#: Cython makes a traceback of them when a decoder raises.
_TRACEBACK = {"compile", "code.__new__"}

watched: Path | None = None
strays: list[str] = []


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Note every audited event but opening the file in question for reading."""
    if watched is None or event in _HARMLESS:
        return
    if event in _TRACEBACK and "'imagecodecs/" in str(arguments):
        return
    if event != "open" or str(arguments[0]) != str(watched) or arguments[1] not in ("r", "rb"):
        strays.append(f"{event} {str(arguments)[:100]}")


def check(image: "np.ndarray[Any, Any]") -> list[str]:
    """Return what is wrong with the pixels of an image that was read."""
    faults = []
    if image.dtype != np.float32 or image.ndim != 2 or not image.size:
        faults.append(f"an array of {image.dtype} and shape {image.shape}")
    elif not np.isfinite(image).all():
        faults.append("pixels that are no numbers")
    elif image.min() < 0 or image.max() > 1:
        faults.append(f"pixels from {image.min()} to {image.max()}")
    return faults


def as_float(pixels: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return the pixels of a `Reading` as `read_image` does."""
    return pixels.astype(np.float32) / np.float32(255) if pixels.dtype == np.uint8 else pixels


def digest(image: "np.ndarray[Any, Any]") -> str:
    """Return the sha256 of an image's pixels and shape."""
    return hashlib.sha256(repr((image.shape, image.dtype.name)).encode() + image.tobytes()).hexdigest()


def view(path: Path) -> dict[str, Any]:
    """Return what becomes of one file."""
    global watched
    answer: dict[str, Any] = {"outcome": "read", "faults": []}
    image = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = path
        try:
            image, report = read_image(path, return_report=True)
        except ImageError as error:
            answer |= {"outcome": "ImageError", "code": error.code, "text": f"[{error.stage}] {error}"}
        except BaseException as error:  # whatever it is, it is a finding
            answer |= {"outcome": "escaped", "text": f"{type(error).__name__}: {error}"}
        watched = None
    if image is not None:
        answer |= {"sha256": digest(image), "notices": [notice.code for notice in report.notices]}
        answer["faults"] += check(image)
        answer["text"] = str(report)[:4000]
    said = [str(warning.message) for warning in caught]
    answer["faults"] += [f"warning: {each.category.__name__}" for each in caught if each.category is not ImageWarning]
    if any(CANARY in text for text in (answer["text"], *said)):
        answer["faults"].append("it repeats what may identify a patient")
    return answer


def inspect(path: Path, start_memory: float) -> dict[str, Any]:
    """Return what becomes of one file, and what it took."""
    inspector.trim()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    strays.clear()
    start = time.process_time()
    answer = view(path)
    answer["seconds"] = time.process_time() - start
    answer["grown"] = inspector.memory("VmHWM") - start_memory
    return answer | {"strays": list(strays)}


def main() -> None:
    """Answer requests until there are no more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for data in (
        *(each.data for each in encodings().values()),
        *map(_honest, image_mutants.NAMES),
        b"",
        b"\xff\xd8\xff",
    ):
        with warnings.catch_warnings(), contextlib.suppress(ImageError):
            warnings.simplefilter("ignore")
            read_image(data)
    gc.freeze()  # what is imported by now need not be looked through before every file
    sys.addaudithook(watch)
    start_memory = inspector.memory("VmRSS")
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(inspect(Path(json.loads(line)["path"]), start_memory)), flush=True)


def _honest(name: str) -> bytes:
    return image_mutants.make_seed(name).data


if __name__ == "__main__":
    main()
