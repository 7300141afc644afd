"""The command line: `python -m mqa_lib --help` lists its commands."""

import argparse
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def _doctor(_: argparse.Namespace, __: Sequence[str]) -> int:
    from mqa_lib import doctor

    return doctor.main()


def _bench(_: argparse.Namespace, rest: Sequence[str]) -> int:
    from mqa_lib import bench

    return bench.main(list(rest))


def _data(options: argparse.Namespace, _: Sequence[str]) -> int:
    if options.action == "generate":
        from mqa_lib.datasets import keys_and_locks

        counts = (options.train, options.val, options.seed, options.size, options.test)
        print(keys_and_locks.generate(options.path, *counts))
        return 0
    from mqa_lib import checks
    from mqa_lib.datasets.inspect import inspect

    sheet: Path | None = options.sheet
    if sheet is not None and sheet.suffix.lower() != ".png":  # before a check that may take minutes
        raise checks.refuse("sheet", sheet, "must end in .png", f"Use {sheet.with_suffix('.png')}.")
    report = inspect(options.path)
    print(report)
    if sheet is not None:
        from mqa_lib import contact_sheet

        try:
            print(contact_sheet.draw(report, sheet))
        except ValueError:  # no picture can be read, which the report has told
            if not report.problems:
                raise
    return 1 if report.problems else 0


def _train(options: argparse.Namespace, _: Sequence[str]) -> int:
    from mqa_lib.experiments import table
    from mqa_lib.rtdetr.train import Recipe, train

    recipe = Recipe(
        options.model,
        options.seed,
        options.epochs,
        options.imgsz,
        options.batch,
        options.lr0,
        keeps_pairs=not options.augment,
        num_queries=options.num_queries,
    )
    folder = options.folder or Path("runs") / f"{Path(options.model).stem}-seed{options.seed}"
    device = {"device": options.device} if options.device else {}
    record = train(recipe, options.data, folder, stop_at_nan=True, **device)
    print(table([record]))
    print(f"Weights and record: {folder}")
    return 0


def _train_bundled(options: argparse.Namespace, _: Sequence[str]) -> int:
    from mqa_lib.experiments import train_bundled

    print("\n".join(map(str, train_bundled(options.work, options.out))))
    return 0


def _compare(options: argparse.Namespace, _: Sequence[str]) -> int:
    from mqa_lib.experiments import command

    return command.run(options)


def _probe(options: argparse.Namespace, _: Sequence[str]) -> int:
    import json

    import torch

    from mqa_lib import probe, timing

    path: Path = options.output
    if options.weights:
        for written in probe.bundle(path.parent):
            print(written, flush=True)
        return 0
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    # one thread, so that two grids can share a small machine and the seconds mean the same on each
    torch.set_num_threads(1)
    for row in probe.ablation(options.grid, done=rows):
        rows.append({**row, "commit": timing.commit(), "cpu": timing.machine()["cpu"]})
        record = {
            "made by": f"python -m mqa_lib probe {options.grid}",
            "machine": timing.machine(),
            "rows": rows,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(record) + "\n")
        draft.replace(path)
        print({key: value for key, value in row.items() if key != "curve"}, flush=True)
    return 0


def _export(options: argparse.Namespace, _: Sequence[str]) -> int:
    from mqa_lib import checks
    from mqa_lib.rtdetr import fit, load, save_weights
    from mqa_lib.rtdetr.build import content_of

    checks.unused("output", options.output, options.force)
    card = {"weights_are": options.weights_are}
    model = load(options.checkpoint)
    if options.model is not None:
        card["model"] = options.model
        fit.check_variant(model.model, content_of(options.model), options.model)
    print(save_weights(model, options.output, card))
    return 0


def _explore(options: argparse.Namespace, _: Sequence[str]) -> int:
    from mqa_lib import checks, explorer, pictures

    output: Path = options.output
    draws = output.suffix.lower() == ".png"
    if not draws and output.suffix.lower() not in (".html", ".htm"):
        raise checks.refuse("output", output, "must end in .html or .png", "Use `-o attention.html`.")
    if draws and len(options.pictures) > 1:
        raise checks.refuse("output", output, "holds one picture only", "End it in .html for several.")
    for picture in options.pictures:
        pictures.read(picture)  # refuse the last before the model has looked at the first
    from mqa_lib import rtdetr
    from mqa_lib.rtdetr import article
    from mqa_lib.rtdetr.build import source

    model = rtdetr.load(options.checkpoint)
    said = options.weights_are
    if said is None and source(options.checkpoint).suffix == ".yaml":
        said = f"Random, as {source(options.checkpoint).name} builds them: nothing was trained."
    size = options.imgsz and (options.imgsz * 2)[:2]
    article.check_square(model.model, size)
    seen = [
        explorer.look(model, picture, picture.name, said, size, options.layer) for picture in options.pictures
    ]
    if draws:
        print(explorer.export_png(seen[0], output, options.at))
    else:
        print(explorer.export_html(seen, output, options.at, Path(options.checkpoint).name))
    return 0


