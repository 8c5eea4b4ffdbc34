"""The page: sections in the order in which questions come, put into one file by jinja2."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segtool import __version__
from segtool.core.documents import read_json
from segtool.core.report import class_tables, page_tables
from segtool.core.report.page_tables import PageTable, cell
from segtool.core.report.scored import ScoredPredictions
from segtool.core.reporting import plots
from segtool.core.scoring.objects import size_table
from segtool.core.scoring.pixel_counts import NAME, PixelCounts, read_pixel_counts
from segtool.core.scoring.scores import ScoreBoard
from segtool.core.tables import read_csv, read_table, to_number

if TYPE_CHECKING:
    import pandas as pd

TEMPLATES = Path(__file__).parent / "templates"
# Rows of a table of suspected masks, duplicates or faults.
ROWS = 300
# Classes whose confusion matrix fills half the page.
NARROW = 12
# Curves of a history, by panel: the columns of each, as the legend names them.
PANELS = {
    "loss": plots.LOSSES,
    "score": plots.SCORES,
    "learning rate": {"lr": "learning rate"},
}


@dataclass
class Section:
    """A part of the page: its anchor, what it says, plots as SVG, PNGs (address, what it shows), and tables."""

    anchor: str
    title: str
    text: str = ""
    facts: Sequence[tuple[str, str]] = ()
    svgs: list[str] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)
    tables: list[PageTable] = field(default_factory=list)
    confusion: Any = None
    gallery: bool = False
    # Text whose columns stand below each other.
    listing: str = ""
    # It is narrow: two of them stand side by side on a wide screen.
    half: bool = False


def learning_curves(runs: Sequence[Path]) -> Section:
    """Return the curves of one run or two in the same panels."""
    lines: dict[str, dict[str, Any]] = {title: {} for title in PANELS}
    facts = []
    for run in runs:
        rows = read_csv(run / "history.csv")
        epochs = [to_number(row["epoch"], run) for row in rows]
        prefix = f"{run.name} " if len(runs) > 1 else ""
        for title, columns in PANELS.items():
            for column, name in columns.items():
                values = [to_number(row.get(column, ""), run / "history.csv") for row in rows]
                if not all(map(math.isnan, values)):
                    lines[title][prefix + name] = (epochs, values)
        stamp = read_json(run / "done.json", dict[str, Any])
        config = read_json(run / "config.json", dict[str, Any])
        settings = config.get("settings", {})
        facts.append((str(run), f"{settings.get('arch')} with {settings.get('encoder')}, loss {settings.get('loss')}"))
        if stamp.get("best") is not None:
            name = page_tables.HEADINGS.get(stamp["monitor"], stamp["monitor"])
            facts.append(("best", f"{name} {stamp['best']:.4f} in epoch {stamp['best_epoch']}"))
        if complexity := config.get("complexity"):
            facts.append(("network", f"{complexity['parameters'] / 1e6:.1f} M parameters"))
    drawn = [plots.as_svg(plots.curves({title: curves})) for title, curves in lines.items() if curves]
    return Section("curves", "Learning curves", facts=facts, svgs=drawn)


def counts_of(scored: ScoredPredictions) -> PixelCounts | None:
    """Return the pixel counts of scored predictions, as `evaluate` keeps them."""
    if scored.evaluation is None:
        return None
    board = scored.evaluation.board
    counts = np.array(list(board.per_image.values()), np.int64)
    groups = tuple(one.record.group or "" for one in scored.scores)
    return PixelCounts(tuple(board.per_image), groups, board.classes, counts)


def classes_section(
    anchor: str, title: str, counts: Sequence[tuple[str, PixelCounts]], exclude: Sequence[str]
) -> Section:
    """Return the scores of each class of the first set, and what the second has more or less.

    Args:
        counts: names of the sets and their pixels.
        exclude: classes left out of the means.
    """
    (name, first), *others = counts
    text = f"Over all pixels of {name}."
    section = Section(anchor, title, text, tables=[class_tables.class_table(first)], half=not others)
    if others:
        section.text = f"First: {name}. Second: {others[0][0]}."
        made = class_tables.comparison(first, others[0][1], exclude)
        if isinstance(made, str):
            section.text += f" {made}"
        else:
            section.tables.append(made)
    return section


def scores_sections(scored: ScoredPredictions, second: ScoredPredictions | None) -> list[Section]:
    """Return confusion matrix, objects by size, and the images' scores, beside those of a second set."""
    evaluation, sections = scored.evaluation, []
    assert evaluation is not None
    board = evaluation.board
    if isinstance(board, ScoreBoard):
        sections.append(confusion_section(board.classes, board.total))
    classes = ["", *board.classes] if scored.dataset.multi else board.classes
    sections.append(sizes_section(size_table(evaluation.sizes, classes, evaluation.size_bins), evaluation.size_bins))
    other = second.evaluation.board.table() if second and second.evaluation else None
    sections.append(images_section(board.table(), other))
    return sections


