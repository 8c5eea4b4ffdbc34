"""MLflow: the server or store in MLFLOW_TRACKING_URI, else MLflow's own local one."""

import math
from collections.abc import Mapping, Sequence

from segtool.core.tracking.tracker import Overlay, Target

# Characters that MLflow takes of a setting, and in the names of metrics.
LONGEST = 500
ALLOWED = set("_-. /:")


class MlflowTracker:
    """A run of an MLflow experiment."""

    def __init__(self, target: Target) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self.client = MlflowClient()
        found = self.client.get_experiment_by_name(target.project)
        experiment = found.experiment_id if found else self.client.create_experiment(target.project)
        known = target.known_id("mlflow")
        if known:
            self.run_id = known
            self.client.update_run(known, status="RUNNING")
        else:
            self.run_id = self.client.create_run(experiment, run_name=target.name).info.run_id
            settings = target.settings().items()
            self.client.log_batch(self.run_id, params=[Param(key, str(value)[:LONGEST]) for key, value in settings])
            target.keep_id("mlflow", self.run_id)

    def scalars(self, kind: str, values: Mapping[str, float], step: int) -> None:
        """Log all values at once."""
        import time

        from mlflow.entities import Metric

        now = int(1000 * time.time())
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.client.log_batch(
            self.run_id, metrics=[Metric(_name(f"{kind}/{name}"), value, now, step) for name, value in finite.items()]
        )

    def images(self, overlays: Sequence[Overlay], epoch: int) -> None:
        """Log image, truth and prediction beside each other as a picture."""
        for number, overlay in enumerate(overlays):
            self.client.log_image(self.run_id, overlay.strip, f"validation/epoch_{epoch:03d}_{number:02d}.png")

    def close(self) -> None:
        """Mark the run as ended."""
        self.client.set_terminated(self.run_id)


def _name(text: str) -> str:
    """Return a name with a dash for each character that MLflow refuses."""
    return "".join(letter if letter.isalnum() or letter in ALLOWED else "-" for letter in text)
