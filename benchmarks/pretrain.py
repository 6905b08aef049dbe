"""Images a second of whole training steps, against the structure of MoCo's published loop and lightly's; in pairs.

Run it on an idle machine. A step reads its images, augments them, and goes through forward, loss, backward, optimizer,
following encoder and queue. cxrzoo reads pictures that it kept small, and trains with channels last; the others read
files, augment an image at a time in as many worker processes as there are cores, and train as their code does. Where
that leaves a choice, they have the faster: pictures stay grey until they are on the training side, and the end of an
epoch, after which workers start anew, is never reached.
"""

import argparse
import copy
import csv
import logging
import math
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

try:
    from lightly.loss import NTXentLoss, SwaVLoss
    from lightly.models.modules import MoCoProjectionHead, SwaVProjectionHead, SwaVPrototypes
    from lightly.models.utils import batch_shuffle, batch_unshuffle, update_momentum
    from lightly.transforms import MoCoV2Transform, SwaVTransform
except ImportError as error:
    sys.exit(f"{error.name} is missing. Run `pip install 'cxrzoo[dev]'`.")
import numpy as np
import torch
import torchvision
from lightning_fabric import Fabric
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from cxrzoo.pretraining.cluster import ClusterSettings
from cxrzoo.pretraining.gmml import GmmlSettings
from cxrzoo.pretraining.gmml.corruption import corrupt
from cxrzoo.pretraining.listing import list_images
from cxrzoo.pretraining.moco import MocoSettings
from cxrzoo.pretraining.networks import Start, build_method, build_start
from cxrzoo.pretraining.plans import Plan, load_plan
from cxrzoo.pretraining.radiographs import Radiographs, keep_radiographs
from cxrzoo.pretraining.training import Training
from cxrzoo.pretraining.views import Views, draw_views, normalise

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SIDE, SIZE, LOCAL = 144, 112, 48
#: What cxrzoo's views and lightly's transforms can both do, with lightly's numbers; colour has none in grey pictures.
MOCO_V2 = Views(SIZE, scale=(0.2, 1.0), flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, blur=0.5)
SWAV = replace(MOCO_V2, scale=(0.14, 1.0), brightness=0.8, contrast=0.8)
#: Without a queue, and with fewer small views than SwAV's six.
CLUSTER = ClusterSettings(
    local_crops=4, local=replace(SWAV, size=LOCAL, scale=(0.05, 0.14)), queue=0, freeze=0, undersized=True
)

Transform = Callable[[Image.Image], list[torch.Tensor]]
#: Takes a step each time it is asked, and gives the loss.
Steps = Callable[[], Iterator[torch.Tensor]]


@dataclass(frozen=True)
class Setting:
    """The images of all sides, and where and how they train; `files` as they are, `small` as cxrzoo keeps them."""

    files: list[Path]
    small: list[Path]
    radiographs: Radiographs
    mean: float
    std: float
    batch: int
    device: torch.device


class Pictures(Dataset[list[torch.Tensor]]):
    """Files of pictures, each as views."""

    def __init__(self, files: list[Path], transform: Transform) -> None:
        self._files, self._transform = files, transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> list[torch.Tensor]:
        with Image.open(self._files[row]) as picture:
            return self._transform(picture.convert("L"))


class Levels:
    """Gamma, gain and offset of a tensor in [0, 1], drawn for it."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def __call__(self, view: torch.Tensor) -> torch.Tensor:
        limit = math.log(self._views.gamma)
        gain = random.uniform(1 - self._views.gain, 1 + self._views.gain)
        offset = random.uniform(-self._views.offset, self._views.offset)
        return view.pow_(math.exp(random.uniform(-limit, limit))).mul_(gain).add_(offset).clamp_(0, 1)


class Twice:
    """Two views of a picture by one transform."""

    def __init__(self, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self._transform = transform

    def __call__(self, picture: Image.Image) -> list[torch.Tensor]:
        return [self._transform(picture) for _ in range(2)]


def by_torchvision(views: Views, mean: float, std: float) -> Transform:
    """Return a plan's views as torchvision's transforms of one picture."""
    steps = [
        transforms.RandomHorizontalFlip(views.flip),
        transforms.RandomRotation(views.rotation, transforms.InterpolationMode.BILINEAR),
        transforms.RandomResizedCrop(views.size, views.scale),
        transforms.ToTensor(),
        Levels(views),
        transforms.Normalize(mean, std),
    ]
    return Twice(transforms.Compose(steps))


def by_lightly(views: Views, mean: float, std: float) -> Transform:
    """Return lightly's transform of MoCo v2 without what it does to colours."""
    return MoCoV2Transform(
        input_size=views.size, cj_bright=views.brightness, cj_contrast=views.contrast, min_scale=views.scale[0],
        **_shared(views, mean, std),
    )  # fmt: skip


