"""Family "calls": a global that must not be called, in every style, at every place, in every container."""

import gzip
import io
import pickle
import tarfile
from itertools import product

from hostile.assembler import GADGETS, dict_of, legacy, name, program, storage, styles, tensor, text, tuple_of
from hostile.bombs import FOUR, GOOD
from hostile.verdicts import READ, REFUSED, Verdict, naming
from hostile.zips import Member, checkpoint, checkpoint_members, zip_of

#: More names that real exploits and bypasses of scanners use; here, too, they only ever get inert arguments.
MORE_GADGETS = [
    ("os", "spawnv"),
    ("os", "remove"),
    ("subprocess", "run"),
    ("subprocess", "getoutput"),
    ("commands", "getoutput"),
    ("bdb", "Bdb.run"),
    ("cProfile", "run"),
    ("trace", "Trace.run"),
    ("idlelib.pyshell", "ModifiedInterpreter.runcode"),
    ("lib2to3.pgen2.pgen", "ParserGenerator.make_label"),
    ("ensurepip", "_run_pip"),
    ("pip", "main"),
    ("doctest", "debug_script"),
    ("logging.config", "listen"),
    ("asyncio.unix_events", "_UnixSubprocessTransport._start"),
    ("requests.api", "get"),
    ("http.client", "HTTPSConnection"),
    ("smtplib", "SMTP"),
    ("sqlite3", "connect"),
    ("zipimport", "zipimporter"),
    ("pkgutil", "resolve_name"),
    ("multiprocessing.util", "spawnv_passfds"),
    ("torch.serialization", "load"),
    ("torch.utils.cpp_extension", "load_inline"),
    ("torch._inductor.codecache", "compile_file"),
    ("torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression"),
    ("torch.utils._config_module", "ConfigModule.load_config"),
    ("torch.distributed.rpc", "rpc_sync"),
    ("numpy", "fromfile"),
    ("numpy.f2py.crackfortran", "getlincoef"),
    ("pandas", "read_pickle"),
    ("joblib", "load"),
    ("dill", "loads"),
    ("inspect", "currentframe"),
    ("gc", "get_objects"),
]
_GADGETS = {f"{module}.{attribute}": (module, attribute) for module, attribute in GADGETS + MORE_GADGETS}

#: Packages that are neither of the standard library nor of the vocabulary: objects of theirs, made without
#: arguments in one of these styles, are inert data, and what is refused is that there is nothing else.
_STRANGERS = {"cxrzoo_canary", "pip", "requests", "pandas", "joblib", "dill"}
_OBJECTS = {"newobj", "newobj_ex", "build", "reconstructed"}
_EXTENSIONS = {"ext1": b"\x82\1", "ext2": b"\x83\1\1", "ext4": b"\x84\1\1\1\1"}
_PLACES = ("first", "value", "key", "after_stop", "second", "nested")
_WRAPPED = ("raw", "tar", "gzip", "zip_in_zip", "zip_as_pickle")


def list_ids() -> list[str]:
    """Return the id of every case: the global, the style, the place, the container."""
    named = ["/".join(parts) for parts in product(_GADGETS, _all_styles("m", "a"), _PLACES, ("zip", "legacy"))]
    wrapped = ["/".join(parts) for parts in product(_GADGETS, _all_styles("m", "a"), ("first",), _WRAPPED)]
    coded = ["/".join(parts) for parts in product(("?",), _EXTENSIONS, _PLACES, ("zip", "legacy"))]
    return named + wrapped + coded


def make(case: str, seed: int) -> tuple[bytes, Verdict]:
    """Return a file and the verdict on it; the protocol is `seed` modulo six."""
    gadget, style, place, container = case.split("/")
    module, attribute = _GADGETS.get(gadget, ("", ""))
    body = _EXTENSIONS[style] + b")R" if gadget == "?" else _all_styles(module, attribute)[style]
    data, interpreted = _place(body, place, container, seed % 6)
    if interpreted is not None:
        return data, interpreted
    if gadget == "?":
        return data, REFUSED
    inert = module.split(".")[0] in _STRANGERS and style in _OBJECTS
    if inert and (container == "raw" or place == "second"):
        return data, REFUSED  # for what it stands in place of, not for what it is
    return data, naming(module, attribute, unsafe=not inert)


def _all_styles(module: str, attribute: str) -> dict[str, bytes]:
    named, argument = name(module, attribute), text("x")
    return styles(module, attribute) | {
        "newobj_argument": named + tuple_of(argument) + b"\x81",
        "keywords": named + b")" + dict_of(a=argument) + b"\x92",
        "inst_empty": f"(i{module}\n{attribute}\n".encode(),
        "obj_empty": b"(" + named + b"o",
        "built": named + tuple_of(argument) + b"R" + dict_of(a=argument) + b"b",
        "twice": named + b"2)R\x86",
    }


def _place(body: bytes, place: str, container: str, protocol: int) -> tuple[bytes, Verdict | None]:
    """Return a file with `body` in its place, and the verdict where that does not depend on `body`."""
    good = tensor(storage(legacy=container == "legacy"))
    honest = program(dict_of(state_dict=dict_of(weight=good)), protocol)
    inside = {
        "first": body,
        "value": dict_of(state_dict=dict_of(weight=body)),
        "key": b"}" + body + b"Ns",
        "nested": dict_of(note=text(program(body).decode("latin-1")), state_dict=dict_of(weight=good)),
    }
    if place == "nested":
        main = program(inside[place], protocol)
        return (checkpoint(main, {"0": FOUR}) if container == "zip" else legacy(main, {"0": FOUR})), READ
    if place == "after_stop":
        tail = program(body, protocol)
        if container == "zip":
            return checkpoint(GOOD + tail, {"0": FOUR}), REFUSED
        return legacy(honest, {"0": FOUR}) + tail, REFUSED
    if place == "second":
        second = program(body, protocol)
        if container == "zip":  # a member that nobody reads
            return zip_of([*checkpoint_members(GOOD, {"0": FOUR}), Member("archive/more.pkl", second)]), READ
        return _with_keys(honest, second), None
    main = program(inside[place], protocol)
    if container in _WRAPPED:
        return _wrap(main, container), None if container == "raw" and protocol >= 2 else REFUSED
    return checkpoint(main) if container == "zip" else legacy(main), None


def _with_keys(main: bytes, keys: bytes) -> bytes:
    """Return a legacy checkpoint with another pickle in place of its list of storages."""
    good = legacy(main, {"0": FOUR})
    honest = pickle.dumps(["0"], 2)
    return keys.join(good.rsplit(honest, 1))


def _wrap(main: bytes, container: str) -> bytes:
    match container:
        case "tar":
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                for member in ("sys_info", "pickle", "tensors", "storages"):
                    entry = tarfile.TarInfo(member)
                    entry.size = len(main)
                    archive.addfile(entry, io.BytesIO(main))
            return buffer.getvalue()
        case "gzip":
            return gzip.compress(main, mtime=0)
        case "zip_in_zip":
            return zip_of([Member("archive/inner.pth", checkpoint(main))])
        case "zip_as_pickle":
            return checkpoint(checkpoint(main))
    return main
