"""The transfer syntaxes of DICOM (PS3.6 Annex A) that hold single images, and which package reads each."""

from dataclasses import dataclass
from typing import Literal

from cxrzoo.imaging.compressed.streams import StreamKind

DecoderName = Literal["cxrzoo", "Pillow", "imagecodecs"]

#: Brings the packages that a plain install leaves out.
COMMAND = "pip install 'cxrzoo[dicom]'"


@dataclass(frozen=True)
class Syntax:
    """How pixels may be encoded; `decoders` come in order of preference, and any one of them will do."""

    uid: str
    name: str
    kind: StreamKind | Literal["native"]
    decoders: tuple[DecoderName, ...]

    @property
    def remedy(self) -> str:
        """The command that adds a decoder; wheels of Pillow have both JPEG and JPEG 2000."""
        return COMMAND if "imagecodecs" in self.decoders else "pip install --force-reinstall --only-binary :all: pillow"


SYNTAXES = {
    row.uid: row
    for row in (
        Syntax("1.2.840.10008.1.2", "Implicit VR Little Endian", "native", ("cxrzoo",)),
        Syntax("1.2.840.10008.1.2.1", "Explicit VR Little Endian", "native", ("cxrzoo",)),
        Syntax("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", "native", ("cxrzoo",)),
        Syntax("1.2.840.10008.1.2.2", "Explicit VR Big Endian", "native", ("cxrzoo",)),
        Syntax("1.2.840.10008.1.2.5", "RLE Lossless", "rle", ("imagecodecs", "cxrzoo")),
        Syntax("1.2.840.10008.1.2.4.50", "JPEG Baseline", "jpeg", ("Pillow",)),
        Syntax("1.2.840.10008.1.2.4.51", "JPEG Extended, 12 bits", "jpeg", ("imagecodecs",)),
        Syntax("1.2.840.10008.1.2.4.57", "JPEG Lossless, Process 14", "jpeg-lossless", ("imagecodecs",)),
        Syntax("1.2.840.10008.1.2.4.70", "JPEG Lossless, Selection Value 1", "jpeg-lossless", ("imagecodecs",)),
        Syntax("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless", "jpeg-ls", ("imagecodecs",)),
        Syntax("1.2.840.10008.1.2.4.81", "JPEG-LS Near-lossless", "jpeg-ls", ("imagecodecs",)),
        Syntax("1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless", "jpeg2000", ("Pillow",)),
        Syntax("1.2.840.10008.1.2.4.91", "JPEG 2000", "jpeg2000", ("Pillow",)),
        Syntax("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Lossless", "jpeg2000", ("Pillow",)),
        Syntax("1.2.840.10008.1.2.4.202", "High-Throughput JPEG 2000 Lossless, RPCL", "jpeg2000", ("Pillow",)),
        Syntax("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000", "jpeg2000", ("Pillow",)),
    )
}
