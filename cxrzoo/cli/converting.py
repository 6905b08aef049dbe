"""`convert`, `verify`, `card`: a checkpoint into a model folder, and what such a folder proves and says."""

import argparse
from pathlib import Path

from cxrzoo.errors import CxrZooError
from cxrzoo.manifest import Preprocessing


def run_convert(arguments: argparse.Namespace) -> None:
    """Make a model folder of a checkpoint, with the proof beside the weights."""
    from cxrzoo.publisher import convert

    conversion = convert(
        arguments.checkpoint,
        arguments.out,
        recipe=arguments.recipe,
        architecture=arguments.architecture,
        model=arguments.model,
        preprocessing=_preprocessing(arguments),
        dtype=arguments.dtype,
    )
    record = conversion.record
    dropped = "".join(f", {count} dropped ({reason})" for reason, count in record.coverage.dropped.items())
    print(f"recipe        {record.coverage.recipe}: {record.coverage.kept} keys kept{dropped}, none unaccounted for")
    if record.coverage.path:
        print(f"read from     {record.coverage.path}")
    for operation, count in record.coverage.computed.items():
        print(f"computed      {count} tensors by `{operation}`")
    print(f"architecture  {conversion.architecture}, loaded strictly")
    if record.untold:
        print(f"              no shape tells {record.untold}")
    if record.parity is None:
        print("parity        not measured: the recipe names no reference network for this architecture")
    else:
        print(f"parity        {record.parity.max_difference:g} from {record.parity.reference}, pooled features")
    if record.narrowing is not None:
        print(f"precision     {record.narrowing}")
    print(f"fingerprint   {record.fingerprint.digest}")
    said = {"manifest": f"as hub/{record.model}.toml says", "stated": "as stated"}
    print(f"preprocessing {record.default_variant!r}, {said[record.preprocessing_origin]}")
    print(f"checkpoint    sha256 {record.source_sha256}, {record.source_size} bytes")
    print(f"weights       sha256 {record.weights.sha256}, {record.weights.size} bytes")
    print(f'\n{conversion.folder} is ready: cxrzoo.load("{_as_path(conversion.folder)}")')


def _preprocessing(arguments: argparse.Namespace) -> str | Preprocessing | None:
    """Return what the options state; size, mean and std belong together."""
    given = {name: getattr(arguments, name) for name in ("size", "mean", "std")}
    stated = [name for name, value in given.items() if value is not None]
    if arguments.preprocess_from is not None and stated:
        raise CxrZooError(f"found --preprocess-from and --{stated[0]}, expected one or the other.")
    if not stated:
        return arguments.preprocess_from  # type: ignore[no-any-return]
    if len(stated) < 3:
        missing = ", ".join(f"--{name}" for name in given if name not in stated)
        raise CxrZooError(f"--{stated[0]} is given without {missing}. Size, mean and std belong together: state all.")
    channels = max(len(arguments.mean), len(arguments.std))
    return Preprocessing(
        input_size=(channels, arguments.size, arguments.size),
        mean=arguments.mean * (channels if len(arguments.mean) == 1 else 1),
        std=arguments.std * (channels if len(arguments.std) == 1 else 1),
        interpolation=arguments.interpolation,
        crop_pct=arguments.crop_pct,
        crop_mode=arguments.crop_mode,
        source="stated at the conversion",
    )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected numbers joined by commas without spaces, such as 0.485,0.456,0.406"
        ) from None


def _as_path(folder: Path) -> str:
    return str(folder) if len(folder.parts) > 1 else f"./{folder}"


def run_verify(arguments: argparse.Namespace) -> None:
    """Check every byte of a model folder, and prove again, offline, what was proven when it was converted."""
    from cxrzoo.verification import verify_folder

    for line in verify_folder(arguments.folder, arguments.checkpoint, arguments.recipe):
        print(line, flush=True)


def run_card(arguments: argparse.Namespace) -> None:
    """Print the card of a model folder."""
    from cxrzoo.cards import render_card

    print(render_card(arguments.folder), end="")


def add_convert_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `cxrzoo convert`."""
    command.add_argument("checkpoint", type=Path)
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; it must not exist yet"
    )
    command.add_argument(
        "--recipe", help="name in conversion/, or path of a TOML of your own; found from the keys if left out"
    )
    command.add_argument("--architecture", help="timm's name; found from names and shapes if left out")
    command.add_argument("--model", help="the model of the zoo that this checkpoint is, which says all that follows")
    command.add_argument(
        "--dtype",
        choices=("float16", "bfloat16"),
        help="store the weights in half the room, all but biases and the statistics of norms; loading gives float32",
    )
    how = command.add_argument_group("preprocessing", "how images were prepared when the weights were trained")
    how.add_argument("--preprocess-from", metavar="NAME[:VARIANT]", help="a model of the zoo that was trained alike")
    how.add_argument("--size", type=int, metavar="PIXELS", help="height and width of the input")
    how.add_argument(
        "--mean", type=_numbers, metavar="M[,M,M]", help="for pixels in [0, 1]; one for all channels, or one for each"
    )
    how.add_argument("--std", type=_numbers, metavar="S[,S,S]")
    how.add_argument("--interpolation", choices=("bilinear", "bicubic"), default="bilinear")
    how.add_argument(
        "--crop-pct", type=float, default=1.0, metavar="SHARE", help="of the resized image that the crop keeps"
    )
    how.add_argument(
        "--crop-mode",
        choices=("center", "squash", "pad"),
        default="center",
        help="resize the shorter side, or both, or the longer one and pad with black",
    )


def add_verify_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `cxrzoo verify`."""
    command.add_argument("folder", type=Path)
    command.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="what it was converted from, to convert it once more"
    )
    command.add_argument("--recipe", metavar="FILE.toml", help="the recipe, where it was one of your own")


def add_card_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `cxrzoo card`."""
    command.add_argument("folder", type=Path)
