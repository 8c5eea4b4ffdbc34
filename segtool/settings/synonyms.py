"""Names that other tools and papers use for our options and architectures, for hints in errors."""

import re
from collections.abc import Iterable, Mapping

# Segmentation-models' own.
ARCHITECTURES = (
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "deeplabv3",
    "deeplabv3plus",
    "pan",
    "upernet",
    "segformer",
    "dpt",
)

# Lower-case letters and digits only; the longest matching prefix counts.
_ARCHITECTURES_ELSEWHERE = {
    "nestedunet": "--arch unetplusplus",
    "attentionunet": "--arch manet",
    "maunet": "--arch manet",
    "deeplab": "--arch deeplabv3plus",
    "transunet": "--arch unet with a transformer as --encoder, such as mit_b2",
    "swinunet": "--arch unet --encoder tu-swin_tiny_patch4_window7_224",
    "segformer": "--arch segformer --encoder mit_b2",
    "mit": "--arch segformer --encoder mit_b2",
    "hrnet": "--arch unet --encoder tu-hrnet_w18",
    "ocrnet": "--arch unet --encoder tu-hrnet_w18",
    "swin": "--arch upernet --encoder tu-swin_tiny_patch4_window7_224",
    "convnext": "--arch upernet --encoder tu-convnext_tiny",
    "vit": "--arch dpt --encoder tu-vit_base_patch16_224.augreg_in21k",
    "resnet": "--arch unet --encoder resnet34",
    "efficientnet": "--arch unet --encoder efficientnet-b0",
    "mobilenet": "--arch unet --encoder mobilenet_v2",
}

# Names without leading dashes, each with the fields it may mean; errors list those that the command has.
_OPTIONS_ELSEWHERE = {
    "architecture network model_name decoder": "arch",
    "model": "arch encoder run",
    "backbone encoder_name": "encoder",
    "weights pretrained": "encoder_weights run",
    "finetune init_from": "init",
    "checkpoint ckpt model_path resume": "checkpoint run init",
    "batch_size bs train_batch_size": "batch",
    "accumulation grad_accum grad_accumulation accumulation_steps accumulate_grad_batches"
    " gradient_accumulation_steps": "accumulate",
    "learning_rate lr_rate base_lr lr0": "lr",
    "wd": "weight_decay",
    "opt optim": "optimizer",
    "scheduler lr_scheduler lr_schedule sched": "schedule",
    "warmup_epochs": "warmup",
    "grad_clip clip_grad gradient_clip max_norm max_grad_norm gradient_clip_val": "clip",
    "criterion loss_fn": "loss",
    "smoothing": "label_smoothing",
    "amp fp16 bf16 half mixed_precision": "precision",
    "num_epochs n_epochs max_epochs": "epochs",
    "early_stopping early_stop": "patience",
    "random_seed random_state": "seed",
    "img_size image_size imgsz input_size size": "resize crop",
    "crop_size": "crop",
    "patch_size tile_size tile window_size sliding_window": "window crop",
    "overlap": "stride",
    "aug augs augmentation augmentations transforms": "augment",
    "n_splits num_folds k_folds k kfold": "n_folds folds",
    "val_split valid_size val_size test_size": "valid",
    "gpu gpus cuda": "device",
    "num_workers n_workers dataloader_workers num_processes": "workers",
    "output out_dir output_dir output_path save_dir save_path work_dir project": "out",
    "force": "overwrite",
    "dataset data_dir data_path data_root root": "data",
    "run runs": "run runs",
    "threshold": "thresholds",
}
_FIELDS = {name: fields.split() for names, fields in _OPTIONS_ELSEWHERE.items() for name in names.split()}


def options_for(word: str, known: Iterable[str]) -> list[str]:
    """Return the fields among `known` that other tools call `word`, such as `--batch-size` or `img_size`."""
    name = word.lstrip("-").replace("-", "_").lower()
    known = list(known)
    return [field for field in (name, *_FIELDS.get(name, ())) if field in known]


def architecture_for(word: str) -> str | None:
    """Return what to type in place of `--arch word`, such as `--arch unetplusplus` for unet++, or None."""
    plain = _plain(word)
    if plain in ARCHITECTURES:
        return f"--arch {plain}"
    return _longest(_ARCHITECTURES_ELSEWHERE, plain)


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower().replace("+", "plus"))


def _longest(table: Mapping[str, str], word: str) -> str | None:
    """Return the entry of the longest key that the word begins with, or None."""
    fits = [key for key in table if word.startswith(key)]
    return table[max(fits, key=len)] if fits else None