def by_swav(views: Views, settings: ClusterSettings, mean: float, std: float) -> Transform:
    """Return lightly's transform of SwAV without what it does to colours."""
    both = views, settings.local
    return SwaVTransform(
        crop_sizes=tuple(each.size for each in both), crop_counts=(2, settings.local_crops),
        crop_min_scales=tuple(each.scale[0] for each in both), crop_max_scales=tuple(each.scale[1] for each in both),
        cj_bright=views.brightness, cj_contrast=views.contrast, **_shared(views, mean, std),
    )  # fmt: skip


def _shared(views: Views, mean: float, std: float) -> dict[str, Any]:
    return {
        "hf_prob": views.flip, "cj_prob": views.jitter, "cj_strength": 1.0, "cj_sat": 0.0, "cj_hue": 0.0,
        "random_gray_scale": 0.0, "gaussian_blur": views.blur, "sigmas": views.blur_sigma,
        "normalize": {"mean": [mean], "std": [std]},
    }  # fmt: skip


def load_batches(setting: Setting, files: list[Path], transform: Transform) -> Iterator[list[torch.Tensor]]:
    """Yield batches of views of three equal channels on the device, without end, from workers started anew."""
    pictures = Pictures(files, transform)
    sampler = RandomSampler(pictures, num_samples=10_000 * setting.batch)
    pinned = setting.device.type == "cuda"
    loader = DataLoader(
        pictures, setting.batch, sampler=sampler, num_workers=CORES, pin_memory=pinned, drop_last=True
    )  # fmt: skip
    for views in loader:
        yield [view.to(setting.device, non_blocking=True).expand(-1, 3, -1, -1) for view in views]


def train_ours(plan: Plan, start: Start, setting: Setting) -> Steps:
    """Return the steps of cxrzoo's loop; a plan is trained from where a start stands."""
    optimisation = replace(plan.optimisation, batch_size=setting.batch)
    plan, start = replace(plan, optimisation=optimisation), replace(start, backbone=copy.deepcopy(start.backbone))
    method = build_method(plan, start, modalities=1, findings=0, seed=0)
    fabric = Fabric(accelerator=setting.device.type, devices=1, precision=optimisation.precision)
    training = Training(method, optimisation, setting.radiographs, fabric, seed=0)
    done = 0

    def steps() -> Iterator[torch.Tensor]:
        nonlocal done
        for batch in training.batches(done):
            result = training.take_step(done, batch)
            done += 1
            yield result["loss"].detach()

    return steps