def confusion_section(classes: Sequence[str], matrix: np.ndarray) -> Section:
    """Return a confusion matrix (C, C), rows truth."""
    text = "Rows are true classes, columns predicted ones: per cent of the true class's pixels."
    table = {"classes": classes, "rows": page_tables.confusion_cells(matrix)}
    return Section("confusion", "Confusion", text, confusion=table, half=len(classes) <= NARROW)


def sizes_section(frame: "pd.DataFrame", borders: Sequence[int]) -> Section:
    """Return the scores of objects by size, a table as by_size.csv."""
    return Section("sizes", "Objects by size", tables=[page_tables.size_table(frame, borders)], half=True)


def images_section(frame: "pd.DataFrame", second: "pd.DataFrame | None" = None) -> Section:
    """Return each image's scores, a table as per_image.csv; of a second set, too, where both have the image."""
    frame = frame.iloc[:, :4].sort_values("miou", kind="stable")
    values = frame["miou"].to_numpy(np.float64)
    drawn = plots.as_svg(plots.histogram(values, "mIoU of an image"))
    table = page_tables.from_frame("Scores of each image", frame, bars=("miou",))
    if second is not None and set(second["image_id"]) & set(frame["image_id"]):
        others = dict(zip(second["image_id"], second["miou"].tolist(), strict=True))
        rows = []
        for row, image_id, miou in zip(table.rows, frame["image_id"], values.tolist(), strict=True):
            other = others.get(image_id, math.nan)
            rows.append([*row[:2], cell(other, bar=True), cell(other - miou, signed=True), *row[2:]])
        columns = [*table.columns[:2], "second", "second − first", *table.columns[2:]]
        table = table._replace(columns=columns, rows=rows)
    return Section("images", "Images", svgs=[drawn], tables=[table], half=True)


def kept_sections(folder: Path) -> list[Section]:
    """Return what an evaluation or a run has kept in tables: for predictions that are gone."""
    sections = []
    if (file := folder / "confusion.csv").is_file():
        frame = read_table(file, ("truth",))
        sections.append(confusion_section(list(frame["truth"]), frame.iloc[:, 1:].to_numpy(object).astype(np.int64)))
    if (file := folder / "by_size.csv").is_file():
        borders = read_json(folder / "summary.json", dict[str, Any]).get("size_bins", ())
        sections.append(sizes_section(_numbers(read_table(file, ("objects",))), borders))
    if (file := folder / "per_image.csv").is_file():
        frame = _numbers(read_table(file, ("image_id", "miou")))
        if len(frame):
            sections.append(images_section(frame))
    return sections


def noise_section(path: Path, number: int) -> Section:
    """Return what `noise-rank` suspects, and its sheet of pictures if it lies beside the table."""
    frame = read_table(path, ("image_id",))
    kept = [
        c
        for c in (
            "image_id",
            "class",
            "score",
            "suspicion",
            "miou",
            "worst_class",
            "worst_iou",
            "region_label",
            "region_pred",
            "region_share",
            "note",
        )
        if c in frame
    ]
    shown = _numbers(frame[kept].head(ROWS))
    pictures = _pngs(path.with_suffix(".png"))
    text = f"The labels that look least right to models that never saw them: {len(shown)} of {len(frame)}, worst first."
    made = [page_tables.from_frame("", shown)]
    return Section(f"noise-{number}", f"Suspected labels: {path.name}", text, pictures=pictures, tables=made)


