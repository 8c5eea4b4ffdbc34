"""Presets, pipelines from files, holes, and crops that look at the mask: what each does to pixels and labels."""

import json
import random
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import yaml

from segtool.core.dataloading.augmentation import Augmentation, check_pipeline
from segtool.core.dataloading.crops import MaskCrop, draw_class
from segtool.core.dataloading.pipeline_file import pipeline_digest
from segtool.core.dataloading.presets import colours, leaves
from segtool.errors import SegtoolError, UsageError
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.data import SizeSettings
from segtool.settings.options import assemble
from segtool.values import Size

FILL = (10, 20, 30)


def picture(channels: int = 3, height: int = 64, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    mask = np.full((height, width), 1, np.uint8)
    mask[:, width // 2 :] = 2
    return random.integers(60, 200, (height, width, channels), dtype=np.uint8), mask


def make(crop: Size | None = None, channels: int = 3, **options: object) -> Augmentation:
    return Augmentation(AugmentationSettings(**options), SizeSettings(crop=crop), FILL[:1] * channels)


FILLS = tuple(np.linspace(0.1, 0.9, 12).tolist())


@pytest.mark.parametrize("preset", ["light", "medium", "heavy"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize("crop", [None, Size(48, 100)])
def test_presets_keep_the_kind_of_float_images(preset: str, channels: int, crop: Size | None) -> None:
    image, mask = np.random.default_rng(0).random((64, 80, channels), np.float32), picture()[1]
    options = AugmentationSettings(augment=preset, cutout=0.5, gridmask=0.5)
    augment = Augmentation(options, SizeSettings(crop=crop), FILLS[:channels], dtype=np.float32)
    outside = 0
    for number in range(12):
        changed, labels = augment(image, mask, number)
        assert changed.dtype == np.float32
        assert changed.shape == (*labels.shape, channels)
        assert changed.min() >= 0
        assert changed.max() <= 1
        outside += np.count_nonzero(labels == 255)
    assert outside


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_outside_of_a_float_image_is_the_fill_of_each_channel(channels: int) -> None:
    image, mask = np.full((20, 20, channels), 0.5, np.float32), np.ones((20, 20), np.uint8)
    options = AugmentationSettings(augment="none")
    augment = Augmentation(options, SizeSettings(crop=Size(32, 32)), FILLS[:channels], dtype=np.float32)
    changed, labels = augment(image, mask, 1)
    assert np.allclose(changed[labels == 255], FILLS[:channels])
    assert (changed[labels == 1] == 0.5).all()
    assert (labels == 1).sum() == 400


def test_brightness_is_a_share_of_the_range_in_both_kinds() -> None:
    image, mask = picture(height=8, width=8)
    options = AugmentationSettings(augment="none", brightness=0.3, contrast=0.3)
    as_bytes = Augmentation(options, SizeSettings(), (0, 0, 0))
    as_floats = Augmentation(options, SizeSettings(), (0.0, 0.0, 0.0), dtype=np.float32)
    changed = 0
    for number in range(6):
        first, second = as_bytes(image, mask, number)[0], as_floats((image / np.float32(255)), mask, number)[0]
        assert np.abs(first / 255 - second).max() < 1.1 / 255
        changed += not np.array_equal(first, image)
    assert changed > 1


@pytest.mark.parametrize(
    ("transform", "channels", "reason"),
    [
        (A.HueSaturationValue(p=0.1), 5, "it changes red, green and blue"),
        (A.HueSaturationValue(p=0.1), 3, "it changes red, green and blue"),
        (A.ToFloat(max_value=255, p=0.1), 5, ""),
        (A.FromFloat(p=0.1), 5, "it makes"),
        (A.Equalize(p=0.1), 5, "Equalize transform is only supported"),
        (A.GaussNoise(p=0.1), 5, ""),
    ],
)
def test_a_transform_of_a_file_that_such_images_cannot_have_is_named(
    tmp_path: Path, transform: A.BasicTransform, channels: int, reason: str
) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(A.to_dict(A.Compose([A.OneOf([A.VerticalFlip(p=1), transform])]))))
    settings = AugmentationSettings(augment=str(path))
    if not reason:
        check_pipeline(settings, Size(32, 32), channels, np.float32)
        return
    with pytest.raises(SegtoolError, match=rf"{type(transform).__name__} is not for images of {channels} channels of"
                       rf" float32 \({reason}.*\): remove it"):  # fmt: skip
        check_pipeline(settings, Size(32, 32), channels, np.float32)


def test_what_a_preset_leaves_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        check_pipeline(AugmentationSettings(augment="heavy"), Size(32, 32), 3)
        check_pipeline(AugmentationSettings(augment="light"), Size(32, 32), 5, np.float32)
        assert not caplog.records
        check_pipeline(AugmentationSettings(augment="heavy"), Size(32, 32), 5, np.float32)
    assert "--augment heavy without HueSaturationValue, CLAHE, ImageCompression: the images are" in caplog.text


def test_none_changes_nothing() -> None:
    image, mask = picture()
    for number in range(5):
        changed, labels = make(augment="none")(image, mask, number)
        assert np.array_equal(changed, image)
        assert np.array_equal(labels, mask)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("preset", ["light", "medium", "heavy"])
def test_presets_take_any_channels_and_invent_no_label(preset: str, channels: int) -> None:
    image, mask = picture(channels)
    augment = make(Size(48, 48), channels, augment=preset)
    outcomes = []
    for number in range(40):
        changed, labels = augment(image, mask, number)
        again, _ = augment(image, mask, number)
        assert np.array_equal(changed, again)
        assert changed.shape == (48, 48, channels)
        assert changed.dtype == labels.dtype == np.uint8
        assert set(np.unique(labels)) <= {1, 2, 255}
        outcomes.append(changed.tobytes())
    assert len(set(outcomes)) == 40


def test_each_preset_changes_more_than_the_one_before() -> None:
    """Colours alone, on images without a pattern: how far pixels move."""
    image, mask = np.full((32, 32, 3), (150, 120, 90), np.uint8), np.ones((32, 32), np.uint8)

    def moved(preset: str) -> float:
        augment = make(Size(16, 16), augment=preset)
        return float(np.mean([np.abs(augment(image, mask, n)[0].astype(int) - image[0, 0]).mean() for n in range(200)]))

    assert moved("light") < moved("medium") < moved("heavy")


def test_medium_turns_images_and_what_comes_in_is_ignored() -> None:
    image, mask = picture()
    augment = make(augment="medium", scale=(1, 1), hflip=0)
    outside = [
        labels[0, 0] == 255 or labels[-1, -1] == 255 for n in range(40) if (labels := augment(image, mask, n)[1]).any()
    ]
    assert 0.2 < np.mean(outside) < 0.8


def test_what_is_typed_wins_over_the_preset() -> None:
    image, mask = picture()
    changed, labels = make(augment="none", hflip=1)(image, mask, 0)
    assert np.array_equal(changed, image[:, ::-1])
    assert np.array_equal(labels, mask[:, ::-1])
    changed, labels = make(augment="light", hflip=0, scale=(1, 1), brightness=0, contrast=0)(image, mask, 0)
    assert np.array_equal(changed, image)


@pytest.mark.parametrize("crop", [None, Size(240, 240)])
def test_scaling_keeps_the_aspect(crop: Size | None) -> None:
    """The sides of a square, whose scale goes down to 0.5 and up to 2."""
    image, mask = np.zeros((240, 240, 3), np.uint8), np.zeros((240, 240), np.uint8)
    mask[90:150, 90:150] = 1
    augment = make(crop, augment="none", scale=(0.5, 1.4))
    sides = []
    for number in range(60):
        rows, columns = np.nonzero(augment(image, mask, number)[1] == 1)
        if rows.min() > 0 and columns.min() > 0 and rows.max() < 239 and columns.max() < 239:
            sides.append((np.ptp(rows) + 1, np.ptp(columns) + 1))
    height, width = np.array(sides).T
    assert len(sides) > 30
    assert np.abs(height - width).max() <= 1
    assert height.min() < 40
    assert height.max() > 75


def test_without_a_crop_scaling_shifts_by_a_tenth_at_most() -> None:
    image, mask = np.zeros((100, 200, 3), np.uint8), np.zeros((100, 200), np.uint8)
    mask[45:55, 95:105] = 1
    augment = make(augment="none", scale=(0.99, 1.0))
    centres = np.array([np.argwhere(augment(image, mask, n)[1] == 1).mean(axis=0) for n in range(100)])
    moved = np.abs(centres - (49.5, 99.5)).max(axis=0)
    assert (moved <= (11, 21)).all()
    assert (moved > (8, 16)).all()


@pytest.mark.parametrize("preset", ["medium", "heavy"])
def test_changes_of_colour_leave_a_point_where_it_is(preset: str) -> None:
    """Blurs are symmetric: each alone, with the centre of what it makes of a point."""
    image = np.zeros((31, 31, 3), np.uint8)
    image[15, 15] = 255
    blurs = [s for s in leaves(A.Compose(colours(preset, 3))) if "Blur" in type(s).__name__]
    assert blurs
    place = np.arange(31)
    for blur in blurs:
        blur.set_random_state(np.random.default_rng(0), random.Random(0))
        for _ in range(100):
            spread = blur(image=image)["image"][..., 0].astype(float)
            centre = np.array([spread.sum(1) @ place, spread.sum(0) @ place]) / spread.sum()
            assert np.abs(centre - 15).max() < 0.05


def lines_through_greys(brightness: float, contrast: float) -> tuple[np.ndarray, np.ndarray]:
    """Slope and offset by which 400 samples change greys that stay clear of black and white."""
    greys = np.arange(80, 166, dtype=np.uint8)
    image, mask = np.tile(greys[None, :, None], (2, 1, 3)), np.zeros((2, 86), np.uint8)
    augment = make(augment="none", brightness=brightness, contrast=contrast)
    changed = np.stack([augment(image, mask, n)[0][0, :, 0] for n in range(400)]).astype(float)
    slope, offset = np.polyfit(greys.astype(float), changed.T, 1)
    return slope, offset


@pytest.mark.parametrize(("brightness", "contrast"), [(0.2, 0.0), (0.0, 0.2), (0.2, 0.2)])
def test_brightness_and_contrast_go_both_ways_and_leave_each_other_alone(brightness: float, contrast: float) -> None:
    slope, offset = lines_through_greys(brightness, contrast)
    # Pixels are whole numbers, which moves the fitted line a little.
    for value, largest, error in ((slope - 1, contrast, 0.02), (offset, brightness * 255, 3)):
        assert np.abs(value).max() <= largest + error
        if largest:
            assert value.min() < -0.85 * largest
            assert value.max() > 0.85 * largest


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["cutout", "gridmask"])
def test_holes_have_the_mean_colour_and_keep_or_lose_their_labels(kind: str, channels: int) -> None:
    image, mask = picture(channels)
    for number in range(10):
        keep, labels = make(channels=channels, augment="none", **{kind: 1.0})(image, mask, number)
        hole = (keep == FILL[0]).all(axis=2)
        assert 0.005 < hole.mean() < 0.5
        assert np.array_equal(keep[~hole], image[~hole])
        assert np.array_equal(labels, mask)
        options = {kind: 1.0, "dropped_pixels": "ignore"}
        drop, labels = make(channels=channels, augment="none", **options)(image, mask, number)
        assert np.array_equal(drop, keep)
        assert np.array_equal(labels == 255, hole)


@pytest.mark.parametrize("kind", ["cutout", "gridmask"])
def test_holes_come_with_their_probability(kind: str) -> None:
    image, mask = picture()
    augment = make(augment="none", **{kind: 0.3})
    holed = [not np.array_equal(augment(image, mask, n)[0], image) for n in range(300)]
    assert abs(np.mean(holed) - 0.3) < 0.08


def test_cutout_draws_other_holes_for_each_key() -> None:
    image, mask = picture()
    augment = make(augment="none", cutout=1)
    assert len({augment(image, mask, n)[0].tobytes() for n in range(20)}) == 20


def write(path: Path, *steps: A.BasicTransform) -> str:
    content = A.to_dict(A.Compose(list(steps)))
    path.write_text(json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("name", ["pipe.json", "pipe.yaml"])
def test_a_file_is_applied_before_the_crop_and_its_borders_are_ignored(tmp_path: Path, name: str) -> None:
    # fill_mask is 0 here, the library's default.
    augment = write(tmp_path / name, A.Affine(translate_px={"x": (40, 40), "y": (0, 0)}, p=1))
    image, mask = picture()
    changed, labels = make(augment=augment)(image, mask, 0)
    assert np.array_equal(changed[:, 40:], image[:, :40])
    assert (labels[:, 40:] == 1).all()
    assert (labels[:, :40] == 255).all()
    # Nothing of the presets: the rest is what is typed.
    flipped, _ = make(augment=augment, hflip=1)(image, mask, 0)
    assert np.array_equal(flipped[:, 40:], image[:, ::-1][:, :40])
    cropped, labels = make(Size(64, 80), augment=augment)(image, mask, 0)
    assert np.array_equal(cropped, changed)


HOLES = {
    "cutout": (A.CoarseDropout, {"num_holes_range": (3, 3)}),
    "grid": (A.GridDropout, {"ratio": 0.5}),
    "strips": (A.XYMasking, {"num_masks_x": 2, "mask_x_length": 10}),
}


@pytest.mark.parametrize("kind", HOLES)
@pytest.mark.parametrize("label", [None, 0, 255])
def test_holes_of_a_file_get_the_label_that_it_says(tmp_path: Path, kind: str, label: int | None) -> None:
    transform, options = HOLES[kind]
    augment = write(tmp_path / "p.json", A.Compose([transform(fill=7, fill_mask=label, p=1, **options)]))
    image, mask = picture()
    changed, labels = make(augment=augment)(image, mask, 0)
    hole = (changed == 7).all(axis=2)
    assert hole.any()
    assert np.array_equal(labels, mask if label is None else np.where(hole, label, mask))


def disc() -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:161, :161]
    mask = ((rows - 80) ** 2 + (columns - 80) ** 2 < 900).astype(np.uint8)
    return np.repeat(mask[:, :, None] * 255, 3, axis=2), mask


def apart(augment: Augmentation) -> np.ndarray:
    """How far the centre of the labels lies from that of the pixels, of each of 40 samples."""

    def centre(weights: np.ndarray) -> np.ndarray:
        return np.array([weights.sum(axis) @ np.arange(weights.shape[1 - axis]) for axis in (1, 0)]) / weights.sum()

    image, mask = disc()
    samples = [augment(image, mask, n) for n in range(40)]
    return np.array([centre((m == 1).astype(float)) - centre((m < 255) * i[..., 0].astype(float)) for i, m in samples])


def test_random_scale_leaves_masks_under_their_images() -> None:
    assert np.abs(apart(make(Size(400, 400), augment="none", scale=(0.5, 2)))).max() < 0.1


RESIZES = [A.Resize(67, 67, p=1), A.LongestMaxSize(45, p=1), A.SmallestMaxSize(45, p=1), A.RandomScale(0.5, p=1)]
RESIZES += [A.CropAndPad(px=9, p=1), A.RandomResizedCrop((67, 67), scale=(1, 1), ratio=(1, 1), p=1)]
RESIZES += [A.RandomSizedCrop((161, 161), size=(67, 67), p=1)]


@pytest.mark.parametrize("step", RESIZES, ids=lambda step: type(step).__name__)
def test_resizing_in_a_file_leaves_masks_under_their_images(tmp_path: Path, step: A.BasicTransform) -> None:
    assert np.abs(apart(make(augment=write(tmp_path / "p.json", step)))).max() < 0.1


def test_the_draws_of_a_file_come_from_the_key(tmp_path: Path) -> None:
    augment = write(tmp_path / "p.json", A.OneOf([A.HorizontalFlip(p=1), A.VerticalFlip(p=1)], p=0.7))
    image, mask = picture()
    first, second = make(augment=augment), make(augment=augment)
    outcomes = [first(image, mask, n)[0].tobytes() for n in range(40)]
    assert outcomes[::-1] == [second(image, mask, n)[0].tobytes() for n in reversed(range(40))]
    assert len(set(outcomes)) == 3


BROKEN = {
    "absent": (None, "neither a file nor a preset"),
    "not yaml": ("{[", "is not YAML"),
    "no pipeline": ("a: 1", "lacks `transform`"),
    "unknown transform": ('{"transform": {"__class_fullname__": "Whirl", "p": 1}}', "has no 'Whirl'"),
    "unknown argument": (
        '{"transform": {"__class_fullname__": "HorizontalFlip", "p": 1, "angle": 3}}',
        "angle",
    ),
    "wrong value": ('{"transform": {"__class_fullname__": "HorizontalFlip", "p": 7}}', "p"),
    "wrong inside": (
        '{"transform": {"__class_fullname__": "Compose", "transforms":'
        ' [{"__class_fullname__": "GaussNoise", "var_limit": 3, "p": 1}]}}',
        "var_limit",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, case: str) -> None:
    content, says = BROKEN[case]
    path = tmp_path / "pipe.json"
    if content:
        path.write_text(content)
    with pytest.raises(SegtoolError, match=says) as raised:
        make(augment=str(path))
    assert "pipe.json" in str(raised.value)
    assert isinstance(raised.value, UsageError) == (content is None)


@pytest.mark.parametrize("step", [A.Normalize(p=1), A.ToFloat(p=1), A.ToGray(num_output_channels=1, p=1)], ids=str)
def test_a_file_that_makes_something_else_than_pixels_is_found_before_the_training(tmp_path: Path, step) -> None:
    settings = AugmentationSettings(augment=write(tmp_path / "p.json", step))
    with pytest.raises(SegtoolError, match=r"p\.json"):
        check_pipeline(settings, Size(40, 40), 3)


def test_a_file_for_colour_images_is_found_before_the_training_of_others(tmp_path: Path) -> None:
    settings = AugmentationSettings(augment=write(tmp_path / "p.json", A.HueSaturationValue(p=0.5)))
    check_pipeline(settings, Size(40, 40), 3)
    with pytest.raises(SegtoolError, match="HueSaturationValue"):
        check_pipeline(settings, Size(40, 40), 4)


def test_the_content_of_a_file_is_an_input(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "p.json", A.HorizontalFlip(p=1)))
    before = pipeline_digest(str(path))
    write(path, A.HorizontalFlip(p=0.9))
    assert before != pipeline_digest(str(path)) != {}
    assert pipeline_digest("heavy") == {}
    with pytest.raises(UsageError, match="did you mean medium"):
        pipeline_digest("mediun")


def lonely(label: int) -> np.ndarray:
    """Background, a wide ignored band, and a single pixel of `label`."""
    mask = np.zeros((64, 96), np.uint8)
    mask[:, 50:] = 255
    mask[3, 20] = label
    return mask


def corners(crop: MaskCrop, mask: np.ndarray, count: int = 60) -> list[tuple[int, int]]:
    random = np.random.default_rng(0)
    return [crop.corner(mask, random) for _ in range(count)]


def test_crop_nonempty_holds_an_object_wherever_it_may_lie() -> None:
    mask = lonely(2)
    found = corners(MaskCrop(Size(16, 16), 1, 0), mask)
    assert all((mask[t : t + 16, left : left + 16] == 2).any() for t, left in found)
    # Along the border there is one row of places only, across it many.
    assert len({left for _, left in found}) > 10
    assert {top for top, _ in found} <= set(range(4))
    anywhere = corners(MaskCrop(Size(16, 16), 0, 0), mask)
    assert sum((mask[t : t + 16, left : left + 16] == 2).any() for t, left in anywhere) < 15


def test_crop_nonempty_comes_with_its_probability_and_knows_images_without_objects() -> None:
    mask = lonely(2)
    found = corners(MaskCrop(Size(16, 16), 0.5, 0), mask, 400)
    assert abs(np.mean([(mask[t : t + 16, left : left + 16] == 2).any() for t, left in found]) - 0.53) < 0.1
    empty = corners(MaskCrop(Size(16, 16), 1, 0), lonely(0))
    assert len(set(empty)) > 30


def test_rare_classes_are_drawn_by_the_inverse_of_their_share() -> None:
    mask = lonely(2)
    random = np.random.default_rng(0)
    drawn = [draw_class(mask, (0.9, 0.07, 0.03), random) for _ in range(1000)]
    # Class 1 does not occur in the mask, and 255 is no class.
    assert set(drawn) == {0, 2}
    assert abs(np.mean(np.array(drawn) == 2) - (1 / 0.03) / (1 / 0.03 + 1 / 0.9)) < 0.02
    assert draw_class(np.full((4, 4), 255, np.uint8), (0.5, 0.5), random) is None


def test_crop_balance_holds_the_rare_class() -> None:
    mask = lonely(2)
    found = corners(MaskCrop(Size(16, 16), 0, 1, (0.9, 0.09, 0.01)), mask, 200)
    share = np.mean([(mask[t : t + 16, left : left + 16] == 2).any() for t, left in found])
    assert share > 0.9


def test_crops_on_objects_are_functions_of_the_key() -> None:
    image, _ = picture(height=64, width=96)
    sizes = SizeSettings(crop=Size(16, 16), crop_nonempty=1)
    augment = Augmentation(AugmentationSettings(scale=(1, 1)), sizes, FILL)
    outcomes = [augment(image, lonely(2), n) for n in range(20)]
    again = [augment(image, lonely(2), n) for n in range(20)]
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(outcomes, again, strict=True))
    assert all((labels == 2).any() for _, labels in outcomes)


@pytest.mark.parametrize(
    ("group", "options", "says"),
    [
        (
            AugmentationSettings,
            {"dropped_pixels": "ignore"},
            "--dropped-pixels has no effect without --cutout or",
        ),
        (SizeSettings, {"crop_nonempty": 0.5}, "--crop-nonempty has no effect without --crop"),
        (SizeSettings, {"crop_balance": 0.5}, "--crop-balance has no effect without --crop"),
        (SizeSettings, {"crop": Size(8, 8), "crop_balance": 0.6, "crop_nonempty": 0.6}, "together at most 1"),
    ],
)
def test_what_means_nothing_is_refused(group, options, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        assemble(group, options)
