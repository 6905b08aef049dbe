"""The head of a card, in YAML: what the Hub reads of a model, in its own words."""

import re

from cxrzoo.evidence import FolderRecord
from cxrzoo.manifest import Manifest
from cxrzoo.registry import describe, list_models

#: Of huggingface.co/docs/hub/repositories-licenses those that weights carry; the Hub refuses any other word.
_LICENCES = {
    "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0",
    "gpl-3.0", "lgpl-3.0", "mit", "mpl-2.0", "odc-by", "unlicense",
}  # fmt: skip
#: A repository of the Hub.
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_DATASETS = "https://huggingface.co/datasets/"


def render_licence(licence: str | None) -> str:
    """Return the lines on the licence of the weights."""
    if licence is None:
        return "license: other\nlicense_name: not-stated-by-the-authors"
    if licence.lower() in _LICENCES:
        return f"license: {licence.lower()}"
    return f"license: other\nlicense_name: {re.sub(r'[^a-z0-9.]+', '-', licence.lower()).strip('-')}"


def render_tags(record: FolderRecord) -> str:
    """Return the words for the Hub's search, a line each."""
    tags = ["timm", "transformers", "image-feature-extraction", record.method, *record.tags]
    return "\n".join(f"- {tag}" for tag in dict.fromkeys(filter(None, tags)))


def render_origins(manifest: Manifest) -> str:
    """Return the lines on data sets and on the weights at the start, where the Hub knows them; else nothing.

    Each begins with a new line.
    """
    addresses = [source.url for source in manifest.training_source]
    datasets = [address.removeprefix(_DATASETS).strip("/") for address in addresses if address.startswith(_DATASETS)]
    datasets = [name for name in dict.fromkeys(datasets) if _REPO_ID.fullmatch(name)]
    lines = ["datasets:", *(f"- {name}" for name in datasets)] if datasets else []
    start = manifest.training.init if manifest.training else ""
    if start in list_models():
        hub = describe(start).hub
        start = hub.repo_id if hub else ""
    if _REPO_ID.fullmatch(start):
        lines.append(f"base_model: {start}")
    return "".join(f"\n{line}" for line in lines)
