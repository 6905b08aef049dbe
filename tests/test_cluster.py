"""Online clustering: prototypes, swapped prediction, queue, labels, LARC, and checkpoints that convert."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run_processes
from torch import nn
from torch.nn import functional

from cxrzoo.errors import PretrainingError, RecordError
from cxrzoo.pretraining import ranks
from cxrzoo.pretraining.batches import Batch, Progress
from cxrzoo.pretraining.cluster import Cluster, ClusterSettings, Larc
from cxrzoo.pretraining.cluster.hybrid import compute_label_loss, weigh_labels
from cxrzoo.pretraining.cluster.prototypes import Prototypes
from cxrzoo.pretraining.cluster.queueing import Queue
from cxrzoo.pretraining.cluster.sinkhorn import assign_codes, measure_usage
from cxrzoo.pretraining.cluster.swapping import compute_swapped_loss
from cxrzoo.pretraining.views import Views

BATCH, SIDE, NAN = 8, 24, float("nan")
GLOBAL, LOCAL = Views(size=16, scale=(0.3, 1.0), flip=0.5), Views(size=8, scale=(0.05, 0.3))
SMALL = ClusterSettings(
    prototypes=6, dim=5, hidden=7, local_crops=2, local=LOCAL, queue=0, queue_from=0, freeze=0, undersized=True
)


class Tiny(nn.Module):
    """A network of one convolution, which remembers what it was shown."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, 2)
        self.shown: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean of each map."""
        self.shown.append(tuple(images.shape))
        return self.conv1(images).relu().mean(dim=(2, 3))


def make_cluster(seed: int = 0, views: Views = GLOBAL, *, findings: int = 3, **changes: Any) -> Cluster:
    """Return a small method, for radiographs of two modalities."""
    torch.manual_seed(seed)
    settings = replace(SMALL, **changes)
    return Cluster(Tiny(), settings, views, mean=(0.5,), std=(0.25,), batch_size=BATCH, modalities=2, findings=findings)


def make_batch(seed: int = 0, count: int = BATCH) -> Batch:
    """Return radiographs of two modalities with three findings, some of them unknown."""
    draws = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, SIDE, SIDE), generator=draws, dtype=torch.uint8)
    labels = torch.tensor([[1.0, 0.0, NAN], [NAN, NAN, NAN]]).repeat(count // 2, 1)
    return Batch(pixels, torch.full((count, 2), SIDE), torch.arange(count) // 2 % 2, labels)


def at(step: int) -> Progress:
    """Return where a training stands, with the draws of that step."""
    return Progress(step, 100, 10, torch.Generator().manual_seed(step))


def train(method: Cluster, steps: range, optimizer: torch.optim.Optimizer | None = None) -> list[float]:
    """Take steps as the loop does, and return the losses."""
    optimizer = optimizer or torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    losses = []
    for step in steps:
        result = method(make_batch(step), at(step))
        optimizer.zero_grad()
        result["loss"].backward()
        method.adjust_gradients(at(step))
        optimizer.step()
        method.follow(at(step))
        losses.append(float(result["loss"].detach()))
    return losses


# ---- views


def test_views_of_one_size_go_together() -> None:
    """The backbone sees two large views of all images at once, then all small ones."""
    method = make_cluster(local_crops=3)

    result = method(make_batch(), at(0))

    assert [(16, 1, 16, 16), (24, 1, 8, 8)] == method.backbone.shown
    assert ((8, 4), torch.float32, False) == (
        tuple(result["embeddings"].shape),
        result["embeddings"].dtype,
        result["embeddings"].requires_grad,
    )


def test_no_small_views() -> None:
    """Without small views, the two large ones predict each other."""
    method = make_cluster(local_crops=0)

    loss = method(make_batch(), at(0))["loss"]

    assert [(16, 1, 16, 16)] == method.backbone.shown
    assert bool(loss.isfinite())


def test_draws() -> None:
    """Equal draws give equal losses, other draws others, and the global generator is left alone."""
    method = make_cluster()
    before = torch.get_rng_state()

    same, again, other = (float(method(make_batch(), at(step))["loss"].detach()) for step in (3, 3, 4))

    assert same == again
    assert same != other
    assert bool((before == torch.get_rng_state()).all())


def test_half_precision() -> None:
    """Under autocast, scores, codes and loss are computed in float32."""
    method = make_cluster(supervised=1.0)
    scores: list[torch.Tensor] = []
    method.prototypes.register_forward_hook(lambda module, inputs, output: scores.append(output))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = method(make_batch(), at(0))

    assert {torch.float32} == {value.dtype for value in [*scores, *result.values()]}
    expected = make_cluster(supervised=1.0)(make_batch(), at(0))["loss"]
    torch.testing.assert_close(expected, result["loss"], rtol=0, atol=0.1)


# ---- prototypes


@pytest.mark.parametrize("kind", ["sgd", "larc"])
@pytest.mark.parametrize("per_modality", [False, True])
def test_prototypes_are_frozen_first(kind: str, per_modality: bool) -> None:
    """Prototypes have length 1 and no bias; they are the same to the bit while frozen, and move afterwards."""
    method = make_cluster(freeze=3, per_modality=per_modality)
    groups = method.parameter_groups(0.1)
    optimizer = Larc(groups, lr=0.5) if kind == "larc" else torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    start = [weight.clone() for weight in method.prototypes.parameters()]

    train(method, range(3), optimizer)
    frozen = [weight.clone() for weight in method.prototypes.parameters()]
    train(method, range(3, 5), optimizer)

    assert all(bool((a == b).all()) for a, b in zip(start, frozen, strict=True))
    assert all(bool((a != b).any()) for a, b in zip(start, method.prototypes.parameters(), strict=True))
    assert {(6, 5)} == {tuple(weight.shape) for weight in method.prototypes.parameters()}


def test_prototypes_at_loss_time() -> None:
    """After a step made them longer, the next one computes scores with prototypes of length 1."""
    method = make_cluster()
    train(method, range(2))
    moved = method.prototypes.sets[0].weight.norm(dim=1)

    method(make_batch(), at(2))

    assert float((moved.detach() - 1).abs().max()) > 1e-4
    torch.testing.assert_close(torch.ones(6), method.prototypes.sets[0].weight.norm(dim=1), rtol=0, atol=1e-6)


def test_prototypes_of_each_modality() -> None:
    """Each image is compared with the prototypes of its modality alone, and only they learn from it."""
    prototypes = Prototypes(4, 3, sets=3)
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))

    scores = prototypes(rows, torch.tensor([0, 2, 2, 0, 2]))
    scores.sum().backward()

    expected = torch.stack(
        [prototypes.sets[number].weight @ row for row, number in zip(rows, [0, 2, 2, 0, 2], strict=True)]
    )
    torch.testing.assert_close(expected, scores)
    gradients = [linear.weight.grad for linear in prototypes.sets]
    assert [True, False, True] == [bool(gradient.any()) for gradient in gradients if gradient is not None]


def test_codes_of_each_modality() -> None:
    """With prototypes for each modality, what images of the other one look like changes no code and no loss."""
    of_first = make_batch()._replace(modalities=torch.tensor([0] * 4 + [1] * 4))
    mirrored = of_first._replace(pixels=torch.cat([of_first.pixels[:4], 255 - of_first.pixels[4:]]))
    changes: list[bool] = []
    for per_modality in (True, False):
        method = make_cluster(per_modality=per_modality).eval()  # BatchNorm would mix them
        seen: list[torch.Tensor] = []
        method.prototypes.register_forward_hook(lambda module, inputs, scores, seen=seen: seen.append(scores.detach()))
        assigned = []
        for batch in (of_first, mirrored):
            method(batch, at(0))
            codes, _ = method._assign(seen[-1].reshape(4, BATCH, -1)[:2], batch.modalities * per_modality)
            assigned.append(codes[:, :4])
        changes.append(not torch.allclose(*assigned, rtol=0, atol=1e-6))

    assert [False, True] == changes


# ---- the swapped prediction


def draw_scores(views: int, rows: int = 6, columns: int = 5) -> torch.Tensor:
    """Return scores from -1 to 1."""
    return torch.rand(views, rows, columns, generator=torch.Generator().manual_seed(views)) * 2 - 1


def assign_all(scores: torch.Tensor) -> torch.Tensor:
    """Return the codes of two views."""
    return torch.stack([assign_codes(each, epsilon=0.05, iterations=3) for each in scores[:2]])


def test_swapped_loss_in_doubles() -> None:
    """The loss is what loops over codes, views, images and prototypes give in doubles."""
    scores, temperature = draw_scores(5), 0.1
    codes = assign_all(scores)

    total = 0.0
    for assigned in range(2):
        for view in range(5):
            if view != assigned:
                for code, row in zip(codes[assigned].tolist(), scores[view].tolist(), strict=True):
                    norm = math.log(sum(math.exp(score / temperature) for score in row))
                    total -= sum(q * (score / temperature - norm) for q, score in zip(code, row, strict=True)) / 6
    expected = total / 2 / 4

    assert expected == pytest.approx(float(compute_swapped_loss(scores, codes, temperature)), rel=1e-6)


def test_swapped_loss_is_symmetric() -> None:
    """With two large views only, it does not matter which comes first."""
    scores = draw_scores(2)

    losses = [compute_swapped_loss(each, assign_all(each), 0.1) for each in (scores, scores.flip(0))]

    torch.testing.assert_close(*losses)


def test_no_gradient_through_codes() -> None:
    """Codes are taken as given: the gradient of scores is the same whether or not codes depend on them."""
    scores = draw_scores(3).requires_grad_()
    linked, given = scores[:2].softmax(dim=2), scores.detach()[:2].softmax(dim=2)

    gradients = [torch.autograd.grad(compute_swapped_loss(scores, codes, 0.1), scores)[0] for codes in (linked, given)]

    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    assert not assign_all(scores).requires_grad


@pytest.mark.parametrize("queued", [False, True])
def test_lightly(queued: bool) -> None:
    """lightly's loss of the same scores is the same, with a queue too."""
    lightly = pytest.importorskip("lightly.loss.swav_loss")
    scores = draw_scores(5)
    earlier = draw_scores(2, rows=10) if queued else torch.empty(2, 0, 5)
    codes = assign_all(torch.cat([scores[:2], earlier], dim=1))[:, :6]

    expected = lightly.SwaVLoss()(list(scores[:2]), list(scores[2:]), list(earlier) if queued else None)

    torch.testing.assert_close(expected[0], compute_swapped_loss(scores, codes, 0.1), rtol=1e-5, atol=1e-6)


