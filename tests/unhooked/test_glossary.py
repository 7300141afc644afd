"""The glossary names only what exists, and points only to what is there."""

import inspect
import re

import pytest

from mqa_lib import MobileMQA
from notebooks import sources

TEXT = (sources.ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8")
TERMS, NAMES = (
    [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in part.splitlines()
        if line.startswith("| ")
    ]
    for part in TEXT.split("## Symbols and names")
)
HEADINGS = ["symbol", "ours", "paper", "timm", "ultralytics", "article"]


def named(column):
    """Return what a column of the table of names sets as code."""
    return set(re.findall(r"`(\w+)`", " ".join(row[HEADINGS.index(column)] for row in NAMES[1:])))


def arguments(call):
    return set(inspect.signature(call).parameters)


def test_every_name_of_ours_is_an_argument_and_every_argument_has_a_row():
    ours = arguments(MobileMQA.__init__) | arguments(MobileMQA.forward)
    assert NAMES[0] == HEADINGS
    assert named("ours") | {"self", "padding"} == ours


def test_every_name_of_timm_is_an_argument_of_its_layer():
    attention2d = pytest.importorskip("timm.layers.attention2d")
    layer = attention2d.MultiQueryAttention2d
    assert named("timm") <= arguments(layer.__init__) | arguments(layer.forward)


def test_every_name_of_ultralytics_is_an_argument_of_its_attention():
    transformer = pytest.importorskip("ultralytics.nn.modules.transformer")
    assert named("ultralytics") <= arguments(transformer.AIFI.__init__) | arguments(transformer.AIFI.forward)


def test_terms_stand_in_order_and_each_once():
    terms = [row[0].casefold() for row in TERMS[1:]]
    assert terms == sorted(set(terms), key=lambda term: term.replace(",", ""))


def test_every_link_leads_to_a_notebook_with_the_number_it_shows():
    for number, target in re.findall(r"\[(\d)\]\(([\w.]+)\)", TEXT):
        assert target.startswith(f"0{number}_") and (sources.ROOT / "notebooks" / target).is_file()


def test_a_term_is_used_in_the_notebook_that_is_said_to_introduce_it():
    for term, _, places in TERMS[1:]:
        word = re.split(r"[ ,(]", term)[0].casefold().removesuffix("s")
        for target in re.findall(r"\(([\w]+)\.ipynb\)", places):
            text = (sources.SOURCES / f"{target}.py").read_text(encoding="utf-8").casefold()
            assert word in text, f"{term}: {target}"
