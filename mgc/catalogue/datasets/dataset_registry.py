"""The data sets known by name, and what all of them become: rows of labels, joined to the files that are there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from mgc.catalogue.datasets import fma, gtzan, magnatagatune, mtg_jamendo
from mgc.catalogue.datasets.annotations import Annotations
from mgc.catalogue.splits import LEARNING_SPLITS
from mgc.config import CatalogueConfig
from mgc.errors import ConfigError, LabelError, did_you_mean

EXAMPLES = 5
LABELS = ("clip", "genre", "tags", "tags_known", "group", "split")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A data set's layout.

    Parameters
    ----------
    clip_of
        What names a clip, of a file's path: the same in the annotations and among the files, wherever the root is.
    read
        Labels of all clips, columns `LABELS`; split null: to be drawn.
    subfolder
        Where its annotations lie when its archives are unpacked side by side.
    subsets
        Names of `catalogue.subset`.
    """

    clip_of: Callable[[pl.Expr], pl.Expr]
    read: Callable[[Annotations, CatalogueConfig, str], pl.DataFrame]
    subfolder: str = ""
    subsets: tuple[str, ...] = ()


def _fma_labels(annotations: Annotations, config: CatalogueConfig, root: str) -> pl.DataFrame:
    # The archives unpack into fma_small, fma_medium, fma_large.
    named = root.rstrip("/").rpartition("/")[2].removeprefix("fma_")
    return fma.read(annotations, config.subset or (named if named in fma.SUBSETS else None))


DATASETS = {
    "gtzan": Dataset(gtzan.clip_of, lambda files, config, root: gtzan.read(files)),
    "magnatagatune": Dataset(magnatagatune.clip_of, lambda files, config, root: magnatagatune.read(files)),
    "fma": Dataset(fma.clip_of, _fma_labels, "fma_metadata", fma.SUBSETS),
    "mtg-jamendo": Dataset(
        mtg_jamendo.clip_of,
        lambda files, config, root: mtg_jamendo.read(files, config.subset, config.split_number),
        "data",
        mtg_jamendo.SUBSETS,
    ),
}


def dataset_labels(config: CatalogueConfig, root: str) -> pl.DataFrame:
    """Return the labels of the data set that the settings name, columns `LABELS`.

    Raises
    ------
    ConfigError
        There is no such data set or subset.
    LabelError
        Its annotations are missing or not as it has them.
    """
    name = str(config.dataset)
    if name not in DATASETS:
        raise ConfigError(f"unknown data set '{name}': {did_you_mean(name, list(DATASETS))}", "docs/datasets.md")
    dataset = DATASETS[name]
    if config.subset is not None and config.subset not in dataset.subsets:
        choice = did_you_mean(config.subset, list(dataset.subsets)) if dataset.subsets else "it has none"
        raise ConfigError(
            f"data set '{name}' has no subset '{config.subset}': {choice}", "leave catalogue.subset out"
        )
    annotations = Annotations.locate(name, root, dataset.subfolder, config.annotations)
    labels = dataset.read(annotations, config, root).select(LABELS)
    twice = labels.filter(pl.col("clip").is_duplicated())
    if not twice.is_empty():
        raise annotations.unlike("its annotations", f"clip '{twice['clip'][0]}' is described twice")
    if config.dataset_split == "drawn":
        return labels.with_columns(split=pl.lit(None, pl.String))
    return _whole_groups(labels, name)


def keyed_by_clip(labels: pl.DataFrame, listed: pl.DataFrame, config: CatalogueConfig) -> pl.DataFrame:
    """Return the labels with the `track_id` of the file of each clip; null where there is no such file.

    Raises
    ------
    LabelError
        Two files are the same clip.
    """
    name = str(config.dataset)
    clips = listed.select("track_id", "key", clip=DATASETS[name].clip_of(pl.col("key"))).drop_nulls("clip")
    twice = clips.filter(pl.col("clip").is_duplicated()).sort("clip", "key")
    if not twice.is_empty():
        first, second = twice["key"].head(2)
        raise LabelError(
            f"{name}: '{first}' and '{second}' are the same clip", "index one copy: give the folder that holds it"
        )
    return labels.join(clips.select("clip", "track_id"), on="clip", how="left", maintain_order="left")


def _whole_groups(labels: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the labels with groups parted that the data set's own split tears, after saying so."""
    given = labels.filter(pl.col("split").is_in(LEARNING_SPLITS) & pl.col("group").is_not_null())
    torn = given.group_by("group").agg(pl.col("split").n_unique(), pl.len()).filter(pl.col("split") > 1).sort("group")
    if torn.is_empty():
        return labels
    logger.warning(
        "%s: its own split has %d artists (%d clips) on more than one side, such as '%s': figures on it flatter; "
        "--set catalogue.dataset_split=drawn keeps artists apart",
        name,
        len(torn),
        torn["len"].sum(),
        torn["group"][0],
    )
    parted = pl.concat_str("group", pl.lit(" ("), "split", pl.lit(")"))
    inside = pl.col("group").is_in(torn["group"].implode())
    return labels.with_columns(group=pl.when(inside).then(parted).otherwise(pl.col("group")))
