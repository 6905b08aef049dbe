"""Group-masked modelling: what it measures, what it moves, and what it leaves behind."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run_processes
from torch import Tensor, nn

import cxrzoo
from cxrzoo.errors import PretrainingError
from cxrzoo.manifest import Preprocessing
from cxrzoo.pretraining.batches import Batch, Progress
from cxrzoo.pretraining.gmml import Gmml, GmmlSettings
from cxrzoo.pretraining.gmml.heads import ProjectionHead, ReconstructionHead
from cxrzoo.pretraining.gmml.modelling import contrast_with, masked_distance
from cxrzoo.pretraining.gmml.network import Network, choose_blocks
from cxrzoo.pretraining.views import Views, draw_views, normalise

#: Heads of the contrastive term that are quick to train.
SMALL: dict[str, Any] = {"hidden": 24, "dimension": 8}


def create(architecture: str, **arguments: Any) -> nn.Module:
    """Return a network of timm without classifier."""
    import timm  # 8 s, which the processes of a test below needn't take

    network: nn.Module = timm.create_model(architecture, num_classes=0, **arguments)
    return network


def make_transformer(*, side: int = 32, depth: int = 6, **arguments: Any) -> nn.Module:
    """Return a small vision transformer with patches of 8 pixels."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"img_size": side, "patch_size": 8, "embed_dim": 48, "depth": depth, "num_heads": 3}
    return VisionTransformer(**sizes | {"num_classes": 0} | arguments)


def make_method(settings: GmmlSettings | None = None, **arguments: Any) -> Gmml:
    """Return a method around such a transformer, for views of its size."""
    backbone = make_transformer(**arguments)
    constants: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    return Gmml(backbone, settings or GmmlSettings(), Views(backbone.patch_embed.img_size[0]), **constants)  # type: ignore[index]


def make_batch(count: int, side: int = 32) -> Batch:
    """Return smooth images, each with a brightness and a bright spot of its own, and all brighter below."""
    draws = torch.Generator().manual_seed(1)
    x, y, level, width = torch.rand(4, count, 1, 1, generator=draws)
    grid = torch.linspace(0, 1, side)
    across, down = grid[None, None, :], grid[None, :, None]
    spots = torch.exp(-((across - x) ** 2 + (down - y) ** 2) / (0.02 + 0.1 * width))
    pixels = (255 * (0.5 * level + 0.25 * down + 0.25 * spots)).to(torch.uint8)
    return Batch(pixels, torch.full((count, 2), side), torch.zeros(count, dtype=torch.long), torch.zeros(count, 0))


def progress_at(step: int, steps: int = 100, seed: int = 0) -> Progress:
    """Return a point of a training, with random numbers of its own."""
    return Progress(step, steps, 10, torch.Generator().manual_seed(1000 * seed + step))


def test_gradient_of_the_loss() -> None:
    """The loss's gradient is exactly 0 off the mask, and on it the sign of the difference by the number of values."""
    draws = torch.Generator().manual_seed(0)
    images, targets = torch.randn(2, 4, 3, 8, 8, generator=draws)
    mask = torch.rand(4, 1, 8, 8, generator=draws) < 0.3

    masked_distance(images.requires_grad_(), targets, mask).backward()

    expected = torch.where(mask, (images.detach() - targets).sign() / (3 * mask.sum()), 0)
    assert images.grad is not None and torch.equal(expected, images.grad)


def test_unmasked_targets() -> None:
    """What stands where nothing was hidden changes nothing."""
    images, targets = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    mask[:, :, 2:5, 3:8] = True

    other = torch.where(mask, targets, 1e6)

    assert masked_distance(images, targets, mask) == masked_distance(images, other, mask)
    assert torch.isclose((images - targets).abs()[:, :, 2:5, 3:8].mean(), masked_distance(images, targets, mask))


def test_empty_mask() -> None:
    """Where nothing was hidden, the loss and its gradient are 0, not NaN."""
    images = torch.ones(2, 3, 8, 8, requires_grad=True)

    loss = masked_distance(images, torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.bool))
    loss.backward()

    assert 0 == float(loss.detach())
    assert images.grad is not None and not images.grad.any()


