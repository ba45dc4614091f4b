"""Run the benchmarks named (all by default); each prints lines `figure NAME VALUE UNIT`."""

from __future__ import annotations

import argparse
import ast
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import (
    augment_views,
    diff_million,
    driver_memory,
    extract_over_pool,
    features_speed,
    gpu,
    job_fixed,
    memory,
    one_file,
    report_page,
    runs_behind,
    s3_over_local,
    serving,
    stages,
    stored_bytes,
    streaming,
    supervise_cost,
    tag_speed,
    train_loop,
)
from benchmarks.material import make_clips

BENCHMARKS = {
    "extract": extract_over_pool.run,
    "features": features_speed.run,
    "fixed": job_fixed.run,
    "tag": tag_speed.run,
    "gpu": gpu.run,
    "gpu_train": gpu.run_training,
    "stages": stages.run,
    "one_file": one_file.run,
    "augment": augment_views.run,
    "memory": memory.run,
    "supervise": supervise_cost.run,
    "s3": s3_over_local.run,
    "serve": serving.run,
    "diff": diff_million.run,
    "driver": driver_memory.run,
    "runs_behind": runs_behind.run,
    "stored_bytes": stored_bytes.run,
    "report": report_page.run,
    "train": train_loop.run,
    "streaming": streaming.run,
}
PROGRAMS = (
    "windows",
    "fast_student",
    "review_loop",
    "promises_held",
    "scheduled_runs",
    "augment_quality",
    "without_ray",
    "plain_actors",
)
"""Run by `python -m benchmarks.NAME`: they need data, or print tables."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n\nbenchmarks:\n" + "\n".join(_described(BENCHMARKS)),
        epilog="programs of their own, python -m benchmarks.NAME:\n" + "\n".join(_described(PROGRAMS)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (default: all)")
    parser.add_argument("--clips", type=int, default=400, help="MP3 clips of 30 s (default 400)")
    parser.add_argument("--rounds", type=int, default=3, help="repeats; medians are printed (default 3)")
    parser.add_argument("--peers", metavar="FOLDER", help="tag: published weights (fcn.pth, crnn.pth, musicnn.pth)")
    parser.add_argument("--student", metavar="BUNDLE", help="tag: a student's bundle, for one made on the spot")
    wanted = parser.parse_args()
    BENCHMARKS["tag"] = partial(tag_speed.run, given=tag_speed.Given(wanted.peers, wanted.student))
    unknown = set(wanted.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    with tempfile.TemporaryDirectory(prefix="mgc-bench-") as folder:
        clips = make_clips(Path(folder, "clips"), wanted.clips)
        for name in wanted.names or BENCHMARKS:
            BENCHMARKS[name](clips, Path(folder), wanted.rounds)


def _described(names: Iterable[str]) -> Iterator[str]:
    """Yield a line for each: its name, and the first line of its module's docstring."""
    for name in names:
        module = BENCHMARKS[name].__module__.partition(".")[2] if name in BENCHMARKS else name
        source = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
        about = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
        yield f"  {name:<16} {about}"


if __name__ == "__main__":
    main()
