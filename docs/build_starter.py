"""Make the bundle that comes with mgc (mgc/models/starter) from GTZAN's log-mels, in some minutes on two cores.

    python docs/build_starter.py gtzan-melspecs/ -w starter-work/

MELSPECS holds `<genre>/<genre>.NNNNN.npy` as docs/datasets.md describes (`--format gtzan-melspecs`) and
`manifest.csv` with the columns path, genre, tags, tags_known, split and artist. No file of it, and nothing cut from
it, comes into the bundle: weights and figures do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mgc.models.bundle import BundleContents, load_bundle, write_bundle
from mgc.models.published_files import STARTER

RECIPE = Path(__file__).parent / "recipes" / "starter.toml"
FACTS = {
    "data": "log-mels of clips of GTZAN (Tzanetakis & Cook 2002), parted by artist as in the fault-filtered lists "
    "(Kereliuk, Sturm & Larsen 2015; artists after Sturm 2013); tags by keyword from captions (Denk et al. 2023) of "
    "about half of them",
    "licence": "for research. GTZAN's recordings are not cleared, and what weights that were fitted to them may be "
    "used for is not settled; mgc's Apache licence is of its code alone",
    "limits": "ten genres as GTZAN has them, of recordings up to about 2000: what is none of them is given one. "
    "The promise is on artists of GTZAN; on other music it is not known to hold. A caption that names no instrument "
    "does not say that there is none, so tags are what people mention",
}


def main() -> None:
    """Index, import, train, and write the bundle with its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("melspecs", type=Path)
    parser.add_argument("-w", "--work", type=Path, default=Path("starter-work"), help="where tables and features go")
    parser.add_argument("-b", "--bundle", default=STARTER, help="where the bundle goes")
    given = parser.parse_args()
    catalogue, features, trained = (str(given.work / name) for name in ("gtzan.parquet", "features", "trained"))
    manifest = str(given.melspecs / "manifest.csv")
    mgc("index", str(given.melspecs), "--files", "npy", "--manifest", manifest, "-o", catalogue)
    mgc("import-mels", catalogue, "-o", features, "--format", "gtzan-melspecs", "--config", str(RECIPE))
    mgc("train", catalogue, "-f", features, "-b", trained, "--config", str(RECIPE), "--overwrite")
    write_bundle(given.bundle, with_card(load_bundle(trained)), overwrite=True)
    print(f"the starter bundle is in {given.bundle}")


def mgc(*arguments: str) -> None:
    """Run a command of mgc."""
    subprocess.run([sys.executable, "-m", "mgc", *arguments], check=True)


def with_card(bundle: BundleContents) -> BundleContents:
    """Return a bundle without this machine's paths and its epochs, and with what its card is to say."""
    kept = {name: value for name, value in bundle.facts.items() if name not in ("catalogue", "histories")}
    # The arrays are a window each; a song is its beginning, two stretches of its middle, its end.
    features = bundle.features.model_copy(update={"max_windows": 4})
    return replace(bundle, features=features, facts={**FACTS, "figures": figures_text(bundle.metrics), **kept})


def figures_text(metrics: Mapping[str, Any]) -> str:
    """Return the figures of the folds, as a sentence: the bundle itself has learnt from all of these clips."""
    figures, seen = metrics["ensemble"], metrics["promise"]["genre"]
    return (
        f"genre accuracy {figures['genre_accuracy']:.3f}, tags' macro PR-AUC "
        f"{figures['tag_macro_average_precision']:.3f} on {metrics['on']} ({seen['tracks']} clips of "
        f"{seen['groups']} artists and others), each clip answered by networks that learnt from none of its artist"
    )


if __name__ == "__main__":
    main()
