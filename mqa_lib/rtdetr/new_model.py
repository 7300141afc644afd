"""A model file of your own: any RT-DETR with Mobile MQA after the rows you name, its indices counted anew."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import ROOT

from mqa_lib import checks
from mqa_lib.blocks import MobileMQABlock
from mqa_lib.rtdetr import fit
from mqa_lib.rtdetr.audit import decoder_maps
from mqa_lib.rtdetr.build import MODELS, quietly

_THEIRS = {file.stem: file for file in sorted((ROOT / "cfg/models/rt-detr").glob("*.yaml"))}
BASES: dict[str, Path] = {**_THEIRS, **MODELS}
_SIDE_PX = 160  # leaves tokens enough for 300 queries
_ARGUMENTS = "channels, query heads, channels of a head, kv_stride, start of the layer scale"


@dataclass(frozen=True)
class Block:
    """The Mobile MQA block to put after one row.

    Args:
        after: Index of that row in the base.
        kv_stride: Down-sampling of keys and values.
        num_heads: Query heads.
        key_dim: Channels of a head.
        layer_scale: Start of the layer scale. MobileNetV4's 1e-5 keeps the network what it was when weights are
            carried over, also in half precision; short runs from random weights learn faster from 0.1 or 1.
    """

    after: int
    kv_stride: int = 1
    num_heads: int = 4
    key_dim: int = 64
    layer_scale: float = 1e-5


@dataclass(frozen=True)
class _Row:
    """One row of a model file: where it stands in the text, and what it says."""

    start: int
    end: int
    numbers: tuple[
        tuple[int, int, int], ...
    ]  # each number of `from`: where it starts, where it ends, the number


def base_file(base: str | Path) -> Path:
    """Return the model file that a name of ours or of ultralytics, or a path, stands for.

    Raises:
        ValueError: The name is not known; or the file is no YAML file.
        FileNotFoundError: The file does not exist.
    """
    if str(base) in BASES:
        return BASES[str(base)]
    path = Path(base)
    if path.suffix == "":
        checks.one_of("base", str(base), BASES)
    if path.suffix not in (".yaml", ".yml"):
        raise checks.refuse(
            "base", base, "must be a model file (.yaml)", f"Or use one of: {', '.join(BASES)}."
        )
    if not path.exists():
        raise FileNotFoundError(f"`base` (={base}) does not exist. Or use one of: {', '.join(BASES)}.")
    return path


def with_blocks(base: str | Path, blocks: Sequence[Block]) -> str:
    """Return the text of a model file: the base's with a row for each block, every index after it counted anew.

    The channels are those that the base's rows are found to have when they run. The new model is built, the base's
    weights are laid into it, and with its layer scales at zero it has to give its decoder what the base gives.

    Args:
        base: A name in `BASES`, or a model file of an RT-DETR.
        blocks: The blocks, one or more, in any order.

    Raises:
        ValueError: The base is broken, no RT-DETR or not written one row a line, or a row does not exist, is in the
            head, is named twice, or does not make a feature map; or a block's sizes are refused.
        FileNotFoundError: The base does not exist.
    """
    text, content = fit.read("base", base_file(base))
    if content["head"][-1][2] != "RTDETRDecoder":
        rule = f"must end in RTDETRDecoder, and ends in {content['head'][-1][2]}"
        raise checks.refuse("base", base, rule, f"Use an RT-DETR such as {', '.join(BASES)}.")
    blocks = sorted(blocks, key=lambda block: block.after)
    for block in blocks:
        if not math.isfinite(block.layer_scale):
            way_out = "Use 1e-5, or 0.1 or 1 for short runs."
            raise checks.refuse("layer_scale", block.layer_scale, "must be a finite number", way_out)
    _check_places([block.after for block in blocks], content)
    with quietly():
        network = _network(text)
        maps = _maps(network, {block.after for block in blocks})
        written = _insert(text, blocks, maps)
        _check_same(network, _network(written), blocks)
    return written


def write(
    target: str | Path, base: str | Path, blocks: Sequence[Block], made_by: str = "", force: bool = False
) -> Path:
    """Write the model file of `with_blocks` with a head that says how it was made, and return its path.

    Args:
        target: Where to write, ending in .yaml.
        base: As in `with_blocks`.
        blocks: As in `with_blocks`.
        made_by: The command to put into the file's head; made from the arguments if not given.
        force: Whether to write over a file that exists.

    Raises:
        FileExistsError: `target` exists and `force` is not set.
        ValueError: `target` does not end in .yaml, or as `with_blocks`.
    """
    target = Path(target)
    if target.suffix != ".yaml":
        way_out = f"Use {target.with_suffix('.yaml') if target.name else 'mine.yaml'}."
        raise checks.refuse("output", target, "must end in .yaml", way_out)
    if target.is_dir():
        raise checks.refuse("output", target, "is a folder", "Use another name.")
    checks.unused("output", target, force)
    rows = ", ".join(
        str(block.after + place + 1) for place, block in enumerate(sorted(blocks, key=lambda b: b.after))
    )
    said = made_by or f"mqa_lib.rtdetr.new_model.write, base {base}"
    head = (
        f"# Made by: {said}\n"
        f"# New: row{'s' * (len(blocks) > 1)} {rows}; the numbers of all rows after were counted anew.\n"
        f"# MobileMQABlock arguments: {_ARGUMENTS}.\n"
        "# To build it: `import mqa_lib.rtdetr` first, or `python -m mqa_lib yolo ... model=THIS_FILE`.\n\n"
    )
    text = head + with_blocks(base, blocks)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


def _network(text: str) -> Any:
    content = yaml.safe_load(text)
    if content.get(
        "scales"
    ):  # a file that offers several is built as ultralytics does when none is asked for
        content.setdefault("scale", next(iter(content["scales"])))
    return RTDETRDetectionModel(content, verbose=False).eval()


def _check_places(after: list[int], content: dict[str, Any]) -> None:
    backbone, rows = len(content["backbone"]), len(content["backbone"]) + len(content["head"])
    if not after:
        raise checks.refuse("after", "", "names no row", f"Use one or more of 0 to {backbone - 1}.")
    for place, row in enumerate(after):
        if not 0 <= row < rows:
            rule = f"does not exist: the model has rows 0 to {rows - 1}"
            raise checks.refuse("after", row, rule, f"Use a row of the backbone, 0 to {backbone - 1}.")
        if row >= backbone:
            kind = content["head"][row - backbone][2]
            rule = f"is a row of the head ({kind}), where maps are mixed already"
            raise checks.refuse("after", row, rule, f"Use a row of the backbone, 0 to {backbone - 1}.")
        if row in after[:place]:
            raise checks.refuse("after", row, "is named twice", "Name each row once.")


def _maps(network: Any, wanted: set[int]) -> dict[int, tuple[int, int]]:
    """Return (channels, stride) of the maps that some rows make, found by running them."""
    found = {}
    for index, _, made in fit.steps(
        network.model, torch.zeros(1, network.yaml["channels"], _SIDE_PX, _SIDE_PX)
    ):
        if index not in wanted or made is None:
            continue
        if not isinstance(made, Tensor) or made.dim() != 4:
            raise checks.refuse("after", index, "does not make a feature map", "Use a row that does.")
        found[index] = (made.shape[1], _SIDE_PX // made.shape[-1])
        if len(found) == len(wanted):
            break
    return found


def _insert(text: str, blocks: Sequence[Block], maps: dict[int, tuple[int, int]]) -> str:
    rows = _rows(text)
    new_index = [index + sum(block.after < index for block in blocks) for index in range(len(rows))]
    taken_over = {block.after for block in blocks}
    # Whoever read a row reads the block after it.
    source = [index + (old in taken_over) for old, index in enumerate(new_index)]
    edits: list[tuple[int, int, str]] = []
    for old, row in enumerate(rows):
        for start, end, number in row.numbers:
            if number >= 0:
                edits.append((start, end, str(source[number])))
            elif number != -1 and old + number >= 0:  # -1 is the row or block just before, whatever it is
                edits.append((start, end, str(source[old + number] - new_index[old])))
        line_end = text.find("\n", row.end) if "\n" in text[row.end :] else len(text)
        comment = text[row.end : line_end]
        edits.append((row.end, line_end, _renumbered(comment, old, new_index[old])))
    for block in blocks:
        row = rows[block.after]
        line_start = text.rfind("\n", 0, row.start) + 1
        line_end = text.find("\n", row.end) if "\n" in text[row.end :] else len(text)
        channels, stride = maps[block.after]
        scale = yaml.safe_dump(float(block.layer_scale)).splitlines()[
            0
        ]  # 1.0e-05: YAML takes 1e-05 for a word
        said = f"[{channels}, {block.num_heads}, {block.key_dim}, {block.kv_stride}, {scale}]"
        comment = f"# {source[block.after]}, Mobile MQA on stride {stride}"
        line = f"\n{text[line_start : row.start]}[-1, 1, MobileMQABlock, {said}] {comment}"
        edits.append((line_end, line_end, line))
    for start, end, new in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _renumbered(comment: str, old: int, new: int) -> str:
    """Return a row's comment with its own number, at the start or in brackets, replaced."""
    return re.sub(rf"(?<=#\s){old}\b|(?<=#){old}\b|(?<=\(){old}(?=\))", str(new), comment)


