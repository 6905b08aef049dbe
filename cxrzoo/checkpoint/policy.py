"""Which classes outside the vocabulary a checkpoint may name, and as what.

Scripts save more than weights: whole modules, configurations, callbacks. Nothing of that is needed, but
tensors lie among it. So what names foreign code is read as inert data where that is all it asks for, and
refused where it asks for more. Nothing is imported and nothing is called, whatever a name says.

1. An object made without arguments, in one of the ways in which pickle writes ordinary objects, is kept as
   the name of its class and what the file gives it as attributes. Its class may be of any package but the
   standard library, numpy and cxrzoo, and of torch only of `torch.nn` and `torch.optim`. Those packages hold
   what exploits are made of, and what a real checkpoint needs of them is in the vocabulary.
2. A bare name, of which no object is made, is kept as text if it is of a well-known training library: networks
   keep classes and activation functions as attributes, and callbacks are saved by their class.
3. Everything else is refused by name: a call with arguments, another bare name, another way of making an object.
"""

import sys

#: What Python 2, other systems, and other versions of Python 3 have in their standard library.
# fmt: off
_OTHER_STANDARD = {
    "__builtin__", "__builtins__", "builtins", "copy_reg", "cPickle", "cStringIO", "StringIO", "commands", "popen2",
    "os2", "nt", "posix", "imp", "distutils", "lib2to3", "asyncore", "asynchat", "smtpd", "aifc", "audioop", "cgi",
    "cgitb", "chunk", "crypt", "imghdr", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "sndhdr",
    "spwd", "sunau", "telnetlib", "uu", "xdrlib", "urllib2", "urlparse", "httplib", "Queue", "SocketServer",
    "HTMLParser",
}
# fmt: on

_NEVER = {*sys.stdlib_module_names, *_OTHER_STANDARD, "numpy", "cxrzoo"}
_OF_TORCH = ("torch.nn", "torch.optim")

#: Packages whose classes and functions may stand in a checkpoint as text.
_LIBRARIES = (
    *_OF_TORCH,
    *("torchvision", "timm", "transformers", "torchxrayvision"),
    *("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf", "yacs"),
)
_MAX_NAME = 200


def may_have_objects(module: str, name: str) -> bool:
    """Return whether an object of this class may stand in a checkpoint, as its name and its attributes."""
    root = module.split(".")[0]
    if root in _NEVER or (root == "torch" and not _is_inside(module, _OF_TORCH)):
        return False
    return _is_plain(f"{module}.{name}")


def may_stand_bare(module: str, name: str) -> bool:
    """Return whether this name may stand in a checkpoint as text."""
    return _is_inside(module, _LIBRARIES) and "." not in name and _is_plain(f"{module}.{name}")


def _is_inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _is_plain(full: str) -> bool:
    """Return whether a dotted name is one that can be printed, and that Python could have."""
    return len(full) <= _MAX_NAME and full.isascii() and all(part.isidentifier() for part in full.split("."))
