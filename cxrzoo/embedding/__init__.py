"""Images -> embeddings with a frozen backbone; what is written carries what identifies it."""

from cxrzoo.embedding.contents import EmbeddingStore
from cxrzoo.embedding.images import digest_embedding, embed_images, write_embeddings
from cxrzoo.embedding.store import Stored, embed_table, open_store

__all__ = [
    "EmbeddingStore",
    "Stored",
    "digest_embedding",
    "embed_images",
    "embed_table",
    "open_store",
    "write_embeddings",
]
