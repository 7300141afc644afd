"""new-model writes a file that starts as its base, with every index counted anew, and refuses in good words."""

import re

import pytest
import torch
import yaml
from ultralytics.nn.tasks import RTDETRDetectionModel

from mqa_lib import MobileMQABlock, rtdetr
from mqa_lib.__main__ import main
from mqa_lib.rtdetr import audit, new_model
from mqa_lib.rtdetr.build import content_of
from mqa_lib.rtdetr.new_model import Block


def rows_of(text):
    content = yaml.safe_load(text)
    return content["backbone"], content["head"]


@pytest.mark.parametrize(
    ("base", "ours", "blocks"),
    [
        ("rtdetr-nano-stock", "rtdetr-nano-mobile-mqa", [Block(4, 2, 4, 32, 1.0), Block(6, 1, 4, 32, 1.0)]),
        ("rtdetr-resnet50", "rtdetr-resnet50-mobile-mqa", [Block(4, 1), Block(3, 2)]),
        ("rtdetr-l", "rtdetr-l-mobile-mqa", [Block(7, 2), Block(9, 1)]),
        ("rtdetr-x", "rtdetr-x-mobile-mqa", [Block(10, 2), Block(13, 1)]),
    ],
)
def test_the_files_that_were_written_by_hand_come_out(base, ours, blocks):
    backbone, head = rows_of(new_model.with_blocks(base, blocks))
    expected = content_of(ours)
    assert [row[:3] for row in backbone] == [row[:3] for row in expected["backbone"]]
    assert head == expected["head"]
    found, wanted = (
        [row[3] for row in rows if row[2] == "MobileMQABlock"] for rows in (backbone, expected["backbone"])
    )
    assert [row[: len(short)] for row, short in zip(found, wanted, strict=True)] == wanted


def test_the_new_model_s_decoder_gets_what_the_base_s_gets_while_the_layer_scale_is_zero(tmp_path):
    file = new_model.write(tmp_path / "mine.yaml", "rtdetr-nano-stock", [Block(0, 2, 2, 5, 0.0), Block(8)])
    stock, mine = (
        RTDETRDetectionModel(str(f), nc=3, verbose=False).eval()
        for f in (rtdetr.MODELS["rtdetr-nano-stock"], file)
    )
    kept = [row for row in mine.model if not isinstance(row, MobileMQABlock)]
    for theirs, own in zip(stock.model, kept, strict=True):
        own.load_state_dict(theirs.state_dict())
    mine.model[10].layer_scale.gamma.data.zero_()
    x = torch.rand(1, 3, 96, 128)
    for theirs, own in zip(audit.decoder_maps(stock, x), audit.decoder_maps(mine, x), strict=True):
        torch.testing.assert_close(own, theirs)


def test_a_file_that_would_not_start_as_its_base_is_never_written(tmp_path, monkeypatch):
    insert = new_model._insert
    wrong = ("[5, 1, Conv, [64, 1", "[3, 1, Conv, [64, 1")  # P3 from a row as wide, two too early
    monkeypatch.setattr(new_model, "_insert", lambda *given: insert(*given).replace(*wrong))
    with pytest.raises(RuntimeError, match="does not start as its base"):
        new_model.write(tmp_path / "mine.yaml", "rtdetr-nano-stock", [Block(4)])
    assert not list(tmp_path.iterdir())


def test_relative_and_absolute_sources_lead_to_the_same_rows_as_before(tmp_path):
    text = rtdetr.MODELS["rtdetr-nano-stock"].read_text()
    # P4 by a relative source that reaches across the place of the new row: row 13 reads row 6.
    assert text.count("[6, 1, Conv, [64") == 1
    (tmp_path / "base.yaml").write_text(text.replace("[6, 1, Conv, [64", "[-7, 1, Conv, [64"))
    backbone, head = rows_of(new_model.with_blocks(tmp_path / "base.yaml", [Block(8)]))
    assert head[4][0] == -8 and len(backbone) == 10
    assert head[-1][0] == [21, 24, 27]


def test_comments_stay_and_their_numbers_follow():
    text = new_model.with_blocks("rtdetr-l", [Block(3), Block(7)])
    assert "# 5-P4/16" in text and "# stage 2" in text and "# X3 (23), fpn_blocks.1" in text
    assert re.search(r"MobileMQABlock, \[512, 4, 64, 1, 1.0e-05\]\] # 4, Mobile MQA on stride 8\n", text)


