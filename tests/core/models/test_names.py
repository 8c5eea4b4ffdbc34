"""Encoders are known by name without torch, and an unknown one is answered with one that may be meant."""

import pytest

from segtool.core.models.names import ENCODERS, check_encoder, timm_models
from segtool.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("tf_efficientnet_lite0", "did you mean tu-tf_efficientnet_lite0?"),
        ("timm/hrnet_w18", "did you mean tu-hrnet_w18?"),
        ("hrnet", "did you mean tu-hrnet_w18 or "),
        ("tu-swin", "did you mean tu-swin_"),
        ("resnext50", "did you mean resnext50_32x4d or "),
        ("mit-b2", "did you mean mit_b2 or "),
        ("segformer", "segformer is an architecture: --arch segformer"),
    ],
)
def test_an_unknown_encoder_leads_to_a_known_one(typed: str, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_encoder(typed)
    assert told in str(raised.value)


def test_the_names_are_those_of_the_installed_libraries() -> None:
    import segmentation_models_pytorch as smp
    from timm.models._registry import _model_entrypoints

    assert set(ENCODERS) == set(smp.encoders.get_encoder_names())
    assert timm_models() == set(_model_entrypoints)
