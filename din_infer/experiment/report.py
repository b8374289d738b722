"""An experiment's report: report.md, report.html, results.json and the figures."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt

from din_infer.experiment.figures import draw_curves, draw_gains, draw_row_norms
from din_infer.experiment.runs import Run, Runner
from din_infer.experiment.spec import Options, Spec
from din_infer.experiment.summary import Comparison, Spread, Summary
from din_infer.training.config import TrainConfig
from din_infer.training.loop import TrainingData

RESAMPLES = 1000


def run_experiment(
    runner: Runner, spec: Spec, command: str, stage: Callable[[str], object] = lambda name: None
) -> list[Summary]:
    """Trains what is missing, compares, and writes the report into `runner.out`."""
    found = {variant: (runs, chosen, tried) for variant, runs, chosen, tried in runner.runs(spec)}
    stage("bootstrap")
    test = runner.data.splits["test"]
    comparison = Comparison(found[spec.baseline][0], test, RESAMPLES)
    summaries = [
        comparison.summary(variant, {**spec.common, **spec.variants[variant]}, *of_variant)
        for variant, of_variant in found.items()
    ]
    stage("report")
    _draw({variant: runs for variant, (runs, _, _) in found.items()}, summaries, spec.baseline, runner.out)
    configs = {variant: _differences(runs[0].config) for variant, (runs, _, _) in found.items()}
    _write(_context(spec, summaries, configs, runner.data, command), runner.out)
    results = {
        "command": command,
        "data": {name: dict(split.facts) for name, split in runner.data.splits.items()},
        "spec": spec.model_dump(mode="json"),
        "resamples": RESAMPLES,
        "variants": [s.to_dict() for s in summaries],
    }
    (runner.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return summaries


def _draw(runs: Mapping[str, Sequence[Run]], summaries: Sequence[Summary], base: str, out: Path) -> None:
    draw_curves(runs, out / "curves.png")
    if any(members[0].row_norms for members in runs.values()):
        draw_row_norms(runs, out / "row_norms.png")
    if any(s.gains for s in summaries):
        draw_gains(summaries, base, out / "gains.png")


def _context(
    spec: Spec, summaries: Sequence[Summary], configs: Mapping[str, Options], data: TrainingData, command: str
) -> dict[str, Any]:
    splits = {
        name: {"requests": split.requests.count, "candidates": len(split.labels)} for name, split in data.splits.items()
    }
    facts = data.splits["test"].facts
    return {
        "title": f"{' and '.join(spec.variants) if len(spec.variants) < 3 else f'{len(spec.variants)} models'}"
        f" on {facts.get('dataset', 'requests')}",
        "data": {name: facts.get(name) for name in ("dataset", "protocol", "split")},
        "splits": splits,
        "sampled": bool(facts.get("sampled_negatives")),
        "grouped": data.splits["test"].groups is not None,
        "groups": "users" if data.splits["test"].groups is not None else "requests",
        "seeds": list(spec.seeds),
        "base": spec.baseline,
        "command": command,
        "resamples": f"{RESAMPLES:,}",
        "summaries": summaries,
        "compared": [s for s in summaries if s.gains],
        "optimum": (facts.get("bayes") or {}).get("auc"),
        "configs": {name: _options(options) for name, options in configs.items()},
        "searched": any(s.tried for s in summaries),
        "row_norms": bool(data.schema.tables),
    }


def _write(context: Mapping[str, Any], out: Path) -> None:
    environment = Environment(
        loader=PackageLoader("din_infer.experiment"), undefined=StrictUndefined, trim_blocks=True, autoescape=False
    )
    environment.filters |= {"spread": _spread, "signed": "{:+.4f}".format, "options": _options}
    text = environment.get_template("report.md.jinja").render(context)
    (out / "report.md").write_text(text, encoding="utf-8")
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    page = environment.get_template("page.html.jinja").render(title=context["title"], body=_with_figures(body, out))
    (out / "report.html").write_text(page, encoding="utf-8")


def _with_figures(page: str, out: Path) -> str:
    """The page with its pictures inside, so that it can be sent as one file."""
    return re.sub(
        r'(?<=src=")(\w+\.png)',
        lambda name: "data:image/png;base64," + base64.b64encode((out / name[0]).read_bytes()).decode(),
        page,
    )


def _differences(config: TrainConfig) -> Options:
    """What a configuration says beyond the defaults of its kind of model."""
    kind = {"model": config.model, "regularisation": config.regularisation}
    usual = TrainConfig.from_options(kind).model_dump(mode="json")
    usual |= {"model": "din", "regularisation": "mba", "seed": config.seed}
    return {name: value for name, value in config.model_dump(mode="json").items() if value != usual[name]}


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())


def _spread(spread: Spread | None, digits: int = 4) -> str:
    if spread is None:
        return "-"
    return f"{spread.mean:.{digits}f}" + ("" if spread.std is None else f" ± {spread.std:.{digits}f}")
