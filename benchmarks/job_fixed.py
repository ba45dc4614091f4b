"""What a job costs before and after its work: one with ten files."""

from __future__ import annotations

from pathlib import Path

from benchmarks.material import figure, make_clips
from benchmarks.process import run_module
from mgc.catalogue.index import index_catalogue
from mgc.config import CatalogueConfig

FILES = 10


def run(clips: Path, folder: Path, rounds: int) -> None:
    """Print the seconds of a job with ten files, of Ray's own start, and of what is left between them."""
    few = make_clips(folder / "ten", FILES)
    catalogue = folder / "ten.parquet"
    index_catalogue(str(few), str(catalogue), CatalogueConfig())
    job, ray = [], []
    for number in range(rounds):
        ray.append(run_module("benchmarks.timed_job", "ray").seconds)
        job.append(
            run_module("benchmarks.timed_job", "extract", str(catalogue), str(folder / f"ten-{number}")).seconds
        )
    figure("job_ten_files_seconds", job, "s")
    figure("ray_start_seconds", ray, "s")
    figure("job_fixed_seconds", [whole - start for whole, start in zip(job, ray, strict=True)], "s_beyond_ray_start")
