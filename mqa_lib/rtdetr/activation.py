"""A key of model files that names the activation of the backbone alone, for weights that were trained with another."""

import functools
from collections.abc import Callable
from typing import Any

from torch import nn
from ultralytics.nn.modules import Conv

from mqa_lib import checks

KEY = "backbone_activation"  # ultralytics' own key, `activation`, changes the neck as well
_KNOWN = {"SiLU": nn.SiLU, "ReLU": nn.ReLU}


def reading(parse_model: Callable[..., Any]) -> Callable[..., Any]:
    """Return ultralytics' reader of model files, which now heeds `KEY`.

    The key belongs to the model's file and not to its layers, because a trainer builds the model anew from the file.
    """

    @functools.wraps(parse_model)
    def parse(d: dict[str, Any], ch: int, verbose: bool = True) -> Any:
        rows, save = parse_model(d, ch, verbose)
        if KEY in d:
            wanted = _KNOWN[checks.one_of(KEY, d[KEY], _KNOWN)]
            for module in rows[: len(d["backbone"])].modules():
                if isinstance(module, Conv) and not isinstance(module.act, nn.Identity):
                    module.act = wanted()
        return rows, save

    return parse