def test_patches() -> None:
    """The token of a patch paints that patch, all of it, and nothing else."""
    torch.manual_seed(0)
    head, tokens = ReconstructionHead(12, 3, (8, 8)), torch.randn(1, 20, 12)
    changed = tokens.clone()
    changed[0, 1 * 5 + 3] += 1  # row 1, column 3 of 4 x 5

    difference = head(changed, (4, 5)) != head(tokens, (4, 5))

    expected = torch.zeros(1, 3, 32, 40, dtype=torch.bool)
    expected[:, :, 8:16, 24:32] = True
    assert torch.equal(expected, difference)


def test_head_names() -> None:
    """The heads have the names of GMML's and SiT's code, and weights drawn as there."""
    torch.manual_seed(0)
    recons, head = ReconstructionHead(384, 3, (16, 16)), ProjectionHead(384, 4096, 256)

    layers = [f"mlp.{number}.{kind}" for number in (0, 2, 4) for kind in ("weight", "bias")]
    assert {*layers, "convTrans.weight", "convTrans.bias"} == set(recons.state_dict())
    norms = [f"mlp.{number}.{kind}" for number in (1, 4) for kind in ("weight", "bias")]
    assert {*norms, *(f"mlp.{n}.{kind}" for n in (0, 3, 6) for kind in ("weight", "bias"))} == {
        name for name, _ in head.named_parameters()
    }
    assert [(384, 3, 16, 16), (4096, 384), (256, 4096)] == [
        tuple(each.shape) for each in (recons.convTrans.weight, head.mlp[0].weight, head.mlp[6].weight)
    ]
    assert [0.02, 0.02, 0] == pytest.approx(
        [
            float(each.detach())
            for each in (recons.mlp[2].weight.std(), head.mlp[3].weight.std(), recons.mlp[0].bias.norm())
        ],
        abs=1e-3,
    )


def test_tokens() -> None:
    """What is painted comes from the mean of four blocks' outputs after the last norm, block after block."""
    network = Network(make_transformer(depth=12), GmmlSettings(), 3).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        outputs = network(images)
        tokens = network.backbone._pos_embed(network.backbone.patch_embed(images))
        layers = [tokens := block(tokens) for block in network.backbone.blocks]
        mean = sum(layers[number - 1] for number in (6, 8, 10, 12)) / 4
        expected = network.head_recons(network.backbone.norm(mean)[:, 1:], (4, 4))

    torch.testing.assert_close(expected, outputs.images, rtol=0, atol=1e-6)
    assert (2, 3, 32, 32) == tuple(outputs.images.shape)


def test_embeddings() -> None:
    """The embedding is what the backbone returns: the mean of its patch tokens after the norm."""
    network = Network(make_transformer(), GmmlSettings(), 3).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        embeddings, pooled, tokens = (
            network(images)[0],
            network.backbone(images),
            network.backbone.forward_features(images),
        )

    torch.testing.assert_close(pooled, embeddings, rtol=0, atol=1e-6)
    torch.testing.assert_close(tokens[:, 1:].mean(dim=1), embeddings, rtol=0, atol=1e-6)


def test_projections() -> None:
    """Student and teacher project the class token of the last block, whichever blocks paint."""
    network = Network(make_transformer(), GmmlSettings(contrastive=True, blocks=(3, 6), **SMALL), 3).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        expected = network.head(network.backbone.forward_features(images)[:, 0])  # type: ignore[misc]

        torch.testing.assert_close(expected, network(images).projections, rtol=0, atol=1e-6)
        torch.testing.assert_close(expected, network.project(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "depth", "expected"),
    [
        (GmmlSettings(), 12, (6, 8, 10, 12)),
        (GmmlSettings(), 24, (12, 16, 20, 24)),
        (GmmlSettings(), 6, (3, 4, 5, 6)),
        (GmmlSettings(blocks=(2, 4)), 4, (2, 4)),
        (GmmlSettings(contrastive=True), 7, (7,)),
        (GmmlSettings(contrastive=True, blocks=(3, 4)), 4, (3, 4)),
    ],
)
def test_blocks(settings: GmmlSettings, depth: int, expected: tuple[int, ...]) -> None:
    """Blocks are those named; else GMML's four scaled to the depth, or the last one as in SiT."""
    assert expected == choose_blocks(settings, depth)


