"""The answer in a sentence or two, with its uncertainty."""

from collections.abc import Sequence

from cxrzoo.evaluation.comparison import Contender, Interval, Rank
from cxrzoo.evaluation.report.words import name_finding, name_mode, show_figure, show_value

#: So many rivals are named.
_NAMED = 3


def recommend(
    ranking: Sequence[Rank],
    contenders: Sequence[Contender],
    findings: Sequence[str],
    images: int,
    modes: int,
    *,
    fractions: Sequence[str] = ("1 %", "100 %"),
    unit: str = "images",
) -> str:
    """Return which model to take, by how much it leads, and where the figures can't tell.

    Args:
        ranking: Best first, the models of one mode after those of another.
        findings: Those that the ranking is over.
        images: How many test images, or studies, there were.
        modes: How many ways of probing were compared; the sentence names the way where there are several.
        fractions: The label fractions that the ranking is over, the smallest first.
        unit: What `images` are.
    """
    floors = {contender.name for contender in contenders if contender.kind == "untrained"}
    order = sorted(ranking, key=lambda rank: -rank.average.value)
    trained = [rank for rank in order if rank.model not in floors]
    floor = next((rank for rank in order if rank.model in floors), None)
    what = name_finding(findings[0]) if len(findings) == 1 else f"{len(findings)} findings"
    *others, last = fractions
    labels = " of the labels" if last.endswith("%") else ""
    measure = f"AUROC for {what}"
    if others:
        measure += f", averaged over {', '.join(others)} and {last}{labels},"

    def name(rank: Rank) -> str:
        return f"{rank.model} ({name_mode(rank.mode)})" if modes > 1 else rank.model

    if not trained:
        return f"Only untrained networks were compared. Their best {measure} is {_shown(order[0])}."
    best, rivals = trained[0], [rank for rank in trained if rank.model != trained[0].model]
    if floor is not None and floor is order[0] and _gap(best, floor).lower > 0:
        return (
            f"Take none of these yet: an untrained network has a higher {measure} of {_shown(floor)}, than "
            f"{name(best)}, {_shown(best)}. Check labels and preprocessing first."
        )
    if floor is not None and (floor is order[0] or _gap(floor, best).lower <= 0):
        lead = "has the highest" if rivals and floor is not order[0] else "reaches an"
        return (
            f"{name(best)} {lead} {measure} of {_shown(best)}, but isn't shown to be better than an "
            f"untrained network, {_shown(floor)}: check labels and preprocessing, or test on more than "
            f"{images:,} {unit}, before you take it."
        )
    near = [rank for rank in rivals if _gap(rank, best).lower <= 0]
    if near:
        listed = [f"{name(rank)} ({_words(_gap(rank, best))} behind)" for rank in near[:_NAMED]]
        more = f" or {len(near) - _NAMED} more" if len(near) > _NAMED else ""
        text = (
            f"{name(best)} has the highest {measure} of {_shown(best)}, but {images:,} test {unit} can't tell it from "
            f"{' or '.join(listed)}{more}: choose by size, speed or licence, or test on more {unit}."
        )
    elif rivals:
        text = (
            f"Take {name(best)}: its {measure} is {_shown(best)}, which is {_words(_gap(rivals[0], best))} above the "
            f"next, {name(rivals[0])}; it was best in {_share(best.best_share)} of the bootstrap replicates."
        )
        gap = rivals[0].behind_last
        if others and gap is not None and rivals[0].mode == best.mode and gap.lower <= 0:
            if gap.upper < 0:
                ahead = Interval(-gap.value, -gap.upper, -gap.lower)
                text += f" But at {last}{labels} {rivals[0].model} is ahead by {_words(ahead)}."
            else:
                text += f" At {last}{labels} the two can't be told apart: {_words(gap)} between them."
    else:
        text = f"{name(best)} reaches an {measure} of {_shown(best)}; no other model was compared with it."
    equal = [r for r in trained if r.model == best.model and r is not best and _gap(r, best).lower <= 0]
    if equal:
        text += f" Its figure with {' or '.join(name_mode(rank.mode) for rank in equal)} can't be told from this one."
    return text if floor is None else f"{text} The floor, an untrained network, is at {_shown(floor)}."


def _gap(rank: Rank, best: Rank) -> Interval:
    """Return by how much a rank is behind a better one, the first of its mode or of all."""
    found = rank.behind if rank.mode == best.mode else rank.behind_first
    assert found is not None
    return found


def _shown(rank: Rank) -> str:
    return _words(rank.average)


def _words(interval: Interval) -> str:
    return f"{show_value(interval)} ({show_figure(interval.lower)} to {show_figure(interval.upper)})"


def _share(share: float) -> str:
    return "more than 99 %" if 0.99 < share < 1 else f"{share * 100:.0f} %"
