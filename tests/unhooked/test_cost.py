"""What the cost formulas refuse, with the name, the value and the way out."""

from collections.abc import Callable

import pytest

from mqa_lib import cost

REFUSED = [
    (lambda: cost.mobile_mqa(0, 7, 7), r"`dim` \(=0\).*channels"),
    (lambda: cost.mobile_mqa(8, 0, 7), r"`height` \(=0\)"),
    (lambda: cost.multi_head(8, 7, 0), r"`width` \(=0\)"),
    (lambda: cost.mobile_mqa(8, 7, 7, num_heads=0), r"`num_heads` \(=0\)"),
    (lambda: cost.mobile_mqa(9, 7, 7, num_heads=2), r"`dim` \(=9\) must be divisible by `num_heads` \(=2\)"),
    (lambda: cost.mobile_mqa(8, 7, 7, kv_stride=0), r"`kv_stride` \(=0\).*Use 1"),
    (lambda: cost.mobile_mqa(8, 7, 7, kv_stride=2, dw_kernel_size=4), r"`dw_kernel_size` \(=4\) must be odd"),
    (lambda: cost.mobile_mqa(8, 7, 7, query_strides=(1, 2, 3)), r"`query_strides`"),
    (lambda: cost.mobile_mqa(8, 7, 7, padding="valid"), r"`padding` \(='valid'\) is not a way to pad"),
    (
        lambda: cost.key_centre(1, 2, padding="same"),
        r"`extent` \(=None\) must be known.* Give the number of rows",
    ),
    (lambda: cost.mobile_mqa(8, 7, 7, 2, 0), r"`key_dim` \(=0\)"),
    (lambda: cost.mobile_mqa(8, 7, 7, value_dim=0), r"`value_dim` \(=0\)"),
    (lambda: cost.mobile_mqa(8, 7, 7, bytes_per_number=0), r"`bytes_per_number` \(=0\).*4 for float32"),
    (lambda: cost.seconds(cost.multi_head(8, 7, 7), 0, 1.0), r"`peak_macs_per_second` \(=0\)"),
    (lambda: cost.ridge_point(1.0, -1.0), r"`bytes_per_second` \(=-1.0\)"),
    (lambda: cost.multi_head(8, 7, 7).macs_of("softmax"), r"`kind` \(='softmax'\).*projections"),
    (
        lambda: cost.multi_head(8, 7, 7) + cost.multi_head(8, 7, 7, bytes_per_number=2),
        r"`bytes_per_number` \(=4\) must be equal",
    ),
]


@pytest.mark.parametrize(("ask", "message"), REFUSED)
def test_an_impossible_question_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()
