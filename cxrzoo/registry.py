"""All manifests by name: list them, look one up, suggest the closest names."""

import fnmatch
import functools

from cxrzoo._paths import MANIFESTS
from cxrzoo.errors import UnknownModelError
from cxrzoo.manifest import Manifest, read_manifest
from cxrzoo.records import suggest


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the models that match a glob pattern such as "moco*", sorted.

    Example:
        >>> "moco-cxr-densenet121" in list_models("moco*")
        True
    """
    return sorted(fnmatch.filter((path.stem for path in MANIFESTS.glob("*.toml")), pattern))


@functools.cache
def describe(name: str) -> Manifest:
    """Return the manifest of a model: method, data, licence, preprocessing, published results, provenance.

    Raises:
        UnknownModelError: No manifest has this name.
        RecordError: The manifest is malformed.

    Example:
        >>> describe("moco-cxr-densenet121").architecture
        'densenet121'
    """
    names = list_models()
    if name not in names:
        raise UnknownModelError(
            f"no model is named {name!r}. {suggest(name, names)}`cxrzoo list` shows all {len(names)}. To load "
            "a folder give its path, such as './my-folder'; `cxrzoo card FOLDER` shows what is in it."
        )
    return read_manifest(MANIFESTS / f"{name}.toml")