def _costs(options: argparse.Namespace, _: Sequence[str]) -> int:
    from mqa_lib.rtdetr import costs

    return costs.run(options)


def _carry(options: argparse.Namespace, _: Sequence[str]) -> int:
    from mqa_lib import checks
    from mqa_lib.rtdetr import carry

    checks.unused("output", options.output, options.force)
    print("\n".join(carry.to_file(options.source, options.to, options.output, options.classes)))
    return 0


def _new_model(options: argparse.Namespace, _: Sequence[str]) -> int:
    from mqa_lib.rtdetr import new_model

    strides = options.kv_stride * len(options.after) if len(options.kv_stride) == 1 else options.kv_stride
    if len(strides) != len(options.after):
        raise ValueError(
            f"`--kv-stride` names {len(strides)} strides for {len(options.after)} rows. Give one, or one for each."
        )
    sizes = (options.num_heads, options.key_dim, options.layer_scale)
    blocks = [
        new_model.Block(row, stride, *sizes) for row, stride in zip(options.after, strides, strict=True)
    ]
    made_by = shlex.join(["python", "-m", "mqa_lib", *options.typed])
    print(new_model.write(options.output, options.base, blocks, made_by, options.force))
    return 0


def _yolo(_: argparse.Namespace, rest: Sequence[str]) -> int:
    from mqa_lib.rtdetr import cli

    return cli.run(rest)


def _pixel(text: str) -> tuple[int, int]:
    row, column = map(int, text.split(","))
    return row, column


def _size(text: str) -> tuple[int, ...]:
    sizes = tuple(map(int, text.split(",")))
    if not 1 <= len(sizes) <= 2:
        raise ValueError
    return sizes


def _whole_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


_whole_numbers.__name__ = "list of whole numbers"  # argparse says it to the user
_pixel.__name__, _size.__name__ = "pixel (ROW,COLUMN)", "size (SIZE or HEIGHT,WIDTH)"


