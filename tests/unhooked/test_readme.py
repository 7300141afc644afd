"""What the README shows is what the records say, and its example runs."""

import json
import re
import statistics
from pathlib import Path

import torch

from mqa_lib.experiments import read_grid
from notebooks import readme
from tests.experiments.stub import write_grid

TEXT = (readme.ROOT / "README.md").read_text()


def test_every_table_is_the_one_that_the_records_give():
    assert readme.written(TEXT) == TEXT
    assert "| no attention | " in TEXT and TEXT.count("](notebooks/0") == 7


def test_the_picture_is_there_and_described():
    alt, path = re.search(r"!\[([^\]]+)\]\(([^)]+)\)", TEXT).groups()
    assert (readme.ROOT / path).stat().st_size > 10_000
    assert "head 0 reads most" in alt


def test_the_charts_are_described_by_every_seed_of_the_records():
    for file, (_, alt) in readme.charts().items():
        assert f"![{alt}]({file})" in TEXT and (readme.ROOT / file).stat().st_size > 5_000


def test_the_share_of_every_arm_of_the_ablation_is_in_its_table():
    rows = json.loads((readme.ROOT / readme.PROBE).read_text())["rows"]
    for arm in {row["arm"] for row in rows}:
        middle = statistics.median(row["accuracy"] for row in rows if row["arm"] == arm)
        assert re.search(rf"\| {re.escape(arm)} \| \d \| {middle:.3f}", TEXT)


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


def test_what_the_grid_still_lacks_is_named_from_its_records(tmp_path):
    file = write_grid(tmp_path / "data/experiments").rename(tmp_path / readme.GRID)
    runs = read_grid(file).runs
    (tmp_path / readme.RUNS).mkdir(parents=True)
    for done, said in (
        (0, "Of the grid's 4 runs 0 are recorded."),
        (1, "Of the grid's 4 runs 1 are recorded. There is none yet of: nano-mobile-mqa, plain."),
        (3, "Of the grid's 4 runs 3 are recorded."),
        (4, "All 4 runs of the grid are recorded."),
    ):
        for run in runs[:done]:
            record = {"recipe": run.recipe, "epochs": [], "experiment": {"hash": run.identity}}
            record["finished"] = True
            (tmp_path / readme.RUNS / f"{run.name}.json").write_text(json.dumps(record))
        assert readme.open_runs(tmp_path) == said
