"""The loss as it is typed: sums of terms, their canonical form, and what is refused before the engine loads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtool.errors import UsageError
from segtool.settings.loss import TERMS, LossSettings, WeightedTerm, parse_loss, weighted_terms


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ce", "ce"),
        ("ce+dice", "ce+dice"),
        ("dice+ce", "ce+dice"),
        ("0.5*dice+ce", "ce+0.5*dice"),
        ("0.7*ce+0.3*dice", "0.7*ce+0.3*dice"),
        (" 1.0*CE + .50 * Dice ", "ce+0.5*dice"),
        ("2*topk+lovasz+10.0*jaccard", "2*topk+10*jaccard+lovasz"),
        ("0.001*bce+1000*tversky+focal", "0.001*bce+focal+1000*tversky"),
    ],
)
def test_the_canonical_form(text: str, canonical: str) -> None:
    assert parse_loss(text) == canonical == parse_loss(canonical)


@given(st.dictionaries(st.sampled_from(list(TERMS)), st.floats(0.001, 1000), min_size=1))
def test_terms_and_text_are_each_other(weights: dict[str, float]) -> None:
    terms = [WeightedTerm(weight, name) for name, weight in weights.items()]
    assert set(weighted_terms("+".join(map(str, terms)))) == set(terms)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dise", "unknown term 'dise'; did you mean dice?; a loss is a sum of ce, bce, focal, topk"),
        ("ce+", "unknown term ''"),
        ("", "unknown term ''"),
        ("ce,dice", "unknown term 'ce,dice'"),
        ("ce*0.5", "unknown term '0.5'"),
        ("0.5dice", "unknown term '0.5dice'; did you mean dice?"),
        ("0*ce", "'0*ce': the weight of a term is a number from 0.001 to 1000, such as 0.5*ce"),
        ("-1*ce", "the weight of a term is a number"),
        ("nan*ce", "the weight of a term is a number"),
        ("1e3*ce", "the weight of a term is a number"),
        ("2*3*ce", "the weight of a term is a number"),
        ("*ce", "the weight of a term is a number"),
        ("ce+dice+2*ce", "has ce twice"),
    ],
)
def test_what_is_no_loss(text: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_loss(text)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"focal_gamma": 3.0}, r"--focal-gamma 3 needs focal in --loss \(it is ce\+dice\)"),
        ({"topk": 5.0}, "--topk 5 needs topk"),
        ({"tversky_alpha": 0.5}, "--tversky-alpha 0.5 needs tversky"),
        ({"loss": "tversky", "tversky_alpha": 0.0, "tversky_beta": 0.0}, "are both 0"),
        ({"loss": "dice+focal+topk", "label_smoothing": 0.1}, "--label-smoothing 0.1 needs ce or bce in --loss"),
    ],
)
def test_an_option_of_a_term_that_is_not_there(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        LossSettings(**options)  # type: ignore[arg-type]


def test_what_the_number_of_classes_refuses() -> None:
    with pytest.raises(UsageError, match=r"bce is for two classes, the data set has 3; use ce"):
        LossSettings(loss="bce+dice").check_classes(3)
    LossSettings(loss="bce+dice").check_classes(2)
    with pytest.raises(UsageError, match=r"--class-weights has no effect with --loss dice\+lovasz and two classes"):
        LossSettings(loss="dice+lovasz", class_weights="median").check_classes(2)
    LossSettings(loss="dice+lovasz", class_weights="median").check_classes(3)
    LossSettings(loss="ce+dice", class_weights="median").check_classes(2)
