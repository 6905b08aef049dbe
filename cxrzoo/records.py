"""Turn parsed TOML or JSON into frozen dataclasses, and say precisely what is wrong where they don't fit."""

import dataclasses
import difflib
import hashlib
import json
import re
import tomllib
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cxrzoo.errors import RecordError

T = TypeVar("T")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def decode(kind: type[T], value: object, where: str) -> T:
    """Return `value` as an instance of the dataclass `kind`; every field is checked, none is ignored.

    Args:
        where: Name of the file, and of the table in it, for error texts.

    Raises:
        RecordError: A field is unknown, missing or of the wrong type.
    """
    if not isinstance(value, Mapping):
        raise RecordError(f"{where}: found {_shown(value)}, expected a table of fields.")
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    names = [field.name for field in fields]
    for key in value:
        if key not in names:
            close = difflib.get_close_matches(str(key), names, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known fields: {', '.join(names)}."
            raise RecordError(f"{where}: unknown field {key!r}. {hint}")
    values = {}
    for field in fields:
        if field.name in value:
            values[field.name] = _decode_value(hints[field.name], value[field.name], f"{where}: {field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise RecordError(f"{where}: the field {field.name!r} is missing. Add it.")
    return kind(**values)


def suggest(name: str, names: Collection[str]) -> str:
    """Return "Did you mean 'a' or 'b'? " with the names that are closest to a misspelt one; nothing if none is."""
    close = difflib.get_close_matches(name, names, 3)
    return f"Did you mean {' or '.join(map(repr, close))}? " if close else ""


def check_choices(record: object) -> None:
    """Check the fields of a dataclass that are one of some words, where it was not decoded but made in Python.

    Raises:
        RecordError: A field holds another word.
    """
    for name, hint in typing.get_type_hints(type(record)).items():
        if typing.get_origin(hint) is typing.Literal:
            _decode_value(hint, getattr(record, name), name)


def check_sha256(value: str | None) -> None:
    """Check that a digest is one, where there is one.

    Raises:
        RecordError: It is another text.
    """
    if value is not None and not _SHA256.fullmatch(value):
        raise RecordError(f"sha256: found {value!r}, expected 64 lower-case hexadecimal digits.")


def _decode_value(hint: Any, value: object, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type, hint), value, where)
    if origin in (types.UnionType, typing.Union):
        # JSON writes None where TOML leaves a field out
        if value is None and type(None) in arguments:
            return None
        return _decode_value(next(a for a in arguments if a is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise RecordError(f"{where}: found {_shown(value)}, expected one of {', '.join(map(repr, arguments))}.")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RecordError(f"{where}: found {_shown(value)}, expected a list.")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise RecordError(f"{where}: found {len(value)} values, expected {len(kinds)}.")
        return tuple(_decode_value(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise RecordError(f"{where}: found {_shown(value)}, expected a table.")
        return {str(k): _decode_value(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if hint is not Any and type(value) is not hint:
        raise RecordError(f"{where}: found {_shown(value)}, expected a {hint.__name__}.")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def read_toml(kind: type[T], path: Path, where: str) -> T:
    """Return the dataclass `kind` that a TOML file holds; its field `name` must be the file's stem.

    Raises:
        RecordError: The file is no TOML, or a field is unknown, missing or of the wrong type.
    """
    try:
        record = decode(kind, tomllib.loads(path.read_text(encoding="utf-8")), where)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{where} is not valid TOML: {error}.") from error
    except RecordError as error:
        # what a dataclass finds wrong with its own values does not know the file
        raise error if str(error).startswith(where) else RecordError(f"{where}: {error}") from error
    name = getattr(record, "name", None)
    if name != path.stem:
        raise RecordError(f"{where}: the name is {name!r}, expected the file's own, {path.stem!r}.")
    return record


def canonical_json(value: object) -> str:
    """Return `value` as JSON with sorted keys and no optional space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """Return the sha256 of `value` in canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
