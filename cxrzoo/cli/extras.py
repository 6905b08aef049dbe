"""What a command says where the packages of an extra are missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from cxrzoo.errors import CxrZooError


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Run imports of `what`, such as "Training", which the extra brings along.

    Raises:
        CxrZooError: A package is missing. What is missing in cxrzoo itself stays an ImportError.
    """
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.startswith("cxrzoo"):
            raise
        raise CxrZooError(
            f"{what} takes the package {error.name}, which is missing. Run `pip install 'cxrzoo[{extra}]'`."
        ) from error
