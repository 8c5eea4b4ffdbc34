"""`segtool push`: upload a run or bundle to the Hugging Face hub."""

import json
import tempfile
from pathlib import Path
from typing import Any

from segtool.core.artifacts.stamps import Stamp
from segtool.core.documents import read_json
from segtool.core.inference.runs import open_runs
from segtool.core.models.bundles import write_bundle
from segtool.core.models.hub import upload
from segtool.core.reporting.tables import Result
from segtool.settings.push import PushSettings


def run(settings: PushSettings) -> Result:
    """Pack the run unless it is a bundle, and upload it with a model card."""
    runs = list(open_runs([settings.run], "best").values())
    card = _card(settings.repo, [run.path for run in runs])
    with tempfile.TemporaryDirectory(prefix="segtool-") as folder:
        bundle = settings.run if settings.run.is_file() else Path(folder) / "run.zip"
        if bundle != settings.run:
            write_bundle(bundle, {run.path: list(run.checkpoints) for run in runs})
        address = upload(bundle, settings.repo, card, private=settings.private)
    return Result(f"{address}: {len(runs)} run(s); predict with --run hf:{settings.repo}")


def _card(repo: str, folders: list[Path]) -> str:
    """Return the README of the repository: what the networks are, how they score, and how to use them."""
    rows = []
    for number, folder in enumerate(folders, 1):
        config, stamp = read_json(folder / "config.json", dict[str, Any]), read_json(folder / "done.json", Stamp)
        network, best = config.get("network", {}), stamp.get("best")
        score = "" if best is None else f"{stamp.get('monitor')} {best:.4f}"
        rows.append(f"| {number} | {network.get('arch')} | {network.get('encoder')} | {score} |")
    classes = json.dumps(network.get("classes", []), ensure_ascii=False)
    return f"""---
library_name: segtool
pipeline_tag: image-segmentation
---
# {repo}

| run | architecture | encoder | best on its validation images |
| --- | --- | --- | --- |
{chr(10).join(rows)}

Classes, in the order of their ids: `{classes}`

```sh
segtool predict photos --run hf:{repo} -o preds
```
"""