# ---- the queue


def test_queue_order_and_age() -> None:
    """The newest images lie in front, the oldest fall out, and age counts the steps since they entered."""
    queue = Queue(2, 6, 1)
    ages, full = [float(queue.age(0))], [queue.full]

    for step in range(4):
        rows = torch.tensor([[[10.0 * step], [10.0 * step + 1]], [[-1.0 * step], [-1.0 * step]]])
        queue.push(rows, torch.tensor([step, step + 1]), step)
        ages.append(float(queue.age(step + 1)))
        full.append(queue.full)

    assert [[30, 31, 20, 21, 10, 11], [-3, -3, -2, -2, -1, -1]] == queue.projections[..., 0].tolist()
    assert [3, 4, 2, 3, 1, 2] == queue.members.tolist()
    assert [0, 1, 1.5, 2, 2] == ages
    assert [False, False, False, True, True] == full


def test_queue_is_zero_at_first() -> None:
    """A new queue holds zeros, and no step."""
    queue = Queue(2, 4, 3)

    assert not bool(queue.projections.any())
    assert [-1] * 4 == queue.entered.tolist()


def test_queue_is_used_when_full() -> None:
    """Losses are those without a queue until it is full; it fills from its epoch on."""
    plain, queued = make_cluster().eval(), make_cluster(queue=2 * BATCH, queue_from=0.2).eval()

    losses = [[float(m(make_batch(step), at(step))["loss"].detach()) for step in range(6)] for m in (plain, queued)]

    assert [True, True, True, True, False, False] == [a == b for a, b in zip(*losses, strict=True)]


