"""The only place that opens an untrusted file: an inert reader of checkpoints.

A pickle is a program. This package follows it without ever importing or calling what it names, checks
that the file tells the truth about its own layout, and hands out tensors that are read when asked for.
"""

from cxrzoo.checkpoint.descriptions import describe_root
from cxrzoo.checkpoint.meanings import Opaque
from cxrzoo.checkpoint.reading import Checkpoint, open_checkpoint
from cxrzoo.checkpoint.safetensors_header import Entry, read_safetensors_header
from cxrzoo.checkpoint.state_dicts import Lookup, StateDict, find_state_dict, list_mappings
from cxrzoo.checkpoint.tensors import ITEM_SIZES, Tensor

__all__ = [
    "ITEM_SIZES",
    "Checkpoint",
    "Entry",
    "Lookup",
    "Opaque",
    "StateDict",
    "Tensor",
    "describe_root",
    "find_state_dict",
    "list_mappings",
    "open_checkpoint",
    "read_safetensors_header",
]
