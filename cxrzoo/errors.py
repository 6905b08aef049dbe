"""Every error cxrzoo raises on purpose, in one tree.

    CxrZooError
    ├── UnknownModelError       no manifest has this name               (also a KeyError)
    ├── RecordError             a TOML or JSON record of ours is malformed  (also a ValueError)
    ├── CheckpointError         a checkpoint can't be read              (also a ValueError)
    │   └── UnsafeCheckpointError   it names code, or lies about its own layout
    ├── ConversionError         a checkpoint can't become a backbone    (also a ValueError)
    │   ├── UnmatchedKeyError       a key that no rule places
    │   ├── KeyCollisionError       two keys with one new name
    │   ├── ArchitectureError       tensors that are not this architecture's
    │   └── UntrainedError          weights that hold NaN or were never trained
    ├── FolderError             a model folder lacks something or contradicts itself  (also a ValueError)
    ├── DigestError             bytes that are not the promised ones
    ├── SourceError             no place could give the weights         (also an OSError)
    │   ├── IncompleteError         the zoo lists the model, but not all that loading it takes is known
    │   ├── OfflineError            the network would be needed, and is switched off
    │   └── DownloadError           the network gave no usable answer
    ├── DiskError               a file could not be written             (also an OSError)
    ├── TableError              a table of labels, or a split of it, can't be used  (also a ValueError)
    ├── EvaluationError         what was asked can't be estimated from these images  (also a ValueError)
    └── ImageError              an image can't be read or used          (also a ValueError)

A message says what was found, what was expected, and what to do next. Messages about images never
repeat file names or the values of DICOM attributes that may identify a patient.
"""

from typing import Literal


class CxrZooError(Exception):
    """Root of all errors that cxrzoo raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the repr of its argument, quotes and all.
        return str(self.args[0]) if self.args else ""


class UnknownModelError(CxrZooError, KeyError):
    """No manifest has the name that was asked for."""


class RecordError(CxrZooError, ValueError):
    """A manifest, recipe or stored record is malformed."""


class CheckpointError(CxrZooError, ValueError):
    """A checkpoint is damaged, truncated, or not a checkpoint at all."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint asks for code to be run, or lies about its own layout or size."""


class ConversionError(CxrZooError, ValueError):
    """A checkpoint was read but can't become a backbone."""


class UnmatchedKeyError(ConversionError):
    """Some keys of the checkpoint match no rule of the recipe."""


class KeyCollisionError(ConversionError):
    """Two keys of the checkpoint would get the same name in the backbone."""


class ArchitectureError(ConversionError):
    """The tensors are not those of the architecture: missing, extra, or of another shape."""


class UntrainedError(ConversionError):
    """The weights hold NaN or infinity, or show that no training step was ever taken."""


class FolderError(CxrZooError, ValueError):
    """A model folder lacks a file or a record, or its files contradict each other."""


class DigestError(CxrZooError):
    """The sha256 or the size of some bytes is not the promised one."""


class SourceError(CxrZooError, OSError):
    """None of the places a model may come from could give it."""


class IncompleteError(SourceError):
    """The zoo lists the model, but its authors left open something that loading it by name takes."""


class OfflineError(SourceError):
    """The network would be needed, and it is switched off."""


class DownloadError(SourceError):
    """The network gave no usable answer."""


class DiskError(CxrZooError, OSError):
    """A file or folder could not be written."""


class TableError(CxrZooError, ValueError):
    """A table of labels, or a split of it, can't be read or contradicts itself."""


class EvaluationError(CxrZooError, ValueError):
    """What was asked can't be estimated from these images, such as an AUROC without positives."""


class PretrainingError(CxrZooError, ValueError):
    """A training can't be done as asked, can't go on, or went wrong."""


#: Where reading an image stopped: getting its bytes, reading its structure, checking what that says, checking the
#: compressed pixels, decoding them, making them grey levels, or bringing them to size; or the process that did it.
Stage = Literal["open", "parse", "header", "codestream", "decode", "display", "geometry", "worker"]

#: Why: the words are stable, for programs and reports.
ImageCode = Literal[
    "missing",  # there is no such file, or it may not be read
    "unknown-kind",  # neither a DICOM file nor a picture
    "too-large",  # more bytes or pixels than any radiograph has
    "too-small",  # no picture at all, or a sliver
    "not-an-image",  # a DICOM file without pixels
    "several-images",  # frames or pages, and none was named
    "unsupported",  # a kind of picture that is not read
    "missing-decoder",  # it would be read with another package installed
    "header",  # an attribute is missing or makes no sense
    "contradiction",  # two parts of a file say different things
    "truncated",  # the end is missing
    "damaged",  # a decoder failed
    "values",  # type or range of an array
    "memory",  # it takes more than a worker may have
    "timeout",  # it takes longer than a worker may take
    "died",  # the worker died of it
]


class ImageError(CxrZooError, ValueError):
    """An image can't be read, or is not one this model can use; `code` says why, `stage` where."""

    def __init__(self, message: str, code: ImageCode = "unsupported", stage: Stage = "open") -> None:
        super().__init__(message)
        self.code, self.stage = code, stage


class ImageWarning(UserWarning):
    """An image was read, but something about it needs a look; `code` says what."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code