def test_queue_of_each_modality() -> None:
    """Images of the queue are compared with the prototypes of their modality: others may change."""
    method = make_cluster(queue=BATCH, per_modality=True).eval()
    method(make_batch(), at(0))
    scores, members = draw_scores(2, BATCH, 6), make_batch().modalities

    before, _ = method._assign(scores, members)
    method.prototypes.sets[0].weight.data.neg_()
    after, _ = method._assign(scores, members)

    changed = (before != after).any(dim=2).any(dim=0)
    assert (members == 0).tolist() == changed.tolist()


def test_resuming_is_exact() -> None:
    """A state taken in the middle of a training goes on to the same losses, to the bit."""
    changes = {"queue": 2 * BATCH, "freeze": 3, "supervised": 1.0, "per_modality": True}
    method = make_cluster(**changes)
    optimizer = Larc(method.parameter_groups(0.1), lr=0.5)
    train(method, range(4), optimizer)
    state, moved = {name: value.clone() for name, value in method.state_dict().items()}, optimizer.state_dict()
    other = make_cluster(seed=1, **changes)
    again = Larc(other.parameter_groups(0.1), lr=0.1)
    other.load_state_dict(state)
    again.load_state_dict(
        {"state": {k: dict(v) for k, v in moved["state"].items()}, "param_groups": moved["param_groups"]}
    )
    for entry in again.state.values():
        entry["momentum_buffer"] = entry["momentum_buffer"].clone()

    assert train(method, range(4, 8), optimizer) == train(other, range(4, 8), again)


