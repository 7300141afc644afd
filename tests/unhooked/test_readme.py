"""What the README shows is what the records say, and its example runs."""

import re
from pathlib import Path

import torch

from notebooks import readme

TEXT = (readme.ROOT / "README.md").read_text()


def test_every_table_is_the_one_that_the_records_give():
    assert readme.written(TEXT) == TEXT
    assert TEXT.count("| nano-") >= 5 and TEXT.count("](notebooks/0") == 7


def test_the_picture_is_there_and_described():
    alt, path = re.search(r"!\[([^\]]+)\]\(([^)]+)\)", TEXT).groups()
    assert (readme.ROOT / path).stat().st_size > 10_000
    assert "head 0 reads most" in alt


def test_the_example_gives_the_shapes_that_it_names():
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "MobileMQA(" in block
    )
    names: dict[str, object] = {}
    exec(code, names)
    assert names["y"].shape == (1, 160, 21, 33)
    assert names["weights"].shape == (1, 4, 21 * 33, 11 * 17)
    torch.testing.assert_close(names["weights"].sum(-1), torch.ones(1, 4, 693))


def test_the_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert target.startswith("http") or Path(readme.ROOT / target).exists(), target
