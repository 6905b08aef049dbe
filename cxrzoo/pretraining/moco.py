"""Momentum contrast (MoCo v1 and v2) as MoCo-CXR was launched; arXiv:1911.05722, 2003.04297, 2010.05352."""

import copy
import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from cxrzoo.errors import PretrainingError, RecordError
from cxrzoo.pretraining.batches import Batch, Progress
from cxrzoo.pretraining.method import Method, count_features
from cxrzoo.pretraining.ranks import from_first, gather, rank, world_size
from cxrzoo.pretraining.views import Views, draw_views, normalise

logger = logging.getLogger("cxrzoo")


@dataclass(frozen=True)
class MocoSettings:
    """What MoCo adds to a plan; the defaults are those that MoCo-CXR was launched with.

    `queue` is how many keys negatives are taken from, `momentum` how slowly the key encoder follows, `dimension` the
    length of a key. `head` is "linear" in MoCo v1 and "mlp" in v2.
    """

    queue: int = 24_576  # MoCo-CXR, main_moco.py:91 of d433aca
    momentum: float = 0.999  # the same file's default
    temperature: float = 0.2  # scripts/…/r8w1n416.sh, where the file's default is .07
    dimension: int = 128
    head: str = "mlp"  # the same script

    def __post_init__(self) -> None:
        if self.head not in ("mlp", "linear"):
            raise RecordError(f"moco: head: found {self.head!r}, expected 'mlp' or 'linear'.")
        if not 0 <= self.momentum <= 1:
            raise RecordError(f"moco: momentum: found {self.momentum:g}, expected a number from 0 to 1.")
        if min(self.queue, self.dimension) < 1 or self.temperature <= 0:
            raise RecordError("moco: queue, dimension and temperature must be above 0.")


class Encoder(nn.Module):
    """A backbone and its projection head; a row of what it gives has length 1."""

    def __init__(self, backbone: nn.Module, settings: MocoSettings) -> None:
        super().__init__()
        self.backbone = backbone
        width = count_features(backbone)
        last = nn.Linear(width, settings.dimension)
        self.head: nn.Module = (
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), last) if settings.head == "mlp" else last
        )

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the embeddings, and the projections of length 1 in float32."""
        embeddings = self.backbone(inputs)
        return embeddings, functional.normalize(self.head(embeddings).float(), dim=1)


class Moco(Method):
    """A query encoder that is trained, a key encoder that follows it, and a queue of the latest keys."""

    queue: torch.Tensor
    filled: torch.Tensor
    pointer: torch.Tensor

    def __init__(
        self,
        backbone: nn.Module,
        settings: MocoSettings,
        views: Views,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        batch_size: int,
        seed: int = 0,
    ) -> None:
        """Take a backbone for query and key encoder.

        Args:
            batch_size: Images a step over all processes, which must divide the queue: the queue is made shorter.

        Raises:
            PretrainingError: A batch is larger than the queue.
        """
        super().__init__()
        length = settings.queue // batch_size * batch_size
        if not length:
            raise PretrainingError(
                f"found a queue of {settings.queue} keys for batches of {batch_size}, expected one that holds a batch "
                "at least. Make the queue longer, or the batches smaller."
            )
        if length != settings.queue:
            logger.warning("The queue is %d keys long, not %d: a multiple of the batch.", length, settings.queue)
        self.settings, self.views, self.mean, self.std = settings, views, mean, std
        self.encoder_q = Encoder(backbone, settings)
        self.encoder_k = copy.deepcopy(self.encoder_q).requires_grad_(False)
        draws = torch.Generator().manual_seed(seed)
        self.register_buffer(
            "queue", functional.normalize(torch.randn(settings.dimension, length, generator=draws), dim=0)
        )
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))
        self.register_buffer("filled", torch.zeros(1, dtype=torch.long))

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        """The query encoder's, whose statistics are those of training images."""
        return self.encoder_q.backbone

    def forward(self, batch: Batch, progress: Progress) -> dict[str, torch.Tensor]:
        """Compare each image's query with its key and with the queue, which then takes the keys."""
        queries_in, keys_in = (self._draw(batch, progress) for _ in range(2))
        embeddings, queries = self.encoder_q(queries_in)
        with torch.no_grad():
            self._follow()
            keys = self._encode_keys(keys_in, progress)
        with torch.autocast(queries.device.type, enabled=False):
            positive = (queries * keys).sum(dim=1, keepdim=True)
            logits = torch.cat([positive, queries @ self.queue.clone()], dim=1) / self.settings.temperature
            loss = functional.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))
        result = {
            "loss": loss,
            "embeddings": embeddings.detach().float(),
            "accuracy": (logits.detach().argmax(dim=1) == 0).float().mean(),
            "queue_age": self.filled.float().mean() / (2 * len(queries) * world_size()),
        }
        self._enqueue(gather(keys))
        return result

    def _draw(self, batch: Batch, progress: Progress) -> torch.Tensor:
        with torch.autocast(batch.pixels.device.type, enabled=False):
            return normalise(draw_views(batch, self.views, progress.draws), self.mean, self.std)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the key encoder towards the query encoder: parameters only, as in MoCo-CXR's builder.py:77-82."""
        keys, queries = ([each.detach() for each in one.parameters()] for one in (self.encoder_k, self.encoder_q))
        torch._foreach_lerp_(keys, queries, 1 - self.settings.momentum)

    def _encode_keys(self, inputs: torch.Tensor, progress: Progress) -> torch.Tensor:
        """Return the keys of this process's images; computed elsewhere, so that no statistics give partners away."""
        if world_size() == 1:  # in another order, a batch has the same statistics
            return self.encoder_k(inputs)[1]  # type: ignore[no-any-return]
        everything = gather(inputs)
        order = from_first(torch.randperm(len(everything), generator=progress.draws, device=inputs.device))
        own = slice(rank() * len(inputs), (rank() + 1) * len(inputs))
        shuffled = gather(self.encoder_k(everything[order[own]])[1])
        return shuffled[order.argsort()[own]]

    @torch.no_grad()
    def _enqueue(self, keys: torch.Tensor) -> None:
        """Put the keys where the oldest ones are."""
        length = self.queue.shape[1]
        if length % len(keys):
            raise PretrainingError(
                f"found a batch of {len(keys)} keys and a queue of {length}, expected a queue that batches fill."
            )
        columns = (self.pointer + torch.arange(len(keys), device=keys.device)) % length
        self.queue[:, columns] = keys.T.to(self.queue.dtype)
        self.pointer.add_(len(keys)).remainder_(length)
        self.filled.add_(len(keys)).clamp_(max=length)

    def export(self, epoch: int, optimizer: dict[str, Any]) -> dict[str, Any]:
        """Return the checkpoint as MoCo writes it: main_moco.py, with the names of DistributedDataParallel.

        The head stands where the classifier was, under that name.
        """
        facts = self.backbone.pretrained_cfg
        state = {}
        for encoder in ("encoder_q", "encoder_k"):
            own = getattr(self, encoder).state_dict()
            for name, tensor in own.items():
                part, _, rest = name.partition(".")
                key = rest if part == "backbone" else f"{facts['classifier']}.{rest}"  # type: ignore[index]
                state[f"module.{encoder}.{key}"] = tensor
        state |= {"module.queue": self.queue, "module.queue_ptr": self.pointer}
        return {"epoch": epoch, "arch": facts["architecture"], "state_dict": state, "optimizer": optimizer}  # type: ignore[index]

    def file_name(self, epoch: int) -> str:
        """Return the name that MoCo gives the file."""
        return f"checkpoint_{epoch:04d}.pth.tar"
