"""What evidence is measured with: the open weights that are there, what they are held against, the tables."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cxrzoo.evaluation.claims import read_plan
from cxrzoo.evaluation.comparison import Contender
from cxrzoo.evaluation.contenders import Entry, list_entries
from cxrzoo.evaluation.tables import LabelTable, read_table

DOCS = Path(__file__).resolve().parent
HUB, WORK, PROTOCOL = DOCS.parent / "hub", DOCS.parent / "report" / "evidence", DOCS / "few-labels.toml"
SEED = 0


@dataclass
class Bench:
    """What is measured, and where: the models that are there, their floors, the tables."""

    data: Path
    models: Path
    device: str
    workers: int
    _described: dict[str, Contender] = field(default_factory=dict)

    @cached_property
    def ours(self) -> list[str]:
        """The models of the plan that are there, as `cxrzoo compare` takes them."""
        names = [name for name in read_plan(DOCS).models if (self.models / name).is_dir()]
        return names if self.models == HUB else [str(self.models / name) for name in names]

    @cached_property
    def floors(self) -> dict[str, str]:
        """The random network of each model; models of one architecture and preprocessing share the first one's."""
        known: dict[tuple[str, str], str] = {}
        floors = {}
        for model in self.ours:
            floor = f"untrained:{model}"
            contender = self.describe(floor)
            floors[model] = known.setdefault((contender.weights_sha256, contender.preprocessing_sha256), floor)
        return floors

    @cached_property
    def references(self) -> list[str]:
        """Models with weights of others, the first of which is the baseline of all."""
        return list(read_plan(DOCS).references)

    @cached_property
    def kin(self) -> dict[str, list[str]]:
        """Of each reference that takes images as some of ours do, in the same network: those of ours."""
        ours = {model: self._shape(model) for model in self.ours}
        kin = {
            reference: [model for model, shape in ours.items() if shape == self._shape(reference)]
            for reference in self.references
        }
        return {reference: models for reference, models in kin.items() if models}

    def _shape(self, model: str) -> tuple[str, tuple[int, ...]]:
        backbone = self.find(model).load()
        return str(backbone.pretrained_cfg["architecture"]), backbone.transform.record.input_size

    @cached_property
    def alike(self) -> list[str]:
        """Ours, and what differs from them in the weights alone."""
        return [*self.ours, *self.kin, *dict.fromkeys(self.floors.values())]

    @cached_property
    def everything(self) -> list[str]:
        """All that is compared."""
        return [*self.ours, *self.references, *dict.fromkeys(self.floors.values())]

    def describe(self, model: str) -> Contender:
        """Return what identifies a model, as comparisons record it."""
        if model not in self._described:
            self._described[model] = self._describe(model)
        return self._described[model]

    def _describe(self, model: str) -> Contender:
        entry = self.find(model)
        backbone = entry.load()
        facts = backbone.provenance
        return Contender(
            name=entry.name,
            kind=entry.kind,
            weights_sha256=facts.weights_sha256,
            preprocessing=facts.preprocessing,
            preprocessing_sha256=facts.preprocessing_sha256,
            dimension=facts.dimension,
            architecture=str(backbone.pretrained_cfg.get("architecture", "")),
        )

    def find(self, model: str) -> Entry:
        """Return a model as comparisons take it."""
        (entry,) = list_entries([model])
        return entry

    def read_kermany(self) -> LabelTable:
        """Return the children's radiographs, with the split of their publishers."""
        return read_table(self.data / "kermany.csv", ["pneumonia=label"], patient_ids="per-split")