class PlainMoco(nn.Module):
    """MoCo v2 as its paper describes it, on torchvision's network, as its authors' code does."""

    def __init__(self, settings: MocoSettings) -> None:
        super().__init__()
        self.query = torchvision.models.resnet18()
        self.query.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, settings.dimension))
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.settings, self.pointer = settings, 0
        self.register_buffer("queue", functional.normalize(torch.randn(settings.dimension, settings.queue), dim=0))

    def forward(self, query_images: torch.Tensor, key_images: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        queries = functional.normalize(self.query(query_images), dim=1)
        with torch.no_grad():
            for follower, leader in zip(self.key.parameters(), self.query.parameters(), strict=True):
                follower.mul_(self.settings.momentum).add_(leader, alpha=1 - self.settings.momentum)
            order = torch.randperm(len(key_images), device=key_images.device)
            keys = functional.normalize(self.key(key_images[order]), dim=1)[order.argsort()]
        positive = (queries * keys).sum(dim=1, keepdim=True)
        logits = torch.cat([positive, queries @ self.queue.clone()], dim=1) / self.settings.temperature
        self.queue[:, self.pointer : self.pointer + len(keys)] = keys.T
        self.pointer = (self.pointer + len(keys)) % self.queue.shape[1]
        return functional.cross_entropy(logits, torch.zeros(len(keys), dtype=torch.long, device=keys.device))


class LightlyMoco(nn.Module):
    """MoCo v2 of lightly's parts, put together as its documentation shows."""

    def __init__(self, settings: MocoSettings) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
        self.head = MoCoProjectionHead(512, 512, settings.dimension)
        self.momentum = settings.momentum
        self.followers = nn.ModuleList(copy.deepcopy(each).requires_grad_(False) for each in (self.backbone, self.head))
        self.criterion = NTXentLoss(settings.temperature, memory_bank_size=(settings.queue, settings.dimension))

    def forward(self, query_images: torch.Tensor, key_images: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        backbone, head = self.followers
        update_momentum(self.backbone, backbone, self.momentum)
        update_momentum(self.head, head, self.momentum)
        queries = self.head(self.backbone(query_images).flatten(start_dim=1))
        with torch.no_grad():
            shuffled, order = batch_shuffle(key_images)
            keys = batch_unshuffle(head(backbone(shuffled).flatten(start_dim=1)), order)
        return self.criterion(queries, keys)


class LightlySwav(nn.Module):
    """SwAV of lightly's parts, put together as its documentation shows: view after view."""

    def __init__(self, settings: ClusterSettings) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
        self.head = SwaVProjectionHead(512, settings.hidden, settings.dim)
        self.prototypes = SwaVPrototypes(settings.dim, settings.prototypes)
        self.criterion = SwaVLoss(settings.temperature, settings.iterations, settings.epsilon)

    def forward(self, *views: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        self.prototypes.normalize()
        scores = []
        for view in views:
            projections = self.head(self.backbone(view).flatten(start_dim=1))
            scores.append(self.prototypes(functional.normalize(projections, dim=1)))
        return self.criterion(scores[:2], scores[2:])[0]


def train_theirs(model: nn.Module, plan: Plan, setting: Setting, files: list[Path], transform: Transform) -> Steps:
    """Return the steps of a loop that takes views from workers, with the plan's optimizer."""
    model.to(setting.device).train()
    rates = plan.optimisation
    learned = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(
        learned, rates.learning_rate, momentum=rates.momentum, weight_decay=rates.weight_decay
    )  # fmt: skip

    def steps() -> Iterator[torch.Tensor]:
        for views in load_batches(setting, files, transform):
            loss = model(*views)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.detach()

    return steps


def corrupt_singly(clean: torch.Tensor, settings: GmmlSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Return corrupted images and masks by GMML's two stages, image after image and block after block."""
    pixels, masks = clean.clone(), torch.zeros_like(clean)
    height, width = clean.shape[2:]

    def cover(number: int, share: float, other: int | None) -> None:
        while float(masks[number, 0].sum()) < share * height * width:
            top, left = (random.randrange(side - settings.align) for side in (height, width))
            tall, wide = (random.randrange(settings.align, int(settings.max_block * side)) for side in (height, width))
            block = (slice(None), slice(top, top + tall), slice(left, left + wide))
            shape = pixels[number][block].shape
            pixels[number][block] = torch.randn(shape) if other is None else clean[other][block]
            masks[number][block] = 1

    for number in range(len(clean)):  # in GMML, where images are read
        cover(number, random.uniform(min(0.5, settings.drop_perc), settings.drop_perc), None)
    for number in range(len(clean)):  # and where they come together in a batch
        if random.random() < 0.5:
            pixels[number], masks[number] = clean[number], 0
            other = (number + random.randrange(1, len(clean))) % len(clean)
            cover(number, settings.replace, other)
    return pixels, masks


@dataclass
class Timed:
    """Images a second of each pair, and the latest loss."""

    rates: list[float] = field(default_factory=list)
    loss: float = math.nan

    def quartiles(self) -> list[float]:
        """Return them, the median in the middle."""
        return find_quartiles(self.rates)


def find_quartiles(values: list[float]) -> list[float]:
    """Return lower quartile, median and upper quartile."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3


def time_steps(steps: Steps, setting: Setting, count: int, warm_up: int, timed: Timed) -> None:
    """Time so many steps; those before fill what workers hold ready, so that they start as they end."""
    run = steps()
    for _ in range(warm_up):
        timed.loss = float(next(run))
    begun = time.perf_counter()
    for _ in range(count):
        loss = next(run)
    if setting.device.type == "cuda":
        torch.cuda.synchronize()
    timed.rates.append(count * setting.batch / (time.perf_counter() - begun))
    timed.loss = float(loss)
    run.close()  # type: ignore[attr-defined]


def measure_busy(steps: Steps, setting: Setting, count: int, warm_up: int, rate: float) -> float:
    """Return the share of the time in which a GPU computes or copies, of steps as fast as they are unobserved."""
    run = steps()
    for _ in range(warm_up):
        next(run)
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(count):
            next(run)
        torch.cuda.synchronize()
    run.close()  # type: ignore[attr-defined]
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        # a named range is no work: it spans the gaps between kernels
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
    )
    busy, reached = 0.0, -math.inf
    for begun, ended in spans:
        busy += max(ended - max(begun, reached), 0)
        reached = max(reached, ended)
    return busy / 1e6 * rate / (count * setting.batch)


def show(title: str, sides: dict[str, Timed], *, busy: dict[str, float] | None = None) -> None:
    """Print a table; ratios are to the last side, pair by pair."""
    peer = list(sides.values())[-1]
    print(f"\n{title}; {len(peer.rates)} pairs")
    print(f"  {'':46} images/s  (quartiles)         times the last row (quartiles)")
    for name, timed in sides.items():
        low, middle, high = timed.quartiles()
        ratios = find_quartiles([a / b for a, b in zip(timed.rates, peer.rates, strict=True)])
        shown = f"{ratios[1]:.2f} ({ratios[0]:.2f} to {ratios[2]:.2f})" if timed is not peer else ""
        loss = "" if math.isnan(timed.loss) else f"  loss {timed.loss:.2f}"
        share = f"  GPU busy {busy[name]:.0%}" if busy else ""
        print(
            f"  {name:46} {middle:8.1f}  ({low:.1f} to {high:.1f})".ljust(78) + f"{shown:26}{loss}{share}", flush=True
        )


def compare_training(title: str, sides: dict[str, Steps], setting: Setting, given: argparse.Namespace) -> None:
    """Time all sides by turns, and print them; the last one is the peer."""
    timed = {name: Timed() for name in sides}
    count = given.steps * (10 if setting.device.type == "cuda" else 1)
    for _ in range(given.pairs):
        for name, steps in sides.items():
            time_steps(steps, setting, count, given.warm_up, timed[name])
    busy = None
    if setting.device.type == "cuda":
        busy = {
            name: measure_busy(steps, setting, count, given.warm_up, timed[name].quartiles()[1])
            for name, steps in sides.items()
        }
    show(title, timed, busy=busy)


def compare_calls(title: str, images: int, calls: dict[str, Callable[[], object]], pairs: int) -> None:
    """Time all calls by turns on one thread, and print them; the last one is the peer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    timed = {name: Timed() for name in calls}
    for number in range(pairs + 1):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if number:
                timed[name].rates.append(images / (time.perf_counter() - begun))
    torch.set_num_threads(threads)
    show(title, timed)


def list_files(data: Path | None, count: int, room: Path) -> tuple[Path, list[str]]:
    """Return a folder and radiographs in it, of all its tables that have paths; without any, made-up ones."""
    paths: list[str] = []
    for table in sorted(data.glob("*.csv")) if data else []:
        with table.open(newline="", encoding="utf-8") as file:
            paths += [row["path"] for row in csv.DictReader(file) if row.get("path")]
    if data and paths:
        return data, random.Random(0).sample(paths, min(count, len(paths)))
    print("There are no tables of radiographs: these images are made up.")
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 10), np.uint8)).resize((420, 512), Image.Resampling.BICUBIC)
        grainy = np.clip(np.asarray(coarse) + rng.normal(0, 4, (512, 420)), 0, 255).astype(np.uint8)
        Image.fromarray(grainy).save(room / f"{number}.jpg", quality=90)
    return room, [f"{number}.jpg" for number in range(count)]


def prepare(given: argparse.Namespace, room: Path) -> Setting:
    """Return the images as each side reads them."""
    root, paths = list_files(given.data, given.images, room)
    table = room / "images.csv"
    table.write_text("path\n" + "\n".join(paths) + "\n", encoding="utf-8")
    begun = time.perf_counter()
    kept = keep_radiographs(list_images(table, root=root), room / "kept", SIDE)
    seconds = time.perf_counter() - begun
    paths = [path for row, path in enumerate(paths) if row not in kept.failures]
    small = []
    for number, (first, (height, width)) in enumerate(zip(kept.starts, kept.sizes, strict=True)):
        small.append(room / f"small-{number}.jpg")
        pixels = kept.pixels[first : first + height * width].reshape(height, width)
        Image.fromarray(np.array(pixels)).save(small[-1], quality=95)
    sides = []
    for path in paths:
        with Image.open(root / path) as picture:
            sides.append(min(picture.size))
    print(
        f"{len(kept)} radiographs, shorter sides {min(sides)} to {max(sides)} px, median {statistics.median(sides):g}; "
        f"cxrzoo keeps them once, at {SIDE} px, in {seconds:.1f} s\n"
        f"batches of {given.batch}, float32, {torch.get_num_threads()} threads, {CORES} workers of the others, "
        f"torch {torch.__version__}",
        flush=True,
    )
    mean, std = kept.measure()
    return Setting([root / path for path in paths], small, kept, mean, std, given.batch, torch.device("cpu"))


def measure_training(plan: Plan, start: Start, setting: Setting, given: argparse.Namespace) -> None:
    """Print MoCo against both peers, and clustering against lightly's SwAV."""
    settings = plan.moco or MocoSettings()
    constants = setting.mean, setting.std
    half = replace(plan, optimisation=replace(plan.optimisation, precision="bf16-mixed"))
    where = setting.device.type
    views = by_torchvision(plan.views, *constants)
    ours = {
        "cxrzoo": train_ours(plan, start, setting),
        "cxrzoo, bf16-mixed": train_ours(half, start, setting),
    }
    loops = {
        f"MoCo's loop, files kept at {SIDE} px": train_theirs(PlainMoco(settings), plan, setting, setting.small, views),
        "MoCo's loop, files as they are": train_theirs(PlainMoco(settings), plan, setting, setting.files, views),
    }
    title = f"MoCo v2, ResNet-18, {SIZE} px, on {where}"
    compare_training(f"{title}: views of {plan.name}", ours | loops, setting, given)
    of_lightly = {
        "cxrzoo": train_ours(replace(plan, views=MOCO_V2), start, setting),
        "lightly": train_theirs(LightlyMoco(settings), plan, setting, setting.files, by_lightly(MOCO_V2, *constants)),
    }
    compare_training(f"{title}: MoCo v2's views in grey", of_lightly, setting, given)
    cluster = replace(plan, method="cluster", views=SWAV, moco=None, cluster=CLUSTER)
    of_swav = {
        "cxrzoo": train_ours(cluster, start, setting),
        "lightly": train_theirs(LightlySwav(CLUSTER), plan, setting, setting.files, by_swav(SWAV, CLUSTER, *constants)),
    }
    crops = f"2 views of {SIZE} px and {CLUSTER.local_crops} of {LOCAL}"
    compare_training(f"Clustering, ResNet-18, {crops}, on {where}: SwAV's views in grey", of_swav, setting, given)


def measure_parts(plan: Plan, setting: Setting, given: argparse.Namespace) -> None:
    """Print what reading and two views of an image take without a network, and what corrupting does; on one thread."""
    rows, draws = np.arange(setting.batch) % len(setting.files), torch.Generator().manual_seed(0)
    constants = setting.mean, setting.std

    def draw(views: Views) -> None:
        batch = setting.radiographs.fetch(rows)
        for _ in range(2):
            normalise(draw_views(batch, views, draws), (setting.mean,), (setting.std,))

    def read(files: list[Path], transform: Transform) -> None:
        pictures = Pictures(files, transform)
        for row in rows:
            pictures[row]

    views, lightly = by_torchvision(plan.views, *constants), by_lightly(MOCO_V2, *constants)
    calls: dict[str, Callable[[], object]] = {
        "cxrzoo": lambda: draw(plan.views),
        f"torchvision, files kept at {SIDE} px": lambda: read(setting.small, views),
        "torchvision, files as they are": lambda: read(setting.files, views),
    }
    title = "Reading and two views alone, one thread"
    compare_calls(f"{title}: views of {plan.name}", setting.batch, calls, given.pairs)
    calls = {"cxrzoo": lambda: draw(MOCO_V2), "lightly": lambda: read(setting.files, lightly)}
    compare_calls(f"{title}: MoCo v2's views in grey", setting.batch, calls, given.pairs)
    clean = torch.randn(setting.batch, 3, 224, 224)
    calls = {
        "cxrzoo": lambda: corrupt(clean, GmmlSettings(), draws),
        "an image at a time": lambda: corrupt_singly(clean, GmmlSettings()),
    }
    compare_calls("GMML's corruption of 3 x 224 x 224 alone, one thread", setting.batch, calls, given.pairs)


def main() -> None:
    """Print all tables: on the processor, and on a GPU where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with tables of radiographs, in a column `path`")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="timed in each half of a pair; on a GPU ten times as many")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before, which workers fill their queue in")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # Fabric's, on how many processes there could be
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    random.seed(0)
    torch.manual_seed(0)
    # a constant learning rate, as the others have, for as many steps as are wanted
    rates = {"optimisation.precision": "32-true", "optimisation.warmup_epochs": 0, "optimisation.epochs": 100_000}
    plan = load_plan("moco-opencxr-resnet18", rates)
    with tempfile.TemporaryDirectory() as room:
        setting = prepare(given, Path(room))
        start = build_start(plan, seed=0)
        measure_parts(plan, setting, given)
        measure_training(plan, start, setting, given)
        if torch.cuda.is_available():
            print(f"\n{torch.cuda.get_device_name()}")
            measure_training(plan, start, replace(setting, device=torch.device("cuda")), given)
        else:
            print("\nThere is no GPU here: nothing is measured on one.")


if __name__ == "__main__":
    main()
