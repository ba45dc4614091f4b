"""Whether a bundle may be given audio: its members must have learnt from what mgc computes from audio."""

from __future__ import annotations

from mgc.config import AUDIO_SOURCE, FeatureConfig
from mgc.errors import FingerprintError
from mgc.models.stored import StoredBundle, read_bundle_files


def read_bundle_for_audio(uri: str) -> StoredBundle:
    """Return a bundle's files, checked, if it may be given audio.

    Raises
    ------
    BundleError
        See `read_bundle_files`.
    FingerprintError
        See `require_audio`.
    """
    stored = read_bundle_files(uri)
    require_audio(stored.features, stored.uri)
    return stored


def require_audio(features: FeatureConfig, bundle_uri: str) -> None:
    """Refuse audio where a bundle was trained on features that others computed.

    Parameters
    ----------
    features
        The bundle's.
    bundle_uri
        Where it lies, for the message.

    Raises
    ------
    FingerprintError
        Naming both fingerprints.
    """
    if features.from_audio:
        return
    from_mgc_audio = features.model_copy(update={"source": AUDIO_SOURCE})
    raise FingerprintError(
        f"bundle '{bundle_uri}' was trained on features {features.fingerprint()} ({features.source}), which are "
        f"not those that mgc computes from audio with these frames and bands, {from_mgc_audio.fingerprint()}",
        "evaluate it on imported shards (`mgc evaluate --features`), or train one on features of `mgc extract`",
    )
