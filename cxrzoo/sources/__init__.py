"""Where the bytes of a model come from: the local cache, the Hub, plain HTTPS, an installed distribution."""

from cxrzoo.sources.cache import Cache
from cxrzoo.sources.distributions import find_in_distribution
from cxrzoo.sources.files import sha256_of, staged_folder, write_atomically
from cxrzoo.sources.http import download
from cxrzoo.sources.hub import evict, fetch_from_hub
from cxrzoo.sources.network import Limits, is_offline, mirrored
from cxrzoo.sources.verified import Verification

__all__ = [
    "Cache",
    "Limits",
    "Verification",
    "download",
    "evict",
    "fetch_from_hub",
    "find_in_distribution",
    "is_offline",
    "mirrored",
    "sha256_of",
    "staged_folder",
    "write_atomically",
]
