"""Keeps what decoders say to themselves: their texts may repeat the values of any attribute of a file."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cxrzoo.errors import ImageError, Stage

_DECODERS = ("pydicom", "PIL", "imagecodecs")

_lock = threading.Lock()
_depth = 0
_restore = ExitStack()


@contextmanager
def guarded(what: str, stage: Stage = "decode") -> Iterator[None]:
    """Silence the decoders in this block, and turn whatever they raise into an ImageError without their words.

    Args:
        what: The thing that is being read, as the subject of the error's first sentence.
        stage: What is being done with it.
    """
    try:
        with silence():
            yield
    except (ImageError, Warning, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except MemoryError:
        raise ImageError(
            f"{what} takes more memory to decode than there is. Is it one radiograph? Export it again.", "memory", stage
        ) from None
    except BaseException as error:  # noqa: BLE001 - decoders written in Rust raise PanicException, no Exception
        raise ImageError(
            f"{what} can't be decoded ({type(error).__name__}): it is damaged, truncated, or of a kind that no "
            "installed decoder reads. Export it again, or open it in a viewer to see whether it is whole.",
            "damaged",
            stage,
        ) from None


@contextmanager
def silence() -> Iterator[None]:
    """Mute the warnings and log records of the decoders, and of nothing else.

    Both settings belong to the whole process. The first thread in sets them and the last one out restores them;
    with one `catch_warnings` a thread, blocks that overlap would leave the filters changed for good. Setting a level
    empties the caches of all loggers: whoever opens several such blocks in a row puts one around them.
    """
    global _depth
    with _lock:
        _depth += 1
        if _depth == 1:
            _restore.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=rf"({'|'.join(_DECODERS)})(\.|$)")
            for name in _DECODERS:
                logger = logging.getLogger(name)
                _restore.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _restore.close()