def _rows(text: str) -> list[_Row]:
    """Return the rows of a model file with their places in its text.

    Raises:
        ValueError: Rows are not written one a line, each after a dash.
    """
    nodes = {key.value: value for key, value in yaml.compose(text, Loader=yaml.SafeLoader).value}
    rows = []
    for node in (row for part in fit.PARTS for row in nodes[part].value):
        start, end = node.start_mark.index, node.end_mark.index
        if text[text.rfind("\n", 0, start) + 1 : start].strip() != "-":
            line = node.start_mark.line + 1
            raise checks.refuse(
                "base", f"line {line}", "must hold one row after a dash", "Write a row a line."
            )
        sources = [node.value[0]] if isinstance(node.value[0], yaml.ScalarNode) else node.value[0].value
        numbers = tuple((n.start_mark.index, n.end_mark.index, int(n.value)) for n in sources)
        rows.append(_Row(start, end, numbers))
    return rows


def _check_same(base: Any, new: Any, blocks: Sequence[Block]) -> None:
    """Accept a new network that, with its new layer scales at zero, gives its decoder what the base gives its own.

    Raises:
        RuntimeError: It does not, which would be a mistake of this module.
    """
    added = {block.after + place + 1 for place, block in enumerate(blocks)}
    kept = [row for index, row in enumerate(new.model) if index not in added]
    for theirs, own in zip(base.model, kept, strict=True):
        own.load_state_dict(theirs.state_dict())
    for index in added:
        block = new.model[index]
        assert isinstance(block, MobileMQABlock)
        torch.nn.init.zeros_(block.layer_scale.gamma)
    x = torch.rand(1, base.yaml["channels"], _SIDE_PX, _SIDE_PX)
    pairs = zip(decoder_maps(base, x), decoder_maps(new, x), strict=True)
    if not all(torch.allclose(theirs, own, rtol=1e-4, atol=1e-5) for theirs, own in pairs):
        raise RuntimeError(
            "The new model does not start as its base. Please report this with the base's file."
        )