def pseudo_section(path: Path, number: int) -> Section:
    """Return what `pseudo` accepted, by class and by image."""
    made = [page_tables.from_frame("By class", _numbers(read_table(path / "per_class.csv")), bars=("share",))]
    images = _numbers(read_table(path / "per_image.csv"))
    made.append(page_tables.from_frame("By image", images.head(ROWS), bars=("confident",)))
    text = f"Which pixels became labels; {len(images)} images."
    return Section(f"pseudo-{number}", f"Pseudo-labels: {path.name}", text, tables=made)


def threshold_section(path: Path, number: int) -> Section:
    """Return the fitted thresholds, what each step gained, and the curves."""
    content = read_json(path, dict[str, Any])
    made = []
    import pandas as pd

    if classes := content.get("classes"):
        rows = [{"class": name, **rule} for name, rule in classes.items()] if isinstance(classes, dict) else []
        made.append(page_tables.from_frame("Rules", pd.DataFrame(rows)))
    if steps := content.get("steps"):
        made.append(page_tables.from_frame("What each step gains", pd.DataFrame(steps)))
    scores = content.get("scores", {})
    facts = [(name.replace("_", " "), f"{value:.4f}") for name, value in scores.items() if isinstance(value, float)]
    pictures = _pngs(path.with_suffix(".curves.png"))
    text = "Fitted out-of-fold; the nested score is what to expect on new images."
    return Section(f"threshold-{number}", f"Thresholds: {path.name}", text, facts, pictures=pictures, tables=made)


def inspect_section(path: Path, number: int) -> Section:
    """Return what `inspect` found: its advice, classes, faults and pictures."""
    made = [page_tables.from_frame("Classes", _numbers(read_table(path / "classes.csv")))]
    for name, title in (("faults", "Faults"), ("duplicates", "Near-duplicates")):
        if (file := path / f"{name}.csv").is_file() and len(frame := _numbers(read_table(file))):
            made.append(
                page_tables.from_frame(title, frame.head(ROWS), note=f"{min(ROWS, len(frame))} of {len(frame)}")
            )
    names = ("class_shares.png", "sizes.png", "examples.png", "duplicates.png")
    pictures = _pngs(*(path / name for name in names))
    text = (path / "report.txt").read_text(encoding="utf-8") if (path / "report.txt").is_file() else ""
    return Section(f"inspect-{number}", f"The data: {path.name}", listing=text, pictures=pictures, tables=made)


def run_counts(folders: Sequence[Path]) -> list[tuple[str, PixelCounts]]:
    """Return the pixel counts that runs or evaluations have kept."""
    return [(str(folder), read_pixel_counts(folder / NAME)) for folder in folders if (folder / NAME).is_file()]


def render(
    title: str,
    scores: Sequence[tuple[str, str]],
    summary: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    gallery: Mapping[str, Any],
) -> str:
    """Return the page: one HTML file with all styles, pictures and data in it."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    parts = {name: (TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js")}
    return environment.get_template("report.html").render(
        title=title,
        scores=scores,
        summary=summary,
        sections=sections,
        gallery=gallery,
        version=__version__,
        css=parts["report.css"],
        js=parts["report.js"],
    )


def _numbers(frame: Any) -> Any:
    """Turn columns of plain numbers, which were read as text, into numbers; names stay as they are."""
    import pandas as pd

    made = {}
    for name in frame.columns:
        known = frame[name].str.strip() != ""
        numbers = pd.to_numeric(frame[name].where(known), errors="coerce")
        plain = known.any() and not numbers[known].isna().any() and name not in ("image_id", "class", "group")
        share = name.endswith(("iou", "share", "score", "dice"))
        whole = plain and not share and known.all() and (numbers % 1 == 0).all()
        made[name] = numbers.astype("int64") if whole else numbers if plain else frame[name]
    return pd.DataFrame(made)


def _pngs(*paths: Path) -> list[tuple[str, str]]:
    """Return the pictures that are there: an address that holds the file, and its name."""
    return [
        (f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}", path.stem.replace("_", " "))
        for path in paths
        if path.is_file()
    ]
