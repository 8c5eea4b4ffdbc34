"""Words of other tools and papers lead to this one's."""

import pytest
import segmentation_models_pytorch as smp
import typer

from segtool.cli import app
from segtool.errors import UsageError
from segtool.settings import synonyms
from segtool.settings.model import ModelSettings
from segtool.settings.synonyms import ARCHITECTURES, architecture_for, options_for


def commands(group: typer.Typer) -> dict[str, set[str]]:
    """The parameters of every command."""
    root = typer.main.get_command(group)
    found, waiting = {}, [root]
    while waiting:
        command = waiting.pop()
        found[str(command.name)] = {str(parameter.name) for parameter in command.params}
        waiting += getattr(command, "commands", {}).values()
    return found


def test_the_architectures_are_those_of_segmentation_models() -> None:
    assert tuple(smp.MODEL_ARCHITECTURES_MAPPING) == ARCHITECTURES


def test_the_tables_lead_to_what_there_is() -> None:
    fields = set().union(*commands(app).values())
    assert {field for meant in synonyms._FIELDS.values() for field in meant} <= fields
    for typed in synonyms._ARCHITECTURES_ELSEWHERE.values():
        assert typed.split()[:1] == ["--arch"] and typed.split()[1] in ARCHITECTURES


def test_no_word_of_other_tools_is_one_of_this_tools_everywhere() -> None:
    everywhere = set.intersection(*(fields for fields in commands(app).values() if "out" in fields))
    assert not everywhere & set(synonyms._FIELDS)


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        ("hrnet", "--arch unet --encoder tu-hrnet_w18"),
        ("unet++", "--arch unetplusplus"),
        ("UNet_plus_plus", "--arch unetplusplus"),
        ("deeplabv3+", "--arch deeplabv3plus"),
        ("DeepLab-V3", "--arch deeplabv3"),
        ("segformer-b2", "--arch segformer --encoder mit_b2"),
        ("mit_b3", "--arch segformer --encoder mit_b2"),
    ],
)
def test_an_unknown_architecture_leads_to_the_known_one(word: str, typed: str) -> None:
    assert architecture_for(word) == typed
    with pytest.raises(UsageError) as raised:
        ModelSettings(arch=word)
    assert str(raised.value) == f"--arch: unknown architecture {word!r}; use {typed}"


def test_an_architecture_that_nobody_knows_is_answered_with_all() -> None:
    with pytest.raises(UsageError, match=r"'foo'; known: unet, unetplusplus, .*, dpt$"):
        ModelSettings(arch="foo")
    with pytest.raises(UsageError, match=r"'linkent'; did you mean linknet"):
        ModelSettings(arch="linkent")


@pytest.mark.parametrize(
    ("word", "command", "fields"),
    [
        ("--model", "train", ["arch", "encoder"]),
        ("--model", "predict", ["run"]),
        ("--batch-size", "train", ["batch"]),
        ("--batch_size", "debug", ["batch"]),
        ("--img-size", "train", ["resize", "crop"]),
        ("--num-epochs", "train", ["epochs"]),
        ("--data", "train", ["data"]),
        ("--foo", "train", []),
        ("--batch-size", "split", []),
    ],
)
def test_an_unknown_option_leads_to_those_of_the_command(word: str, command: str, fields: list[str]) -> None:
    assert options_for(word, commands(app)[command]) == fields
