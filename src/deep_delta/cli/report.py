"""`ddl report`: runs as one page to look at, and as figures for papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deep_delta.cli.device import check_device_name, resolve_device
from deep_delta.cli.options import Parser
from deep_delta.errors import ConfigError, DeepDeltaError
from deep_delta.runs.layout import resolve_checkpoint

if TYPE_CHECKING:
    from deep_delta.explore import Exploration, Variant
    from deep_delta.report import Sample

_DESCRIPTION = """
Write one HTML page about runs, below 2 MB, that needs nothing else: no network, no server, no other file. It has the
command, configuration, seeds and machine, the ranking with what is not resolved, curves with bands over seeds, what
each variant costs, the gates of every layer, a short sample of each variant, and the inspections and benchmarks that
lie beside the runs. RUN is what `ddl train` wrote, a folder of such runs, or a saved result. With scripts off, and
printed, the page has the same charts as pictures.
"""

_EXAMPLES = """
  ddl report runs/book
  ddl report runs/demo-1 --figures figures
  ddl report runs/a runs/b --out both.html --no-samples
"""

_PROMPT = ""
_TOKENS = 160


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    check_device_name(options.device)

    from deep_delta.cli.console import notes, out
    from deep_delta.report.figures import check_folder, write_figures

    first = Path(options.runs[0])
    page = Path(options.out) if options.out else (first if first.is_dir() else first.parent) / "report.html"
    if options.figures is not None:
        check_folder(Path(options.figures))
        if Path(options.figures).resolve() in (page.resolve(), *page.resolve().parents[:1]):
            raise ConfigError(f"--figures wants a folder of its own, and the page goes to {page}")
    exploration, size = write_report(options.runs, page, samples=options.samples, device=options.device)
    for notice in exploration.notices:
        notes.print(notice, markup=False, soft_wrap=True)
    out.print(f"{page}, {size / 1e6:.2f} MB; open it in a browser", markup=False, soft_wrap=True)
    if options.figures is not None:
        with notes.status("drawing figures"):
            names = write_figures(exploration, Path(options.figures))
        out.print(f"{options.figures}: {len(names)} figures, each as SVG and PNG", markup=False, soft_wrap=True)


def write_report(
    runs: Sequence[str | Path], page: Path, *, samples: bool = True, device: str = "auto"
) -> tuple[Exploration, int]:
    """Write the page of some runs; what was read, and the page's bytes. What is wrong with the target, the runs or the
    installation is told before anything is read."""
    from deep_delta.cli.console import notes
    from deep_delta.explore import open_paths
    from deep_delta.report.drawing import converter
    from deep_delta.report.page import check_target, write_page

    exploration = open_paths(runs)
    check_target(page)
    converter()
    with notes.status("reading"):
        exploration.read_all().require_content()
    texts = list(_samples(exploration, device)) if samples else []
    with notes.status("drawing"):
        return exploration, write_page(exploration, page, texts)


def _parser() -> Parser:
    parser = Parser("report RUN… [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, a folder of runs, a saved result")
    parser.add_argument("--out", metavar="FILE", help="the page; an earlier one is replaced [RUN/report.html]")
    parser.add_argument("--figures", metavar="DIR", help="a new folder for every chart as SVG and PNG")
    parser.add_argument(
        "--no-samples", dest="samples", action="store_false", help="load no checkpoint, and so write no sample"
    )
    parser.add_device()
    return parser


def _samples(exploration: Exploration, device: str) -> Iterator[Sample]:
    """A short text by the latest checkpoint of each variant; or one line why there is none."""
    from deep_delta.cli.console import notes
    from deep_delta.report import Sample

    for variant in exploration.variants:
        with notes.status(f"{variant.label} writes a sample"):
            try:
                yield _sample(variant, device)
            except DeepDeltaError as problem:
                yield Sample(variant.label, "", "", " ".join(str(problem).split()))


def _sample(variant: Variant, device: str) -> Sample:
    trace = variant.traces[0]
    checkpoint = resolve_checkpoint(trace.path)

    from deep_delta.data.synthetic.tasks import is_task
    from deep_delta.generation.engine import generate
    from deep_delta.generation.sampling import Sampling
    from deep_delta.report import Sample
    from deep_delta.training.checkpoint import load_checkpoint

    model, tokenizer, manifest = load_checkpoint(checkpoint, resolve_device(device))
    prompt = tokenizer.decode([0]) if is_task(manifest.data.name) else _PROMPT
    pieces = generate(model, tokenizer, prompt, max_new_tokens=_TOKENS, sampling=Sampling(temperature=0.7), seed=1)
    seed = "" if trace.seed is None else f", seed {trace.seed}"
    return Sample(f"{variant.label}{seed}, after step {manifest.step:,}", prompt, "".join(pieces))