ROWS = [
    ((256, 3840, 3000), 3840),
    ((250, 3840, 3000), 3750),
    ((64, 0, 64), 0),
]


@pytest.mark.parametrize(("sizes", "expected"), ROWS)
def test_queue_length(sizes: tuple[int, int, int], expected: int) -> None:
    """The queue is cut to a multiple of the batch."""
    batch_size, queue, prototypes = sizes

    assert expected == ClusterSettings(queue=queue, prototypes=prototypes).queue_for(batch_size)


def test_too_few_images() -> None:
    """Fewer images than prototypes are refused with a queue that would do, unless that is meant."""
    settings = ClusterSettings(queue=0, prototypes=3000)

    with pytest.raises(RecordError, match="3000 prototypes, a batch of 64 and a queue of 0.*Set queue to 2944"):
        settings.queue_for(64)

    assert 2944 == replace(settings, queue=2944).queue_for(64)
    assert 0 == replace(settings, undersized=True).queue_for(64)


def test_queue_shorter_than_a_batch() -> None:
    """A queue that no batch fits in is refused."""
    with pytest.raises(RecordError, match="found 100 images for batches of 256.*multiple of 256"):
        ClusterSettings(queue=100, prototypes=10).queue_for(256)


WRONG = [
    ({"prototypes": 1}, "prototypes: found 1"),
    ({"dim": 0}, "dim: found 0"),
    ({"iterations": 0}, "iterations: found 0"),
    ({"local_crops": -1}, "local_crops: found -1"),
    ({"temperature": 0.0}, "temperature: found 0"),
    ({"epsilon": 0.01}, "epsilon: found 0.01, expected 0.025 or more"),
    ({"epsilon": NAN}, "epsilon: found nan"),
    ({"supervised": NAN}, "supervised: found nan"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    """A number that nothing can be trained with is refused by its name."""
    with pytest.raises(RecordError, match=f"cluster: {message}"):
        ClusterSettings(**changes)


def test_labels_are_missing() -> None:
    """A supervised loss without findings is refused."""
    with pytest.raises(PretrainingError, match="no findings in the table"):
        make_cluster(supervised=1.0, findings=0)


# ---- labels


def test_label_loss() -> None:
    """The supervised loss is the mean cross-entropy of known labels; without any it is 0, and so is its gradient."""
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.5]], requires_grad=True)
    known = torch.tensor([[1.0, NAN], [0.0, 1.0]])

    expected = (math.log(1 + math.exp(-0.3)) + math.log(1 + math.exp(2.0)) + math.log(1 + math.exp(-0.5))) / 3
    nothing = compute_label_loss(logits, torch.full((2, 2), NAN))
    (gradient,) = torch.autograd.grad(nothing, logits)

    assert expected == pytest.approx(float(compute_label_loss(logits, known).detach()))
    assert (0.0, False) == (float(nothing.detach()), bool(gradient.any() | gradient.isnan().any()))


def test_unlabelled_images_do_not_count() -> None:
    """Twice as many images without labels leave the supervised loss as it is."""
    logits = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.cat([torch.tensor([[1.0, 0.0], [0.0, NAN]]), torch.full((4, 2), NAN)])

    more = compute_label_loss(torch.cat([logits, logits[2:] * 9]), torch.cat([labels, labels[2:]]))

    torch.testing.assert_close(compute_label_loss(logits, labels), more, rtol=0, atol=0)


def test_without_weight() -> None:
    """A weight of 0 gives the gradients of clustering alone, to the bit; a weight above 0 gives others."""
    gradients = []
    for supervised in (0.0, None, 1.0):
        labels = {} if supervised is None else {"supervised": supervised}
        method = make_cluster(**labels)
        method(make_batch(), at(0))["loss"].backward()
        gradients.append(method.backbone.conv1.weight.grad)

    assert bool((gradients[0] == gradients[1]).all())
    assert bool((gradients[0] != gradients[2]).any())


