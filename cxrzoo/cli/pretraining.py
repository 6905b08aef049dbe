"""`cxrzoo pretrain`: its options, and what it prints. Heavy imports stand inside: `--help` must not wait for torch."""

import argparse
import os
import sys
from pathlib import Path

from cxrzoo.cli.extras import needing
from cxrzoo.errors import CxrZooError

_METHODS = {"moco": "momentum contrast", "cluster": "online clustering", "gmml": "group-masked modelling"}


def run_pretrain(arguments: argparse.Namespace) -> None:
    """Train a backbone without labels: MoCo, online clustering or group-masked modelling."""
    with needing("pretrain", "Training"):
        from cxrzoo.pretraining.asking import Request
        from cxrzoo.pretraining.plans import load_plan
        from cxrzoo.pretraining.running import pretrain
    changes = dict(arguments.set)
    if arguments.init:
        # the network is then that model's, whatever the plan would draw
        changes = {"architecture": "", "arguments": {}} | changes | {"init": arguments.init}
    for name in ("epochs", "batch_size"):
        if getattr(arguments, name) is not None:
            changes[f"optimisation.{name}"] = getattr(arguments, name)
    plan = load_plan(arguments.plan or f"{arguments.method}-cxr", changes)
    if plan.method != arguments.method:
        raise CxrZooError(
            f"the plan {plan.name!r} is for `cxrzoo pretrain {plan.method}`, not for {arguments.method}. Name another "
            "plan, or that method."
        )
    try:
        trained = pretrain(
            Request(
                plan,
                arguments.data,
                arguments.out,
                root=arguments.root,
                path_column=arguments.path_column,
                modality=arguments.modality,
                findings=tuple(arguments.label),
                probe=arguments.probe,
                probe_findings=tuple(arguments.probe_label),
                probe_every=arguments.probe_every,
                seed=arguments.seed,
                device=arguments.device,
                devices=arguments.devices,
                workers=arguments.workers,
                progress=sys.stderr.isatty() or arguments.verbose,
                stop_after=arguments.stop_after,
            )
        )
    except KeyboardInterrupt:
        print("\ncxrzoo: interrupted. The same command goes on from the last state.", file=sys.stderr)
        raise
    if trained is None:
        if arguments.stop_after and "LOCAL_RANK" not in os.environ:
            print(f"{arguments.out}: stopped after epoch {arguments.stop_after}. Without --stop-after it goes on.")
        return
    facts = trained.facts
    knn = f", neighbours tell {', '.join(arguments.probe_label)} with AUROC {facts['knn']:.3f}" if facts["knn"] else ""
    print(f"{trained.model}: {facts['images']} images, {facts['steps']} steps, {facts['hours']:g} h{knn}")
    print(f"{trained.checkpoint}: the checkpoint as the authors of {arguments.method} lay it out")
    print(f"{arguments.out / 'training.svg'}: the curves\n")
    print(f'cxrzoo.load("{trained.model if len(trained.model.parts) > 1 else Path() / trained.model}")')


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `cxrzoo pretrain`."""
    shown = ", ".join(f"{name} ({text})" for name, text in _METHODS.items())
    command.add_argument("method", choices=_METHODS, metavar="METHOD", help=shown)
    command.add_argument("--data", required=True, type=Path, metavar="TABLE|DIR", help="CSV or Parquet, or a folder")
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help="a run that was stopped there goes on")
    command.add_argument("--plan", metavar="NAME|FILE.toml", help="how to train; METHOD-cxr if left out")
    what = command.add_argument_group("the table")
    what.add_argument("--root", type=Path, metavar="DIR", help="where paths start; the table's own folder if left out")
    what.add_argument("--path-column", default="", metavar="NAME", help="where it has an unusual name")
    what.add_argument("--modality", default="", metavar="COLUMN", help="kinds of images, for prototypes of their own")
    what.add_argument(
        "--label", action="append", default=[], metavar="COLUMN", help="a finding to learn beside; several times"
    )
    how = command.add_argument_group("the training")
    how.add_argument("--init", metavar="MODEL", help="a model of the zoo to start from; the plan's if left out")
    how.add_argument("--epochs", type=int)
    how.add_argument("--batch-size", type=int, metavar="N")
    how.add_argument(
        "--set",
        type=_change,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change the plan, such as views.size=224 or moco.temperature=0.1; several times",
    )
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    how.add_argument("--devices", type=int, default=1, metavar="N", help="processes or GPUs that train together (1)")
    how.add_argument("--stop-after", type=int, metavar="EPOCH", help="stop there; the same command goes on later")
    how.add_argument(
        "--workers", type=int, default=int(os.name == "posix"), metavar="N", help="processes that read the images (1)"
    )
    watch = command.add_argument_group("watching it", "neighbours of labelled images; never those you test on")
    watch.add_argument("--probe", type=Path, metavar="TABLE")
    watch.add_argument("--probe-label", action="append", default=[], metavar="COLUMN")
    watch.add_argument("--probe-every", type=int, default=1, metavar="EPOCHS")


def _change(text: str) -> tuple[str, object]:
    import tomllib

    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected FIELD=VALUE, such as views.size=224")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value
