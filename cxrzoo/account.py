"""What is told of a training by this project: sections of a card, and lines for `describe`."""

from cxrzoo.figures import make_table
from cxrzoo.manifest import Manifest
from cxrzoo.training import RANDOM, Training, TrainingSource

#: The picture of a training, beside the card.
CURVES = "training.svg"


def list_facts(training: Training) -> dict[str, str]:
    """Return what is known of a training, by what it is."""
    numbers = {
        "images": f"{training.images:,}" if training.images else "",
        "epochs": f"{training.epochs:g}" if training.epochs else "",
        "steps": f"{training.steps:,}" if training.steps else "",
        "image size": f"{training.size} px" if training.size else "",
        "seed": "" if training.seed is None else f"{training.seed}",
    }
    facts = {
        "plan": training.plan,
        "started from": "random weights" if training.init == RANDOM else training.init,
        **numbers,
        "time": f"{training.hours:.3g} hours" if training.hours else "",
        "hardware": training.hardware,
        "energy and carbon": _estimate(training),
        "nearest neighbours": training.knn,
        "code": _join(
            f"cxrzoo {training.version}" if training.version else "",
            f"commit {training.commit}" if training.commit else "",
            training.date,
        ),
    }
    return {name: text for name, text in facts.items() if text}


def _estimate(training: Training) -> str:
    carbon = f"{training.co2_grams:,.3g} g of CO2 equivalent" if training.co2_grams else ""
    energy = f"{training.kwh:,.3g} kWh" if training.kwh else ""
    return f"{_join(energy, carbon)}; an estimate: {training.assumes}" if energy or carbon else ""


def _join(*texts: str) -> str:
    return ", ".join(filter(None, texts))


def describe_source(source: TrainingSource) -> str:
    """Return in one line which images these are, their licence, and whom to name for them."""
    return _join(f"{source.name}: {source.images:,} images", source.licence, source.attribution, source.url)


def render_account(manifest: Manifest, *, curves: bool) -> str:
    """Return the sections of a card on training, data and limits; empty if the manifest has nothing of these.

    Args:
        curves: Whether the picture of the training lies beside the card.
    """
    parts = []
    facts = list_facts(manifest.training) if manifest.training else {}
    if facts or manifest.reproduces or manifest.source.command:
        parts.append("## How it was trained")
        parts += [manifest.reproduces] if manifest.reproduces else []
        parts += ["\n".join(f"- {name.capitalize()}: {text}" for name, text in facts.items())] if facts else []
        parts += [f"```sh\n{manifest.source.command}\n```"] if manifest.source.command else []
        parts += [f"![What was recorded in training, over its steps]({CURVES})"] if curves else []
    if manifest.training_source:
        parts += [
            "## The images it was trained on",
            make_table(
                ["data", "images", "licence", "attribution"],
                [
                    [
                        f"[{source.name}]({source.url})" if source.url else source.name,
                        f"{source.images:,}",
                        source.licence,
                        source.attribution,
                    ]
                    for source in manifest.training_source
                ],
            ),
        ]
    if manifest.limits:
        parts += ["## Limits", "\n".join(f"- {limit}" for limit in manifest.limits)]
    return "\n" + "\n\n".join(parts) + "\n" if parts else ""
