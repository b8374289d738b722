"""`din-infer train`: the PyTorch reference on a folder of requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from din_infer.training.loop import Progress


def register(app: typer.Typer) -> None:
    app.command()(train)


def train(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder that `din-infer data` wrote: train, valid, test .parquet and schema.yaml.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="din | base. [default: din]")] = None,
    pooling: Annotated[str | None, typer.Option(help="Of the base model: sum | mean. [default: sum]")] = None,
    interaction: Annotated[
        str | None, typer.Option(help="outer | hadamard | none, which cannot be exported. [default: outer]")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="dice | prelu | relu | sigmoid | tanh | bisigmoid. [default: dice]")
    ] = None,
    normalize: Annotated[
        str | None, typer.Option(help="Of the unit's weights: softmax | none. [default: softmax]")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Factor on the unit's weights. [default: none]")] = None,
    unit_hidden: Annotated[
        str | None, typer.Option(help="Widths of the unit's hidden layers, 0 to 4 of them, as 80,40. [default: 36]")
    ] = None,
    tower_hidden: Annotated[str | None, typer.Option(help="The same for the tower. [default: 256,128]")] = None,
    batch_norm: Annotated[
        bool | None, typer.Option("--batch-norm/--no-batch-norm", help="In the tower. [default: no]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split at most. [default: 6]")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Epochs without a better validation GAUC to stop after; 0: never. [default: 2]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Labelled candidates a mini-batch. [default: 512]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's at the start. [default: 0.005]")] = None,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of all gradients. [default: none]")] = None,
    dropout: Annotated[float | None, typer.Option(help="Share of the tower's inputs left out. [default: 0]")] = None,
    regularisation: Annotated[
        str | None, typer.Option(help="Of the embeddings: mba (mini-batch aware) | l2 | none. [default: mba]")
    ] = None,
    strength: Annotated[
        float | None, typer.Option("--lambda", help="Strength of --regularisation. [default: 1; l2: 0.0001]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and order of requests. [default: 0]")] = None,
    device: Annotated[str, typer.Option(help="cpu | cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="Of PyTorch. [default: PyTorch's own]")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with a training that was stopped in --out: same data, options, threads; keep a finished one.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Train a DIN, or the base model it is compared with, and measure it on the valid and test splits.

    Writes checkpoint.pt, config.yaml and metrics.json, all of the epoch with the best validation GAUC. `calibrated` is
    false in metrics.json where the training split's negatives were sampled.

    Examples:

        din-infer train data/ --out run/

        din-infer train data/ --out base/ --model base --pooling mean

        din-infer train data/ --out run/ --device cuda --activation prelu

        din-infer train data/ --out small/ --interaction hadamard --activation prelu --unit-hidden 80,40
    """
    from din_infer.commands.show import calibration, print_calibration, print_metrics, set_torch_threads
    from din_infer.extras import require

    for name in ("torch", "pydantic", "yaml", "sklearn", "pyarrow"):
        require(name, "train")

    from din_infer.training.checkpoint import save_checkpoint
    from din_infer.training.config import TrainConfig
    from din_infer.training.loop import Trainer

    options: dict[str, Any] = {
        "model": model,
        "pooling": pooling,
        "interaction": interaction,
        "activation": activation,
        "normalize": normalize,
        "scale": scale,
        "unit_hidden": _widths(unit_hidden),
        "tower_hidden": _widths(tower_hidden),
        "batch_norm": batch_norm,
        "epochs": epochs,
        "patience": patience,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "clip_norm": clip_norm,
        "dropout": dropout,
        "regularisation": regularisation,
        "penalty_strength": strength,
        "seed": seed,
    }
    config = TrainConfig.from_options(options)
    set_torch_threads(threads)
    trainer = Trainer(data, config, device)
    out.mkdir(parents=True, exist_ok=True)
    state_file = out / "training.pt"
    stopped = state_file.is_file()
    if stopped and not resume:
        typer.echo(f"{state_file}: a training that was stopped; trained anew, as --resume is not given", err=True)
    checkpoint = trainer.finished(out) if resume and not stopped else None
    title = f"{out}: {config.model}" + (", finished before" if checkpoint else "")
    if checkpoint is None:
        with _progress_bar(trainer.candidates) as progress:
            checkpoint = trainer.run(progress, state_file, resume).checkpoint
        save_checkpoint(checkpoint, out)
    config.write(out / "config.yaml")
    metrics = checkpoint.facts["metrics"]
    found = {**metrics, **calibration(checkpoint.facts)}
    (out / "metrics.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    state_file.unlink(missing_ok=True)  # not before: a disk that is full by now leaves what --resume needs
    if as_json:
        print(json.dumps(found))
    else:
        print_metrics(title, metrics)
        print_calibration(found)


def _widths(text: str | None) -> tuple[str, ...] | None:
    """`80,40` as its parts, which TrainConfig reads as numbers; an empty text is no layer."""
    return None if text is None else tuple(part for part in text.split(",") if part)


@contextmanager
def _progress_bar(candidates: int) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("train, loss {task.fields[loss]:.4f}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("train", total=candidates, loss=float("nan"))
        yield lambda done, loss: bar.update(task, completed=done, loss=loss)