def test_unlabelled_batch() -> None:
    """A batch without labels has the loss of clustering alone, a supervised loss of 0, and finite gradients."""
    batch = make_batch()._replace(labels=torch.full((BATCH, 3), NAN))
    method = make_cluster(supervised=1.0)

    result = method(batch, at(0))
    result["loss"].backward()

    assert 0.0 == float(result["supervised"])
    assert float(make_cluster()(batch, at(0))["loss"].detach()) == float(result["loss"].detach())
    assert all(bool(p.grad.isfinite().all()) for p in method.parameters() if p.grad is not None)


def test_ramp() -> None:
    """The weight of the supervised loss rises evenly to its value in the epochs of the ramp."""
    ramped = replace(SMALL, supervised=0.8, supervised_ramp=2.0)

    assert [0.04, 0.4, 0.8, 0.8] == [round(weigh_labels(ramped, at(step)), 6) for step in (0, 9, 19, 50)]
    assert 0.8 == weigh_labels(replace(ramped, supervised_ramp=0.0), at(0))


def test_supervised_part() -> None:
    """The loss is that of clustering and, by its weight at that step, the supervised one."""
    plain = make_cluster()(make_batch(), at(4))["loss"]

    hybrid = make_cluster(supervised=0.8, supervised_ramp=2.0)(make_batch(), at(4))

    torch.testing.assert_close(plain + 0.2 * hybrid["supervised"], hybrid["loss"])


# ---- several processes


