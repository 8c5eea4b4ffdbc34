"""An unknown encoder is answered with one that may be meant."""

import pytest

from segtool.core.models.build import check_encoder
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
