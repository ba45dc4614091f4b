"""Names on disk, and fingerprints, as golden files.

`PYTHONPATH=tests python tests/golden/frozen_names.py` writes them anew.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from answer_makers import mixed_answers
from in_process import without_ray
from model_makers import bundle_contents
from tiny_predictions import tag_once

from mgc.config import Config, EvaluationConfig, FeatureConfig, Section, load_config, model_sections
from mgc.curation.filetags.journal import Entry, JournalHeader
from mgc.curation.review_queue import COLUMNS as REVIEW_COLUMNS
from mgc.curation.similarity import TRACK_COLUMNS, SimilarityManifest
from mgc.errors import MgcError, Stage, TrackCode
from mgc.evaluation.evaluate import evaluate
from mgc.models.bundle import write_bundle
from mgc.models.network_registry import build_model
from mgc.reports.evaluation_report import ReportContext, report_json
from mgc.reports.training_report import write_training_report
from mgc.storage.store import Store
from mgc.studies.runs import RunResult, SystemPredictions
from mgc.tables.compact import plan_prune, prune
from mgc.tables.deletions import rewrite_prediction_content_ids
from mgc.tables.feature_shards import feature_schema
from mgc.tables.lease import Lease
from mgc.tables.run_index import INDEX
from mgc.tables.run_log import OutputDirectory
from mgc.tables.run_records import PredictionSummary, RunRecord
from mgc.tables.schema import CURRENT_PREDICTIONS, KINDS, PLAN, SCHEMA_VERSIONS
from mgc.training.search import SearchResult, Trial, write_result

FOLDER = Path(__file__).parent
RECIPES = FOLDER.parents[1] / "docs" / "recipes"
DATA = {"buckets", "config", "features", "files", "metrics", "model", "settings", "train_genres", "training"}
"""Keys below which other names are data, or are frozen elsewhere."""


def fingerprints() -> str:
    """Return the fingerprint of each section of the default settings, and of each recipe's where it is another."""
    with contextlib.chdir("/"):  # the path of a published bundle is made absolute
        recipes = {path.stem: load_config(str(path)) for path in sorted(RECIPES.glob("*.toml"))}
    found = {
        name: {key: value.fingerprint() for key, value in config if isinstance(value, Section)}
        | {"members": [model.fingerprint() for model in config.member_models()]}
        for name, config in {"default": Config(), **recipes}.items()
    }
    default = found["default"]
    changed = {
        name: {key: value for key, value in sections.items() if name == "default" or value != default[key]}
        for name, sections in found.items()
    }
    return json.dumps(changed, indent=1) + "\n"


def settings() -> str:
    """Return each key of a settings file with its default."""
    sections: dict[str, Section] = {key: value for key, value in Config() if key != "model"}
    sections |= {f"model, name = {name}": section() for name, section in model_sections().items()}
    lines = []
    for name, section in sections.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in section.model_dump(mode="json").items()]
    return "\n".join(lines[1:]) + "\n"


def error_codes() -> str:
    """Return each code of a run with its error, each code of a track, and each stage."""
    runs = sorted(f"{one.code} {one.__name__}" for one in _errors(MgcError) if "code" in vars(one))
    tracks = [code.value for code in TrackCode]
    return "\n".join([*runs, *tracks, *(f"stage {stage.value}" for stage in Stage)]) + "\n"


def _errors(error: type[MgcError]) -> Iterator[type[MgcError]]:
    if error.__module__.startswith("mgc."):
        yield error
    for below in error.__subclasses__():
        yield from _errors(below)


def parquet_columns() -> str:
    """Return the columns of every table, with their types and metadata."""
    everything = feature_schema(FeatureConfig(frames=("all",), statistics=("all",)))
    schemas = {f"{kind}, version {SCHEMA_VERSIONS[kind]}": schema for kind, schema in KINDS.items()}
    schemas |= {"predictions/current": CURRENT_PREDICTIONS, "features, all of them": everything}
    schemas |= {"runs/*/plan": PLAN, "runs/*/index": INDEX}
    lines = []
    for name, schema in schemas.items():
        lines += ["", name, *(f"  {_column(field)}" for field in schema)]
        lines += [f"  metadata {key.decode()}" for key in schema.metadata or {}]
    lines += ["", "similar/tracks", *(f"  {name}" for name in TRACK_COLUMNS)]
    lines += ["", "review queue", *(f"  {name}" for name in REVIEW_COLUMNS)]
    return "\n".join(lines[1:]) + "\n"