@pytest.mark.parametrize(
    ("settings", "depth", "message"),
    [
        (GmmlSettings(), 10, "a network of 10 blocks"),
        (GmmlSettings(blocks=(6, 8)), 12, "found 8 as the last of 12"),
        (GmmlSettings(blocks=(6, 14)), 12, "found 14 as the last of 12"),
    ],
)
def test_blocks_that_are_refused(settings: GmmlSettings, depth: int, message: str) -> None:
    """Blocks that the network has not, or that would leave its last ones untrained, are refused."""
    with pytest.raises(PretrainingError, match=message):
        choose_blocks(settings, depth)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: create("resnet18"), "found a ResNet for gmml"),
        (lambda: make_transformer(class_token=False, global_pool="avg"), "found a VisionTransformer for gmml"),
        (lambda: make_transformer(global_pool="avg"), "without norm on its tokens"),
        (lambda: make_transformer(side=64), "images of 3 x 64 x 64, expected one for views of 3 x 32 x 32"),
        (lambda: make_transformer(in_chans=1), "images of 1 x 32 x 32, expected one for views of 3 x 32 x 32"),
    ],
)
def test_backbones_that_are_refused(make: Any, message: str) -> None:
    """Networks without class token, without norm, or for other images are refused before the first step."""
    with pytest.raises(PretrainingError, match=message):
        Gmml(make(), GmmlSettings(), Views(32), mean=(0.5,) * 3, std=(0.25,) * 3)


def test_blocks_too_large_are_refused_at_once() -> None:
    """Blocks that don't fit a view are refused before the first step."""
    with pytest.raises(PretrainingError, match="blocks are 16 long"):
        make_method(GmmlSettings(align=16))


def test_what_a_step_returns() -> None:
    """A step returns the loss with its gradient, and the rest without: embeddings and shares of two views each."""
    method = make_method()

    result = method(make_batch(16), progress_at(0))

    assert {"loss", "embeddings", "masked", "alien"} == set(result)
    assert ["loss"] == [name for name, value in result.items() if value.requires_grad]
    assert ((32, 48), torch.float32) == (tuple(result["embeddings"].shape), result["embeddings"].dtype)
    assert 0.3 < float(result["masked"]) < 0.7
    assert float(result["alien"]) * 32 == round(float(result["alien"]) * 32)


def test_two_views_are_independent() -> None:
    """The two views of an image are corrupted each for itself, and both are painted."""
    method, seen = make_method(), []
    method.student.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    method(make_batch(8), progress_at(0))

    first, second = seen[0].chunk(2)
    assert 8 == len(first)
    assert not torch.equal(first, second)


def test_half_precision() -> None:
    """Under autocast the loss is computed in float32."""
    with torch.autocast("cpu", torch.bfloat16):
        result = make_method(GmmlSettings(contrastive=True, **SMALL))(make_batch(8), progress_at(0))

    assert {torch.float32} == {value.dtype for value in result.values()}
    assert math.isfinite(float(result["loss"].detach()))


@pytest.mark.parametrize("contrastive", [False, True])
def test_every_parameter_learns(contrastive: bool) -> None:
    """A step gives every parameter of backbone and heads a gradient, and none to the teacher."""
    method = make_method(GmmlSettings(contrastive=contrastive, **SMALL))

    method(make_batch(8), progress_at(0))["loss"].backward()

    assert not [name for name, each in method.student.named_parameters() if each.grad is None]
    if method.teacher is not None:
        assert not [
            name for name, each in method.teacher.named_parameters() if each.requires_grad or each.grad is not None
        ]


def test_draws() -> None:
    """A step's random numbers come from the generator it is given, and from no other."""
    method, batch = make_method(), make_batch(8)
    torch.manual_seed(0)
    first = method(batch, progress_at(3))["loss"]
    torch.manual_seed(1)

    assert first == method(batch, progress_at(3))["loss"]
    assert first != method(batch, progress_at(3, seed=1))["loss"]


