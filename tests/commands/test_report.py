"""`segtool report`: the page in a real browser, without a network, and what goes into it."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Type
from PIL import Image

from segtool.core.dataset.dataset import load_dataset
from segtool.core.predictions.writer import PredictionWriter, write_index
from segtool.core.tables import read_csv

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
NETWORK = "--arch unet --encoder tu-test_efficientnet --encoder-weights none --resize 32x32 --threads 1 --workers 0"


def page_data(path: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def predict(data: Path, out: str, wrong: int) -> None:
    """Predictions of the training images: the truth, but `wrong` columns on the left of image i are shifted by i."""
    dataset, folder = load_dataset(data), Path(out)
    sizes = {record.image_id: dataset.mask_size(record) for record in dataset.train}
    with PredictionWriter(folder, keep_probs=True, palette=None) as writer:
        for index, record in enumerate(dataset.train):
            mask = dataset.read_mask(record)
            mask = np.where(mask == 255, 0, mask)
            mask[:, : wrong * index] = (mask[:, : wrong * index] + 1) % 3
            writer.write(
                record.image_id, sizes[record.image_id], 0, np.eye(3, dtype=np.float32)[mask].transpose(2, 0, 1)
            )
    write_index(folder, sizes, set(sizes), classes=dataset.classes, subset="oof", members=[], data=dataset.path)
    stamp = {"command": "predict", "version": "0", "settings": {}, "inputs": {}, "outputs": {}}
    (folder / "done.json").write_text(json.dumps(stamp))


@pytest.fixture
def report(typed: Type, tiny: Path) -> Path:
    """A report of a run, two predictions and more, in a folder with a space."""
    ended = typed(f"train tiny -o run {NETWORK} --epochs 2")
    assert ended.status == 0, ended.stderr
    predict(tiny, "first", wrong=3)
    predict(tiny, "second", wrong=1)
    for line in ("noise-rank tiny first -o noise.csv", "inspect tiny -o inspect", "evaluate tiny first -o scores"):
        assert typed(line).status == 0, line
    ended = typed("report run first second noise.csv inspect -o 'a b/r.html'")
    assert ended.status == 0, ended.stderr
    assert "8 of 8 images" in ended.stdout
    return Path("a b/r.html").resolve()


@pytest.fixture
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("needs Chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=[*FLAGS])
        yield started
        started.close()


def check_scores(report: Path) -> dict[str, dict[str, str]]:
    """Hold what the page says against what `evaluate` says, and return that."""
    data = page_data(report)
    scores = {row["image_id"]: row for row in read_csv(Path("scores/per_image.csv"))}
    assert data["classes"] == ["ground", "box", "stripe"] and data["of"] == 8
    for card in data["cards"]:
        assert card["score"] == pytest.approx(float(scores[card["id"]]["miou"]), abs=1e-4)
        for index, name in enumerate(data["classes"]):
            text = scores[card["id"]][f"iou_{name}"]
            found = card["iou"].get(str(index))
            assert found == (pytest.approx(float(text), abs=1e-4) if text else None)
    return scores


def test_the_page_works_in_a_browser_without_a_network(report: Path, browser: Any, typed: Type, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(report.as_uri())

    def shown() -> list[str]:
        return list(page.locator("#gallery > li b").all_text_contents())

    order = [f"train_{index}" for index in range(8)]
    worst = sorted(order, key=lambda image_id: float(check_scores(report)[image_id]["miou"]))
    assert shown() == worst and worst[-1] == "train_0"
    # Pictures are decoded when they come near the screen.
    assert page.evaluate("document.querySelector('#gallery canvas').width") in (1, 300)
    page.locator("#gallery").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#gallery canvas').width === 32")
    # A filter: only every second image has a stripe.
    page.select_option("#class", label="stripe")
    assert set(shown()) >= {f"train_{index}" for index in (1, 3, 5, 7)}
    assert "IoU of stripe" in page.locator("#gallery > li .own").first.text_content()
    page.select_option("#class", label="all")
    page.check("#missed")
    assert 0 < len(shown()) < 8 and "train_0" not in shown()
    page.uncheck("#missed")
    page.fill("#high", "0.5")
    page.locator("#high").blur()
    assert shown() and "train_0" not in shown()
    page.fill("#high", "1")
    page.locator("#high").blur()
    page.fill("#find", "_3")
    assert shown() == ["train_3"]
    page.fill("#find", "")
    page.select_option("#order", "down")
    assert shown() == worst[::-1]
    # Keys: the next image, large, and its masks off: what is drawn is the photo.
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.card.id") == worst[-2]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.classList.contains('large')")
    page.wait_for_function("document.activeElement.querySelector('[data-panel=truth]').width === 32")
    before = page.evaluate("document.activeElement.querySelector('[data-panel=truth]').toDataURL()")
    page.keyboard.press("b")
    page.wait_for_function(
        "before => document.activeElement.querySelector('[data-panel=truth]').toDataURL() !== before", arg=before
    )
    # A click on a heading sorts a table, a second one turns it round.
    table = page.locator("#images table.sortable")
    for turn, wanted in (("ascending", order), ("descending", order[::-1])):
        table.locator("th button", has_text="image").click()
        assert table.locator("th").first.get_attribute("aria-sort") == turn
        assert table.locator("tbody td:first-child").all_inner_texts() == wanted
    page.click("[data-counts]")
    assert page.locator(".confusion td i").first.is_visible()
    # A phone in dark mode: nothing is wider than the screen.
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 29)"
    page.screenshot(path=tmp_path / "phone.png")
    assert np.asarray(Image.open(tmp_path / "phone.png")).std() > 5
    assert not said
    text = report.read_text()
    for section in ("Learning curves", "Classes", "Confusion", "Objects by size", "Suspected labels", "The data"):
        assert f"<h2>{section}" in text, section
    # The second is better in each class, by an interval.
    assert "second − first" in text and re.search(r"\+0\.\d{4} to \+0\.\d{4}", text)
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "up to date" in typed(f"report run first second noise.csv inspect -o '{report}'").stdout


def test_names_cannot_break_the_page_and_the_limit_is_said(typed: Type, tiny: Path, browser: Any) -> None:
    (tiny / "dataset.yaml").write_text(
        (tiny / "dataset.yaml").read_text().replace("- box", "- '</script><b>가'").replace("box", "</script><b>가")
    )
    predict(tiny, "p", wrong=2)
    assert "3 of 8 images" in typed("report p -o r.html --limit 3").stdout
    page, said = browser.new_page(), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(Path("r.html").resolve().as_uri())
    assert page.locator("#gallery > li").count() == 3 and "the worst of 8" in page.locator("#shown").inner_text()
    assert "</script><b>가" in page.locator("#legend").inner_text()
    assert not said


def test_overlapping_classes_images_without_masks_and_no_gallery(typed: Type, tiny: Path) -> None:
    assert typed("demo --labels multi -o multi").status == 0
    assert typed(f"train multi -o run {NETWORK} --epochs 1 --max-samples 8").status == 0
    assert typed("predict multi --run run --subset valid -o valid").status == 0
    assert typed("predict multi --run run -o test").status == 0
    assert typed("report valid -o valid.html").status == 0
    card = page_data(Path("valid.html"))["cards"][0]
    assert {"truth", "pred", "image"} <= card.keys() and page_data(Path("valid.html"))["multi"]
    assert "<h2>Confusion" not in Path("valid.html").read_text()
    assert typed("report test -o test.html").status == 0
    assert "truth" not in page_data(Path("test.html"))["cards"][0]
    assert typed("report run --limit 0 -o run.html").status == 0
    assert page_data(Path("run.html")) == {} and "<h2>Classes" in Path("run.html").read_text()


def words(path: str) -> str:
    """The page without its gallery and marks."""
    return " ".join(
        re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]+>", " ", Path(path).read_text(), flags=re.S).split()
    )


def test_an_evaluation_is_shown_as_it_was_scored(typed: Type, tiny: Path) -> None:
    """With its classes left out, its sizes and its thresholds; and from its tables where its predictions are gone."""
    predict(tiny, "p", wrong=2)
    rules = {"ground": {}, "box": {"threshold": 1.0, "min_area": 10_000}, "stripe": {}}
    Path("never.json").write_text(json.dumps({"classes": rules}))
    assert typed("evaluate tiny p -o plain").status == 0
    ended = typed("evaluate tiny p -o ruled --thresholds never.json --exclude stripe --size-bins 50")
    assert ended.status == 0, ended.stderr
    scores = {name: json.loads(Path(name, "summary.json").read_text()) for name in ("plain", "ruled")}
    assert scores["plain"]["miou"] != scores["ruled"]["miou"]
    assert "give the same one" in typed("report ruled -o r.html").stderr
    assert typed("report ruled --thresholds never.json -o r.html").status == 0
    assert f"mIoU {scores['ruled']['miou']:.4f}" in words("r.html")
    assert "left out of the means stripe" in words("r.html") and "under 50, and more" in words("r.html")
    assert page_data(Path("r.html"))["sizes"] == ["under 50 px", "50 and more px"]
    # The same predictions, decided in two ways, beside each other.
    assert typed("report plain ruled --thresholds never.json -o both.html").status == 0
    assert f"mIoU {scores['plain']['miou']:.4f}" in words("both.html")
    assert "First: plain. Second: ruled." in words("both.html")
    assert "could decide" in typed("report plain --thresholds never.json -o no.html").stderr
    shutil.move("p", "gone")
    assert typed("report plain -o tables.html").status == 0
    for told in ("Confusion", "Objects by size", "Scores of each image", "train_7"):
        assert told in words("tables.html")
    assert page_data(Path("tables.html")) == {}


def test_what_cannot_be_compared_is_said(typed: Type, tiny: Path) -> None:
    shutil.copytree(tiny, "other")
    (Path("other") / "dataset.yaml").write_text((tiny / "dataset.yaml").read_text().replace("box", "crate"))
    predict(tiny, "first", wrong=2)
    predict(Path("other"), "second", wrong=2)
    assert typed("report first second -o r.html").status == 0
    assert "They are not compared: their classes differ." in words("r.html")
    assert "no such class" in typed("report first --exclude crate -o no.html").stderr


def test_refusals(typed: Type, tiny: Path) -> None:
    assert typed("split tiny -o folds.csv --n-folds 2").status == 0
    assert "has no page" in typed("report folds.csv -o r.html").stderr
    assert "not a finished file of segtool" in typed("report tiny/train.csv -o r.html").stderr
    assert "nothing does not exist" in typed("report nothing -o r.html").stderr
    predict(tiny, "p", wrong=2)
    shutil.move(tiny, "elsewhere")
    assert "give --data" in typed("report p -o r.html").stderr
    assert typed("report p --data elsewhere -o r.html").status == 0