def run_share() -> dict[str, Any]:
    """Return losses and queue of three steps on this process's share of the images, with views that nothing varies."""
    same = Views(size=SIDE)
    method = make_cluster(
        views=same, local=same, queue=2 * BATCH, supervised=0.5, per_modality=True, local_crops=1
    ).eval()
    share = slice(ranks.rank() * BATCH // ranks.world_size(), (ranks.rank() + 1) * BATCH // ranks.world_size())
    results = [method(Batch(*(part[share] for part in make_batch(step))), at(step)) for step in range(4)]
    results[-1]["loss"].backward()
    gradient = method.backbone.conv1.weight.grad
    assert method.queue is not None
    return {
        "losses": torch.stack([result["loss"].detach() for result in results]),
        "usage": torch.stack([result["usage"] for result in results]),
        "queue": method.queue.projections.sort(dim=1).values,
        "gradient": gradient,
    }


def test_processes(tmp_path: Path) -> None:
    """Two processes with half of the images each have, on average, the losses and gradients of one with all."""
    first, second = run_processes(run_share, tmp_path)

    alone = run_share()

    for name in ("losses", "gradient"):
        torch.testing.assert_close(alone[name], (first[name] + second[name]) / 2, rtol=1e-4, atol=1e-6)
    for found in (first, second):
        torch.testing.assert_close(alone["queue"], found["queue"], rtol=0, atol=1e-6)
        torch.testing.assert_close(alone["usage"], found["usage"], rtol=0, atol=1e-5)


# ---- collapse


def measure_toy(balanced: bool, seed: int) -> float:
    """Return the usage of two prototypes after training on two groups of points."""
    draws = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    encoder, prototypes = nn.Linear(8, 4), Prototypes(2, 4)
    optimizer = torch.optim.SGD([*encoder.parameters(), *prototypes.parameters()], lr=0.5, momentum=0.9)
    centres, nobody = torch.randn(2, 8, generator=draws), torch.zeros(128, dtype=torch.long)
    for _ in range(100):
        prototypes.normalise()
        points = centres[torch.arange(64) % 2] + 0.2 * torch.randn(2, 64, 8, generator=draws)
        scores = prototypes(functional.normalize(encoder(points), dim=2).flatten(0, 1), nobody).reshape(2, 64, 2)
        codes = assign_all(scores) if balanced else (scores.detach() / 0.05).softmax(dim=2)
        loss = compute_swapped_loss(scores, codes, 0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(measure_usage(codes.flatten(0, 1), nobody))


def test_collapse() -> None:
    """Balanced codes keep both prototypes of two groups in use; codes that are a plain softmax lose one."""
    balanced, plain = ([measure_toy(kind, seed) for seed in range(5)] for kind in (True, False))

    assert min(balanced) > 0.9
    assert min(plain) < min(balanced) - 0.3


# ---- LARC


def test_larc() -> None:
    """Four steps give what the formula gives element by element in doubles."""
    draws = torch.Generator().manual_seed(0)
    start = torch.randn(3, 2, generator=draws, dtype=torch.float64)
    slopes = torch.randn(4, 3, 2, generator=draws, dtype=torch.float64)
    weight = nn.Parameter(start.clone())
    optimizer = Larc([weight], lr=0.7, momentum=0.9, weight_decay=0.01, trust=0.02)

    for slope in slopes:
        weight.grad = slope.clone()
        optimizer.step()

    values, speed = start.flatten().tolist(), [0.0] * 6
    for slope in slopes.flatten(1).tolist():
        length, steep = (math.sqrt(sum(x * x for x in row)) for row in (values, slope))
        rate = 0.02 * length / (steep + 0.01 * length + 1e-8)
        speed = [0.9 * v + rate * (g + 0.01 * w) for v, g, w in zip(speed, slope, values, strict=True)]
        values = [w - 0.7 * v for w, v in zip(values, speed, strict=True)]
    torch.testing.assert_close(torch.tensor(values, dtype=torch.float64), weight.detach().flatten())


def test_larc_at_zero() -> None:
    """Weights of length 0 move as in SGD; those without a gradient, or with one of 0, stay."""
    at_zero, flat, without = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    at_zero.grad, flat.grad = torch.tensor([1.0, -2.0]), torch.zeros(2)

    Larc([at_zero, flat, without], lr=0.5, weight_decay=0.1).step()

    assert [[-0.5, 1.0], [1.0, 1.0], [1.0, 1.0]] == [p.tolist() for p in (at_zero, flat, without)]


# ---- networks and checkpoints


NETWORKS: list[tuple[str, dict[str, Any], bool]] = [
    ("resnet18", {}, True),
    ("densenet121", {"in_chans": 1}, False),
    ("vit_tiny_patch16_224", {"img_size": 32, "dynamic_img_size": True}, False),
    ("mobilenetv3_small_100", {}, False),
]


@pytest.mark.parametrize(("architecture", "arguments", "per_modality"), NETWORKS, ids=[row[0] for row in NETWORKS])
def test_export(architecture: str, arguments: dict[str, Any], per_modality: bool, tmp_path: Path) -> None:
    """A checkpoint of a trained network converts without hints, and the folder's embeddings are the network's."""
    import timm

    from cxrzoo.converter import convert_into
    from cxrzoo.manifest import Preprocessing

    torch.manual_seed(0)
    channels = arguments.get("in_chans", 3)
    backbone = timm.create_model(architecture, num_classes=0, **arguments)
    constants = (0.5,) * channels, (0.25,) * channels
    settings = replace(SMALL, per_modality=per_modality, local=Views(size=32, scale=(0.1, 0.3)), local_crops=1)
    views = Views(size=32, scale=(0.3, 1.0))
    method = Cluster(backbone, settings, views, mean=constants[0], std=constants[1], batch_size=BATCH, modalities=2)
    optimizer = Larc(method.parameter_groups(1e-6), lr=4.8)
    train(method, range(2), optimizer)
    path = tmp_path / method.file_name(2)
    torch.save(method.export(2, optimizer.state_dict()), path)
    (tmp_path / "out").mkdir()

    stated = Preprocessing((channels, 32, 32), *constants, "bilinear", 1.0, "center")
    hint = None if architecture != "mobilenetv3_small_100" else architecture  # another network has the same shapes
    conversion = convert_into(tmp_path / "out", path, variants={"x": stated}, architecture=hint, isolated=False)

    loaded = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    images = torch.randn(2, channels, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(backbone.eval()(images), loaded(images), rtol=1e-6, atol=1e-6)
    assert ("swav", architecture, "ckp-2.pth") == (
        conversion.record.coverage.recipe,
        conversion.architecture,
        path.name,
    )
    assert {"projection head": 9, "prototypes": 1 + per_modality} == conversion.record.coverage.dropped


def test_network_of_one_size() -> None:
    """A network that takes images of one size only is refused where views have another."""
    import timm

    backbone = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, depth=1)

    with pytest.raises(PretrainingError, match="views of 8 pixels and a network for 32 only.*dynamic_img_size"):
        Cluster(backbone, SMALL, Views(size=32), mean=(0.5,) * 3, std=(0.25,) * 3, batch_size=BATCH)