def test_learning() -> None:
    """On 64 images, hidden pixels are soon painted better than by their mean."""
    method, batch = make_method(GmmlSettings(types=("noise",), blocks=(2, 3)), depth=3), make_batch(64)
    clean = normalise(draw_views(batch, method.views, progress_at(0).draws), method.mean, method.std)
    baseline = float((clean - clean.mean()).abs().mean())
    optimizer = torch.optim.AdamW(method.parameter_groups(0.04), lr=2e-3)
    losses = []
    for step in range(40):
        loss = method(batch, progress_at(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        method.adjust_gradients(progress_at(step))
        optimizer.step()
        losses.append(float(loss.detach()))

    assert sum(losses[-5:]) / 5 < 0.7 * baseline < losses[0]


def test_parameter_groups() -> None:
    """Weights decay; biases, norms and other vectors don't; the teacher is in neither group."""
    method = make_method(GmmlSettings(contrastive=True, **SMALL))

    decayed, spared = method.parameter_groups(0.1)

    names = {id(each): name for name, each in method.student.named_parameters()}
    assert [0.1, 0.0] == [decayed["weight_decay"], spared["weight_decay"]]
    assert sorted(names.values()) == sorted(names[id(each)] for each in (*decayed["params"], *spared["params"]))
    assert {1} == {each.ndim for each in spared["params"]}
    assert 1 not in {each.ndim for each in decayed["params"]}
    assert {"backbone.cls_token", "backbone.pos_embed"} < {names[id(each)] for each in decayed["params"]}


def test_clipping() -> None:
    """Each tensor's gradient is shortened to 3 by itself, in its direction; shorter ones stay as they are."""
    method = make_method()
    for parameter in method.parameters():
        parameter.grad = torch.full_like(parameter, 0.5 / parameter.numel() ** 0.5)
    weight = method.student.head_recons.mlp[0].weight
    weight.grad = torch.full_like(weight, 2.0)

    method.adjust_gradients(progress_at(0))

    torch.testing.assert_close(torch.full_like(weight, 3 / weight.numel() ** 0.5), weight.grad)
    lengths = [float(each.grad.norm()) for each in method.parameters() if each is not weight and each.grad is not None]
    assert [0.5] * len(lengths) == pytest.approx(lengths, rel=1e-4)


@pytest.mark.parametrize(("step", "share"), [(0, 0.004), (50, 0.002), (100, 0.0)])
def test_teacher_follows(step: int, share: float) -> None:
    """The teacher's parameters go .004 of the way at first, and less along a cosine; its statistics are its own."""
    method = make_method(GmmlSettings(contrastive=True, **SMALL))
    assert method.teacher is not None and method.teacher.head is not None
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter += 1
    before = {name: each.clone() for name, each in method.teacher.named_parameters()}
    means = method.teacher.head.mlp[1].running_mean.clone()

    method.follow(progress_at(step))

    moved = {name: each - before[name] for name, each in method.teacher.named_parameters()}
    torch.testing.assert_close(
        {name: torch.full_like(each, share) for name, each in moved.items()}, moved, rtol=0, atol=1e-6
    )
    assert torch.equal(means, method.teacher.head.mlp[1].running_mean)


def test_teacher_sees_clean_views() -> None:
    """The teacher sees both views as they were drawn, and never drops a path, while the student does."""
    method, seen = make_method(GmmlSettings(contrastive=True, **SMALL), drop_path_rate=0.5), []
    assert method.teacher is not None
    method.teacher.backbone.patch_embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    batch = make_batch(8)

    method(batch, progress_at(0))

    draws = progress_at(0).draws
    views = [normalise(draw_views(batch, method.views, draws), method.mean, method.std) for _ in range(2)]
    assert torch.equal(torch.cat(views), seen[0])
    assert (True, False) == (method.student.backbone.training, method.teacher.backbone.training)
    assert method.teacher.head is not None and method.teacher.head.training


def make_pairs(count: int) -> tuple[Tensor, Tensor]:
    """Return projections of as many images, by student and teacher."""
    first, second = torch.randn(2, count, 8, generator=torch.Generator().manual_seed(4))
    return first, second


def spell_out(queries: Tensor, keys: Tensor, temperature: float, own: list[int]) -> float:
    """Return the contrastive loss image by image in doubles."""
    total = 0.0
    for row, target in zip(queries.double(), own, strict=True):
        cosines = [float(row @ key / (row.norm() * key.norm())) for key in keys.double()]
        exponentials = [math.exp(cosine / temperature) for cosine in cosines]
        total -= math.log(exponentials[target] / sum(exponentials))
    return 2 * temperature * total / len(queries)


def test_contrast() -> None:
    """The contrastive term is that of SiT, image by image."""
    queries, keys = make_pairs(6)

    assert spell_out(queries, keys, 0.2, list(range(6))) == pytest.approx(float(contrast_with(queries, keys, 0.2)))


def test_loss_with_contrast() -> None:
    """The loss is the contrastive term both ways, each view's against the other's keys, plus the weighted painting."""
    method = make_method(GmmlSettings(contrastive=True, weight=5.0, **SMALL)).eval()
    assert method.teacher is not None
    method.views = Views(32, scale=(0.3, 1), flip=0.5)
    outputs, keys, batch = [], [], make_batch(8)
    method.student.register_forward_hook(lambda module, inputs, output: outputs.append((inputs[0], output)))
    method.teacher.head.register_forward_hook(lambda module, inputs, output: keys.append(output))  # type: ignore[union-attr]

    result = method(batch, progress_at(0))

    (pixels, student), draws = outputs[0], progress_at(0).draws
    clean = torch.cat([normalise(draw_views(batch, method.views, draws), method.mean, method.std) for _ in range(2)])
    mask = (pixels != clean).any(dim=1, keepdim=True)
    first, second = student.projections.detach().chunk(2)
    contrast = spell_out(first, keys[0][8:], 0.2, list(range(8))) + spell_out(second, keys[0][:8], 0.2, list(range(8)))
    painting = float((student.images.detach() - clean).abs().mean(dim=1, keepdim=True)[mask].mean())
    assert contrast == pytest.approx(float(result["contrastive"]), rel=1e-5)
    assert contrast + 5 * painting == pytest.approx(float(result["loss"].detach()), rel=1e-3)


def contrast_own_rows() -> Tensor:
    """Return the loss of this process's half of the images."""
    queries, keys = make_pairs(6)
    own = slice(3 * torch.distributed.get_rank(), 3 * torch.distributed.get_rank() + 3)
    return contrast_with(queries[own], keys[own], 0.2)


def test_two_processes(tmp_path: Path) -> None:
    """Of two processes, each compares its images with the keys of both."""
    queries, keys = make_pairs(6)

    losses = run_processes(contrast_own_rows, tmp_path)

    expected = [
        spell_out(queries[part], keys, 0.2, own) for part, own in ((slice(3), [0, 1, 2]), (slice(3, 6), [3, 4, 5]))
    ]
    assert expected == pytest.approx([float(loss) for loss in losses], rel=1e-5)


def test_state() -> None:
    """A method's state is all it takes to go on: another one with it continues with the same loss."""
    settings, batch = GmmlSettings(contrastive=True, **SMALL), make_batch(8)
    first = make_method(settings)
    optimizer = torch.optim.AdamW(first.parameter_groups(0.04), lr=1e-3)
    for step in range(2):
        first(batch, progress_at(step))["loss"].backward()
        optimizer.step()
        first.follow(progress_at(step))
    second = make_method(settings)
    second.load_state_dict(first.state_dict())

    assert first(batch, progress_at(2))["loss"] == second(batch, progress_at(2))["loss"]


@pytest.mark.parametrize(
    ("contrastive", "side", "recipe", "networks"),
    [(False, 128, "gmml", {"SiT_model"}), (True, 112, "sit", {"student", "teacher"})],
)
def test_conversion(contrastive: bool, side: int, recipe: str, networks: set[str], tmp_path: Path) -> None:
    """The checkpoint has the layout of GMML's or SiT's code, and becomes a network with the method's embeddings."""
    torch.manual_seed(0)
    backbone = create("vit_tiny_patch16_224", img_size=side)
    settings, constants = GmmlSettings(contrastive=contrastive, **SMALL), ((0.5,) * 3, (0.25,) * 3)
    method = Gmml(backbone, settings, Views(side), mean=constants[0], std=constants[1])
    with torch.no_grad():  # what a conversion takes for untrained is refused
        for each in (method.student, method.teacher):
            for parameter in each.parameters() if isinstance(each, nn.Module) else ():
                parameter += 0.01 * torch.randn_like(parameter)
    record = Preprocessing((3, side, side), *constants, "bilinear", 1, "center")
    checkpoint = method.export(3, {"state": {}, "param_groups": []})
    torch.save(checkpoint, tmp_path / method.file_name(3))

    converted = cxrzoo.convert(tmp_path / "checkpoint0003.pth", tmp_path / "out", preprocessing=record)

    assert networks | {"optimizer", "epoch", "args"} == set(checkpoint)
    assert (recipe, "vit_tiny_patch16_224", 150) == (
        converted.record.coverage.recipe, converted.architecture, len(converted.kept)
    )  # fmt: skip
    model, images = cxrzoo.load(tmp_path / "out"), torch.randn(2, 3, side, side)
    with torch.no_grad():
        method.eval()
        tokens = method.backbone.forward_features(images)[:, 1:].mean(dim=1)
        torch.testing.assert_close(tokens, model(images), rtol=0, atol=1e-5)
        torch.testing.assert_close(method.backbone(images), model(images), rtol=0, atol=1e-5)