def test_a_file_says_how_it_was_made_and_can_be_loaded(tmp_path, capsys):
    target = tmp_path / "deep" / "mine.yaml"
    command = ["new-model", "--base", "rtdetr-nano-stock", "--after", "4,6", "--kv-stride", "2,1"]
    command += ["--num-heads", "3", "--key-dim", "5", "--layer-scale", "0.1", "-o", str(target)]
    assert main(command) == 0 and str(target) in capsys.readouterr().out
    assert target.read_text().startswith(
        "# Made by: python -m mqa_lib new-model --base rtdetr-nano-stock --after 4,6"
    )
    blocks = [row for row in rtdetr.load(target).model.model if isinstance(row, MobileMQABlock)]
    found = [(b.dim, b.attn.num_heads, b.attn.key_dim, b.attn.kv_stride) for b in blocks]
    assert found == [(96, 3, 5, 2), (128, 3, 5, 1)]
    assert [b.layer_scale.gamma[0].item() for b in blocks] == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (
            "99",
            r"`after` \(=99\) does not exist: the model has rows 0 to 27\. Use a row of the backbone, 0 to 8",
        ),
        ("9", r"`after` \(=9\) is a row of the head \(Conv\).*Use a row of the backbone, 0 to 8"),
        ("3,3", r"`after` \(=3\) is named twice\. Name each row once"),
    ],
)
def test_a_row_that_cannot_take_a_block_is_refused(after, said, tmp_path, capsys):
    target = tmp_path / "mine.yaml"
    assert main(["new-model", "--base", "rtdetr-nano-stock", "--after", after, "-o", str(target)]) == 2
    assert re.search(said, capsys.readouterr().err) and not target.exists()


def test_a_file_that_exists_is_kept_unless_it_may_be_written_over(tmp_path, capsys):
    target = tmp_path / "mine.yaml"
    target.write_text("mine")
    command = ["new-model", "--base", "rtdetr-nano-stock", "--after", "4", "-o", str(target)]
    assert main(command) == 2 and target.read_text() == "mine"
    assert "mine.yaml) exists. Use another name, or --force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0 and "MobileMQABlock" in target.read_text()


def test_an_unknown_base_lists_ours_and_theirs():
    with pytest.raises(
        ValueError, match=r"`base` \(='rtdetr-y'\) is not known.*rtdetr-l, .*rtdetr-nano-stock"
    ):
        new_model.with_blocks("rtdetr-y", [Block(3)])
    with pytest.raises(FileNotFoundError, match=r"`base` \(=nowhere.yaml\) does not exist"):
        new_model.with_blocks("nowhere.yaml", [Block(3)])


def test_a_base_that_is_no_rt_detr_is_refused(tmp_path):
    rows = "nc: 3\nbackbone:\n  - [-1, 1, Conv, [8, 3, 2]]\nhead:\n  - [[0], 1, Detect, [nc]]\n"
    (tmp_path / "yolo.yaml").write_text(rows)
    with pytest.raises(ValueError, match="must end in RTDETRDecoder, and ends in Detect"):
        new_model.with_blocks(tmp_path / "yolo.yaml", [Block(0)])
    (tmp_path / "no.yaml").write_text("names: [key]\n")
    with pytest.raises(ValueError, match="must have the parts `backbone` and `head`"):
        new_model.with_blocks(tmp_path / "no.yaml", [Block(0)])


def test_rows_that_share_a_line_are_refused(tmp_path):
    content = content_of("rtdetr-nano-stock")
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump(content, default_flow_style=True, width=10_000))
    with pytest.raises(ValueError, match=r"must hold one row after a dash\. Write a row a line"):
        new_model.with_blocks(tmp_path / "flow.yaml", [Block(3)])


@pytest.mark.parametrize("scale", ["nan", "inf"])
def test_a_layer_scale_that_is_no_number_is_refused(scale, tmp_path, capsys):
    command = ["new-model", "--base", "rtdetr-nano-stock", "--after", "4", "--layer-scale", scale]
    assert main([*command, "-o", str(tmp_path / "a.yaml")]) == 2 and not list(tmp_path.iterdir())
    assert f"`layer_scale` (={scale}) must be a finite number. Use 1e-5" in capsys.readouterr().err


@pytest.mark.parametrize("output", [".", "deep.yaml"])
def test_an_output_that_is_a_folder_is_refused(output, tmp_path, monkeypatch, capsys):
    (tmp_path / "deep.yaml").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["new-model", "--base", "rtdetr-nano-stock", "--after", "4", "--force", "-o", output]) == 2
    assert re.search(
        r"must end in \.yaml\. Use mine\.yaml|is a folder\. Use another", capsys.readouterr().err
    )


def test_strides_that_are_not_one_or_one_for_each_are_refused(tmp_path, capsys):
    command = ["new-model", "--base", "rtdetr-nano-stock", "--after", "2,4,6", "--kv-stride", "2,1"]
    assert main([*command, "-o", str(tmp_path / "a.yaml")]) == 2
    assert "names 2 strides for 3 rows. Give one, or one for each" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["new-model", "--base", "rtdetr-nano-stock", "--after", "two", "-o", str(tmp_path / "a.yaml")])
    assert "invalid list of whole numbers value: 'two'" in capsys.readouterr().err
