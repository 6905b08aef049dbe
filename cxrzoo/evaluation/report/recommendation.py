"""The answer in a sentence or two, with its uncertainty."""

from collections.abc import Sequence

from cxrzoo.evaluation.comparison import Contender, Interval, Rank
from cxrzoo.evaluation.report.words import name_finding, name_mode, show_figure, show_value


def recommend(
    ranking: Sequence[Rank], contenders: Sequence[Contender], findings: Sequence[str], images: int, modes: int
) -> str:
    """Return which model to take, by how much it leads, and where the figures can't tell.

    Args:
        ranking: Best first, the models of one mode after those of another; the mode with the best model counts.
        images: How many test images, or studies, there were.
        modes: How many ways of probing were compared; the sentence names the way where there are several.
    """
    floors = {contender.name for contender in contenders if contender.kind == "untrained"}
    ranking = [rank for rank in ranking if rank.mode == ranking[0].mode]
    trained = [rank for rank in ranking if rank.model not in floors]
    floor = next((rank for rank in ranking if rank.model in floors), None)
    what = name_finding(findings[0]) if len(findings) == 1 else f"{len(findings)} findings"
    measure = f"AUROC for {what}, averaged over the label fractions,"

    if not trained:
        return f"Only untrained networks were compared. The best {measure} of these is {_shown(ranking[0])}."
    best, others = trained[0], trained[1:]
    name = f"{best.model} ({name_mode(best.mode)})" if modes > 1 else best.model
    if ranking[0] is not best:
        return (
            f"Take none of these yet: an untrained network has a higher {measure} {_shown(ranking[0])}, than "
            f"{name}, {_shown(best)}. Check labels and preprocessing first."
        )
    near = [rank for rank in others if rank.behind is not None and rank.behind.lower <= 0]
    if near:
        listed = " or ".join(f"{rank.model} ({_behind(rank)} behind)" for rank in near)
        text = (
            f"{name} has the highest {measure} {_shown(best)}, but {images:,} test images can't tell it from "
            f"{listed}: choose by size, speed or licence, or test on more images."
        )
    elif others:
        text = (
            f"Take {name}: its {measure} is {_shown(best)}, which is {_behind(others[0])} above the next, "
            f"{others[0].model}; it was best in {_share(best.best_share)} of the bootstrap replicates."
        )
    else:
        text = f"{name} reaches an {measure} of {_shown(best)}; no other model was compared with it."
    if floor is None:
        return text
    if floor.behind is not None and floor.behind.lower <= 0:
        return f"{text} It isn't shown to be better than an untrained network, {_shown(floor)}."
    return f"{text} The floor, an untrained network, is at {_shown(floor)}."


def _shown(rank: Rank) -> str:
    return _words(rank.average)


def _behind(rank: Rank) -> str:
    assert rank.behind is not None
    return _words(rank.behind)


def _words(interval: Interval) -> str:
    return f"{show_value(interval)} ({show_figure(interval.lower)} to {show_figure(interval.upper)})"


def _share(share: float) -> str:
    return "more than 99 %" if 0.99 < share < 1 else f"{share * 100:.0f} %"
