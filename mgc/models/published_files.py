"""The networks that can be had by name: which files they are, where they are fetched, and where they lie then.

Weights of FCN, CRNN and musicnn of Won et al. (2020), "Evaluation of CNN-based Automatic Music Tagging Models", from
the authors' repository, each at the commit that added it and by its SHA-256. Nothing here imports torch:
`mgc tag -b NAME` must know where a bundle lies long before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mgc.config.settings import cache_folder
from mgc.config.training_settings import ON_STATISTICS
from mgc.errors import BundleError, ConfigError, DownloadError, StorageError, did_you_mean
from mgc.storage.local_files import DISK_FULL_ERRNOS
from mgc.storage.objects import DiskFullError

STARTER_NAME = "starter"
STARTER = str(Path(__file__).with_name(STARTER_NAME))
"""The bundle that comes with mgc, for music without labels; docs/build_starter.py makes it."""
RAW_FILES = "https://raw.githubusercontent.com/minzwon/sota-music-tagging-models"
LICENCE = "MIT"
TIMEOUT_SECONDS = 30.0
"""Without a byte."""
TRIES = 2
"""More than once, because a transfer may break off."""
MTAT_COMMIT = "1f4d282693ac19cde4d30b86811fe0ae2452f406"
OTHERS_COMMIT = "ffcd1f90b97a1e923a50c6e5283f147cf9dd7dfd"


@dataclass(frozen=True)
class PublishedFile:
    """A file of weights.

    Parameters
    ----------
    tag_set
        What it was trained on: the key of its tags in `TAG_SETS`.
    network
        As its authors name it: fcn, crnn or musicnn.
    sha256, size_bytes
        Of the file.
    """

    tag_set: str
    network: str
    sha256: str
    size_bytes: int

    @property
    def name(self) -> str:
        """By which users have it."""
        return f"{self.tag_set}-{self.network}"

    @property
    def url(self) -> str:
        """Where it is fetched."""
        commit = MTAT_COMMIT if self.tag_set == "mtat" else OTHERS_COMMIT
        return f"{RAW_FILES}/{commit}/models/{self.tag_set}/{self.network}/best_model.pth"

    @property
    def tags(self) -> tuple[str, ...]:
        """The 50 tags, in the order of its outputs."""
        return tuple(TAG_SETS[self.tag_set].split(", "))


_FILES = (
    ("msd", "fcn", "6012aa7eecf864a8081faedca56af054521e8dfb9c5c98659a3dd5d3e1e66f21", 1_902_815),
    ("msd", "crnn", "ebb99855ed0c83f38845db9cfb383dd6fc70938bc58701dcb66e18af9ee7fbea", 1_687_711),
    ("mtat", "fcn", "e89d751202d38c3ae69855782bc27010f87051958dbec64f5aa762364dbac271", 1_902_811),
    ("mtat", "crnn", "cd22fc70cafd06f8f2bfc7dd795abccb1f4b50d5b09094c39ad100baf87475a3", 1_687_630),
    ("mtat", "musicnn", "690ace3bb5d49d90dd38fe3ec05a1185350b3bc3742bd7ee941f56b649b2c893", 3_257_172),
    ("jamendo", "fcn", "7bce08a66dbc70d096b0a330f44b4cacd9aa25519b83489fbb98f2164a194e2b", 1_902_815),
    ("jamendo", "crnn", "0a558989c0793f488cb677d188464c91f47c007f7c70473230e55537ca598215", 1_687_626),
    ("jamendo", "musicnn", "66280f4859376377c47f64313c7ac889a3201fdb06a01bf6e94ac6e619081bb5", 3_257_168),
)
PUBLISHED_FILES = {file.name: file for file in (PublishedFile(*row) for row in _FILES)}
"""Every network by its name."""

BEST_TOGETHER = {"msd-fcn": "choi_fcn", "msd-crnn": "choi_crnn", "jamendo-fcn": "choi_fcn"}
"""Those that did best as members of one ensemble on folds of GTZAN (docs/results.md), and their architectures."""


def published_file(name: str) -> PublishedFile:
    """Return the file of a network's name.

    Raises
    ------
    ConfigError
        There is no such network.
    """
    if name not in PUBLISHED_FILES:
        raise ConfigError(f"no published network '{name}'", did_you_mean(name, list(PUBLISHED_FILES)))
    return PUBLISHED_FILES[name]


def pulled_bundle(name: str) -> Path:
    """Return where the bundle of a network is, or will be once it is pulled.

    Raises
    ------
    StorageError
        There is no home directory.
    """
    return _cache() / "models" / name


def is_pulled(name: str) -> bool:
    """Return whether a network was pulled on this machine."""
    return (pulled_bundle(name) / "manifest.json").exists()


def pulled_members() -> list[dict[str, Any]]:
    """Return members of an ensemble on those of `BEST_TOGETHER` that were pulled on this machine."""
    try:
        names = [name for name in BEST_TOGETHER if is_pulled(name)]
    except StorageError:  # where there is no home directory nothing was pulled
        return []
    return [
        {"name": "transfer", "network": BEST_TOGETHER[name], "published": name, "training": ON_STATISTICS}
        for name in names
    ]


def bundle_place(uri: str) -> str:
    """Return where a bundle lies: the place itself, or of a published network's name the bundle that was pulled.

    `starter` is the bundle that comes with mgc. A folder of such a name in the current directory comes first.

    Raises
    ------
    BundleError
        The network was not pulled.
    """
    if uri not in (*PUBLISHED_FILES, STARTER_NAME) or Path(uri).exists():
        return uri
    if uri == STARTER_NAME:
        return STARTER
    if not is_pulled(uri):
        raise BundleError(f"the published network '{uri}' is not on this machine yet", f"mgc models pull {uri}")
    return str(pulled_bundle(uri))


def fetch_published(file: PublishedFile, progress: Any = None) -> bytes:
    """Return a file of weights, from the cache or from its authors, its SHA-256 checked either way.

    Proxies are those of `HTTPS_PROXY` and `NO_PROXY`. A transfer that ends early leaves nothing in the cache.

    Parameters
    ----------
    progress
        What pooch takes for `progressbar`: `total`, `update(n)`, `reset()`, `close()`.

    Raises
    ------
    DownloadError
        No answer, a refusal, a proxy that fails, a transfer that broke off, or other bytes than those published.
    StorageError
        The cache cannot be written.
    """
    import pooch  # here, with requests: what a name stands for must be known at once
    import requests

    pooch.get_logger().setLevel("WARNING")
    place = _cache() / "published" / f"{file.name}.pth"
    remedy = f"check the network and HTTPS_PROXY, or fetch it elsewhere and put it at {place}: then pull again"
    failed = partial(DownloadError, remedy=remedy)
    try:
        found = pooch.create(
            path=place.parent,
            base_url="",
            registry={place.name: f"sha256:{file.sha256}"},
            urls={place.name: file.url},
            retry_if_failed=TRIES - 1,
        ).fetch(place.name, downloader=pooch.HTTPDownloader(progressbar=progress or False, timeout=TIMEOUT_SECONDS))
        return Path(found).read_bytes()
    except requests.exceptions.ProxyError as error:
        raise failed(f"the proxy for {file.url} failed: {_reason(error)}") from error
    except requests.HTTPError as error:
        raise failed(f"a published file is refused: {_reason(error)}") from error
    except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
        raise failed(f"the transfer of {file.url} broke off: {_reason(error)}") from error
    except requests.RequestException as error:
        raise failed(f"{file.url} cannot be reached: {_reason(error)}") from error
    except ValueError as error:  # pooch's, of a hash
        raise DownloadError(
            f"what {file.url} gave is not the file that was published: its SHA-256 is not {file.sha256}",
            "a proxy's page in its place, or a file that was changed: nothing of it was kept or read",
        ) from error
    except OSError as error:
        kind = DiskFullError if error.errno in DISK_FULL_ERRNOS else StorageError
        raise kind(
            f"'{place}' cannot be written: {error.strerror or error}",
            "free space there, or set XDG_CACHE_HOME to a folder that may be written",
        ) from error


def _reason(error: Exception) -> str:
    """Return what is under the layers that urllib3 and requests put round it."""
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", error) or type(error).__name__).splitlines()[0]


def _cache() -> Path:
    try:
        return cache_folder()
    except RuntimeError as error:
        raise StorageError("there is no home directory to keep networks in", "set XDG_CACHE_HOME") from error


TAG_SETS = {
    "mtat": (
        "guitar, classical, slow, techno, strings, drums, electronic, rock, fast, piano, ambient, beat, "
        "violin, vocal, synth, female, indian, opera, male, singing, vocals, no vocals, harpsichord, loud, "
        "quiet, flute, woman, male vocal, no vocal, pop, soft, sitar, solo, man, classic, choir, voice, new "
        "age, dance, male voice, female vocal, beats, harp, cello, no voice, weird, country, metal, female "
        "voice, choral"
    ),
    "msd": (
        "rock, pop, alternative, indie, electronic, female vocalists, dance, 00s, alternative rock, jazz, "
        "beautiful, metal, chillout, male vocalists, classic rock, soul, indie rock, Mellow, electronica, "
        "80s, folk, 90s, chill, instrumental, punk, oldies, blues, hard rock, ambient, acoustic, "
        "experimental, female vocalist, guitar, Hip-Hop, 70s, party, country, easy listening, sexy, catchy, "
        "funk, electro, heavy metal, Progressive rock, 60s, rnb, indie pop, sad, House, happy"
    ),
    "jamendo": (
        "genre---downtempo, genre---ambient, genre---rock, instrument---synthesizer, genre---atmospheric, "
        "genre---indie, instrument---electricpiano, genre---newage, instrument---strings, instrument---drums, "
        "instrument---drummachine, genre---techno, instrument---guitar, genre---alternative, "
        "genre---easylistening, genre---instrumentalpop, genre---chillout, genre---metal, mood/theme---happy, "
        "genre---lounge, genre---reggae, genre---popfolk, genre---orchestral, instrument---acousticguitar, "
        "genre---poprock, instrument---piano, genre---trance, genre---dance, instrument---electricguitar, "
        "genre---soundtrack, genre---house, genre---hiphop, genre---classical, mood/theme---energetic, "
        "genre---electronic, genre---world, genre---experimental, instrument---violin, genre---folk, "
        "mood/theme---emotional, instrument---voice, instrument---keyboard, genre---pop, instrument---bass, "
        "instrument---computer, mood/theme---film, genre---triphop, genre---jazz, genre---funk, "
        "mood/theme---relaxing"
    ),
}
"""Of each training set its 50 tags, in the order of the outputs."""