# Commands whose options are not ours to read.
_OWN_OPTIONS: dict[str, Callable[[argparse.Namespace, Sequence[str]], int]] = {"bench": _bench, "yolo": _yolo}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mqa_lib", description="Mobile MQA, from formula to detector."
    )
    commands = parser.add_subparsers(title="commands", required=True)

    def command(name: str, run: Callable[..., int], about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=about)
        made.set_defaults(run=run)
        return made

    command("doctor", _doctor, "Say what this machine has and what is missing.")
    data = command("data", _data, "Generate Keys & Locks, or check a data set of any kind.")
    data.add_argument("action", choices=("generate", "check"))
    data.add_argument("path", type=Path, help="folder to write, or data set to check: YOLO or VOC")
    data.add_argument("--sheet", type=Path, metavar="OUT.png", help="draw some of the pictures checked")
    for name, default in (("train", 256), ("val", 64), ("test", 0), ("seed", 0), ("size", 128)):
        data.add_argument(f"--{name}", type=int, default=default)

    train = command("train", _train, "Train a detector; the same command again goes on where it was stopped.")
    train.add_argument(
        "model", nargs="?", default="rtdetr-nano-mobile-mqa", help="a model's name or its YAML file"
    )
    train.add_argument(
        "--data",
        type=Path,
        default=Path("data/keys_and_locks/data.yaml"),
        help="file or folder: YOLO or VOC",
    )
    train.add_argument("--folder", type=Path, help="where weights and record go")
    for name, default in (
        ("seed", 0),
        ("epochs", 8),
        ("imgsz", 128),
        ("batch", 16),
    ):
        train.add_argument(f"--{name}", type=int, default=default)
    train.add_argument("--lr0", type=float, default=5e-4)
    train.add_argument(
        "--num-queries", type=int, default=0, help="of RT-DETR's decoder; 0: as the model file has it"
    )
    train.add_argument("--device", help="cpu, or GPUs such as 0 or 0,1; chosen by itself if not given")
    train.add_argument(
        "--augment", action="store_true", help="ultralytics' augmentation; not for Keys & Locks"
    )

    bundled = command("train-bundled", _train_bundled, "Train the detectors in data/weights again.")
    bundled.add_argument("--work", type=Path, default=Path("runs"))
    bundled.add_argument("--out", type=Path, default=Path("data"))
    compare = command("compare", _compare, "Do the runs of a grid, or print recorded runs as a table.")
    compare.add_argument(
        "what",
        type=Path,
        nargs="?",
        default=Path("data/runs/detectors"),
        help="a grid (.yaml), or a folder of records",
    )
    compare.add_argument("--slice", type=float, metavar="MINUTES", help="stop after the epoch then under way")
    compare.add_argument(
        "--only", default="", metavar="TEXT", help='such as "nano-stock, from-scratch, seed 0"'
    )
    compare.add_argument("--nice", action="store_true", help="leave the machine to others who want it")
    compare.add_argument("--together", action="store_true", help="even if a grid is at work here already")
    compare.add_argument(
        "--ray", metavar="ADDRESS", help="do it on a Ray cluster (CPU only); local starts one"
    )
    compare.add_argument("--records", type=Path, default=Path("data/runs"), help="where records go")
    compare.add_argument("--work", type=Path, default=Path("runs"), help="where data and checkpoints go")
    command("bench", _bench, "Time the layer against timm's and others; its own --help tells more.")
    command(
        "yolo", _yolo, "ultralytics' own command line, with our layers and our models' names known to it."
    )
    new = command(
        "new-model", _new_model, "Write a model file: an RT-DETR with Mobile MQA after rows of yours."
    )
    new.add_argument("--base", required=True, help="a model of ours or of ultralytics, or a model file")
    new.add_argument("--after", type=_whole_numbers, required=True, help="rows of its backbone, such as 3,7")
    new.add_argument("--kv-stride", type=_whole_numbers, default=[1], help="one for all, or one for each")
    new.add_argument("--num-heads", type=int, default=4)
    new.add_argument("--key-dim", type=int, default=64)
    new.add_argument(
        "--layer-scale", type=float, default=1e-5, help="0.1 or 1 for short runs from random weights"
    )
    new.add_argument("-o", "--output", type=Path, required=True)
    explore = command("explore", _explore, "Show on pictures what any RT-DETR looks at.")
    explore.add_argument("checkpoint", help="a .pt, .safetensors or .yaml file, or a model's name")
    explore.add_argument("pictures", type=Path, nargs="+", metavar="picture")
    explore.add_argument("-o", "--output", type=Path, default=Path("attention.html"), help=".html or .png")
    explore.add_argument("--at", type=_pixel, metavar="ROW,COLUMN", help="pixel; else the best detection's")
    explore.add_argument("--imgsz", type=_size, metavar="SIZE", help="SIZE or HEIGHT,WIDTH; else as trained")
    explore.add_argument("--weights-are", help="one sentence: trained on what")
    explore.add_argument("--layer", help="the only attention layer to show")
    ablation = command(
        "probe", _probe, "Train the probe over an ablation's arms and seeds; goes on where it stopped."
    )
    ablation.add_argument("grid", type=Path, nargs="?", default=Path("data/experiments/probe.yaml"))
    ablation.add_argument(
        "--weights", action="store_true", help="instead, train and keep the probes of strides 1, 2 and 4"
    )
    ablation.add_argument("-o", "--output", type=Path, default=Path("data/probe/ablation.json"))
    costs = command("costs", _costs, "Measure what every RT-DETR variant costs beside its stock model.")
    costs.add_argument("--variants", nargs="+", metavar="NAME", help="names of models; all if not given")
    costs.add_argument("--rounds", type=int, default=15, help="rounds of the latency (default: 15)")
    costs.add_argument("--latency-only", action="store_true", help="keep the record's memory, time again")
    costs.add_argument("--size", type=int, default=640, help="pixels of the picture (default: 640)")
    costs.add_argument("-o", "--output", type=Path, default=Path("data/benchmarks/rtdetr.json"))
    carry = command(
        "carry", _carry, "Carry trained weights into a model with attention, to train from there."
    )
    carry.add_argument("source", help="rtdetr-l.pt, your own .pt or .safetensors, a .pth, or imagenet")
    carry.add_argument("--to", required=True, help="a model's name or its YAML file")
    carry.add_argument(
        "--classes", type=int, help="classes of the new model; those of the source if not given"
    )
    carry.add_argument("-o", "--output", type=Path, required=True, help="a .pt or a .safetensors file")
    export = command("export", _export, "Write a checkpoint's weights as safetensors with a card.")
    export.add_argument("checkpoint", type=Path)
    export.add_argument("--model", help="the name of the model that was trained; else the checkpoint's own")
    export.add_argument("--weights-are", required=True, help="one sentence: trained on what")
    export.add_argument("-o", "--output", type=Path, required=True)
    for writes in (new, carry, export):
        writes.add_argument("--force", action="store_true", help="write over a file that exists")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what a user did wrong is one sentence, not a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    own = _OWN_OPTIONS.get(arguments[0]) if arguments else None
    options = argparse.Namespace(run=own) if own else parser.parse_args(arguments)
    options.typed = arguments
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # a class called śruba must not end a check where cp1252 is written
        sys.stdout.reconfigure(errors="replace")
    try:
        return options.run(options, arguments[1:])
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("MQA_TRACEBACK"):
            raise
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except RecursionError:
        if os.environ.get("MQA_TRACEBACK"):
            raise
        said = "A file is nested too deeply, or a part of it holds itself. Write it out without anchors (& and *)."
        print(said, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if os.environ.get("MQA_TRACEBACK"):
            raise
        print("Stopped. The same command goes on with a training or a grid.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
