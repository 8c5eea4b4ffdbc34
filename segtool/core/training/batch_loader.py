"""The stream of augmented batches that a run trains on."""

from collections.abc import Iterable, Iterator

from segtool.core.dataloading.augmentation import Augmentation
from segtool.core.dataloading.batches import Batch, Collate
from segtool.core.dataloading.loader import make_loader
from segtool.core.dataloading.samples import TrainingSamples
from segtool.core.dataloading.sampling import BatchPlan, Key, mean_weight, repeat_factors
from segtool.core.models.build import DIVISOR
from segtool.core.training.context import RunContext


class BatchLoader:
    """Plans the micro-batches of a run and reads them; both depend on the seed, epoch and update alone."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        settings, units, intensity = context.settings, context.units, context.spec.intensity
        # Planes are painted with 0 for no class, which is never rare.
        shares = (1.0, *units.shares) if context.spec.multi and units.shares else units.shares
        augmentation = Augmentation(settings.augmentation, settings.size, intensity.fill, shares, dtype=intensity.dtype)
        oversample = settings.extras.oversample
        self.factors = repeat_factors(units.counts, oversample) if oversample and units.counts is not None else None
        weight = mean_weight([record.weight for record in units.records], self.factors)
        self.samples = TrainingSamples(
            context.dataset, units, context.spec.resize, augmentation, settings.loop.seed, weight, intensity
        )
        self.collate = Collate(intensity.fill, DIVISOR)

    def plan(self, epochs: range, skip: int = 0) -> BatchPlan:
        """Return the micro-batches of some epochs, counted from 0, without those of the first `skip` updates."""
        settings, world = self.context.settings, self.context.world
        return BatchPlan(
            len(self.context.units),
            batch=settings.optimizer.batch,
            accumulate=settings.optimizer.accumulate,
            seed=settings.loop.seed,
            epochs=epochs,
            skip=skip,
            rank=world.rank,
            world=world.size,
            factors=self.factors,
        )

    def load(self, plan: Iterable[list[Key]]) -> Iterator[Batch]:
        """Read and augment the images of a plan, in its order."""
        return make_loader(self.samples, plan, self.collate, self.context.settings.machine.workers)