def _column(field: pa.Field) -> str:
    metadata = "".join(f", {key.decode()} {value.decode()[:60]}" for key, value in (field.metadata or {}).items())
    return f"{field.name}: {field.type}{'' if field.nullable else ' not null'}{metadata}"


def json_keys() -> str:
    """Return the names of files and the keys of JSON that runs, bundles and reports write."""
    found: dict[str, set[str]] = {}
    for name, one in {
        "leases/": Lease, "records/": RunRecord, "records/ prediction_summary": PredictionSummary,
        "similar/manifest.json": SimilarityManifest,
        "journal, first line": JournalHeader, "journal, other lines": Entry,
        "experiment run": RunResult, "experiment run answers": SystemPredictions,
    }.items():  # fmt: skip
        found[name] = {field.name for field in fields(one)}
    with tempfile.TemporaryDirectory() as folder:
        for _ in _writing_everything(folder):
            for path in (path for path in Path(folder).rglob("*") if path.is_file()):
                keys = _paths(_record(path)) if path.suffix == ".json" else ()
                found.setdefault(_general(str(path.relative_to(folder))), set()).update(keys)
    found["evaluation.json"] = set(json.loads(_evaluation()))
    lines = [line for name in sorted(found) for line in [name, *(f"  {key}" for key in sorted(found[name]))]]
    return "\n".join(lines) + "\n"


def _record(path: Path) -> Any:
    """Return what a file says; of a version of the Delta table what mgc says in it."""
    lines = path.read_bytes().splitlines() if path.parent.name == "_delta_log" else [path.read_bytes()]
    found = [json.loads(line) for line in lines]
    # Names of commits and of files are no names of settings.
    return next(
        ({**one["commitInfo"]["mgc"], "history": {}, "replaced": {}} for one in found if "commitInfo" in one),
        found[0],
    )


def _general(name: str) -> str:
    """Return a file's name without what differs from run to run."""
    name = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{8}", "RUN", name)
    name = re.sub(r"run_date=[\d-]+", "run_date=DAY", name)
    name = re.sub(r"[0-9a-fx]-[0-9a-f]{16}-[0-9a-f]{12}\.", "X-MARK-UNIQUE.", name)
    return re.sub(r"\d{3,20}", "N", name)


def _writing_everything(folder: str) -> Iterator[None]:
    """Write a bundle, its training report, a search, and predictions; yield before they are pruned, and after."""
    write_bundle(f"{folder}/bundle", bundle_contents())
    write_training_report(f"{folder}/bundle")
    trial = Trial(0, {}, loss=1.0, accuracy=None, tags=None, epochs=1, folds=1, seconds=1.0)
    write_result(Store.open(f"{folder}/tuning"), SearchResult("key", "loss", "split 'valid'", [trial]), Config())
    uri = f"{folder}/predictions"
    contents = {f"a{number}": "1" for number in range(4)} | {"bad": "broken"}
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        tag_once(uri, contents)
        tag_once(uri, {key: value for key, value in contents.items() if key != "a1"})
        tag_once(uri, contents | {"a2": "2"})
    rewrite_prediction_content_ids(uri, {"a3": "3"})
    output = OutputDirectory(Store.open(uri), "predictions")
    yield
    prune(output, plan_prune(output, keep_days=-1.0))
    yield


def _evaluation() -> str:
    few = EvaluationConfig(bootstrap_samples=20)
    return report_json(evaluate(mixed_answers(), few), ReportContext("catalogue", "bundle", "b", "f"))


def _paths(value: Any, above: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield above + key
            if key not in DATA:
                yield from _paths(below, f"{above}{key}.")
    elif isinstance(value, list):
        for one in value:
            yield from _paths(one, above)


def weights() -> str:
    """Return the names of each network's tensors, by which bundles hold them; N stands for any number."""
    lines = []
    for name, section in model_sections().items():
        model = build_model(section(), 96, 3, 4)
        names = {re.sub(r"\b\d+\b", "N", tensor) for tensor in model.state_dict()}
        lines += [name, *(f"  {tensor}" for tensor in sorted(names))]
    return "\n".join(lines) + "\n"


FROZEN: dict[str, Callable[[], str]] = {
    "fingerprints.json": fingerprints,
    "settings.txt": settings,
    "error_codes.txt": error_codes,
    "parquet_columns.txt": parquet_columns,
    "json_keys.txt": json_keys,
    "weights.txt": weights,
}
"""Golden file → what makes its text."""


def main() -> None:
    for name, made in FROZEN.items():
        (FOLDER / name).write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()
