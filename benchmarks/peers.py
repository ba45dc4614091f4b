"""FCN, CRNN and musicnn with the weights that Won et al. (2020) published, in a process of their own.

    python -m benchmarks.peers WEIGHTS SONG…

`WEIGHTS` is a folder with fcn.pth, crnn.pth and musicnn.pth (github: minzwon/sota-music-tagging-models, MIT). The
networks are ours (`mgc.models.published`), the tensors theirs; decoding and log-mels are mgc's, at their settings, so
that what differs is the network and how much of a track is heard. One thread, no Ray, no child, nothing written.
"""

from __future__ import annotations

import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"


import sys
import time
from pathlib import Path

import torch
from torch import nn

from benchmarks.material import SONG_SECONDS
from mgc.audio.extract import extract
from mgc.config import DecodeConfig, FeatureConfig
from mgc.config.networks import read_model_config
from mgc.models.forward import member_outputs
from mgc.models.registry import build_model

N_MELS, N_TAGS = 96, 50
PEERS = {"fcn": ("choi_fcn", 29.0), "crnn": ("choi_crnn", 29.0), "musicnn": ("musicnn", 3.0)}
"""File → our network's name, and the seconds that it hears at once."""

RENAMED = {
    "spec_bn.": "spec_bn.norm.",
    "dense.": "tag_head.linear.",
    "dense2.": "tag_head.linear.",
}
HEARD_BY_MGC_SECONDS = 60.0


def peer_network(weights: Path, name: str) -> nn.Module:
    """Return a network with its published weights; what makes the spectrogram is left out."""
    theirs = torch.load(weights / f"{name}.pth", weights_only=True, map_location="cpu")
    kept = {key: value for key, value in theirs.items() if not key.startswith("spec.")}
    for before, after in RENAMED.items():
        kept = {after + key.removeprefix(before) if key.startswith(before) else key: kept[key] for key in kept}
    model = build_model(read_model_config({"name": PEERS[name][0]}), N_MELS, 0, N_TAGS)
    # How their filters are scaled (`band_db`) changes what is said, and not how long it takes.
    lacking = model.load_state_dict(kept, strict=False)
    if lacking.unexpected_keys or lacking.missing_keys != ["spec_bn.band_db"]:
        raise SystemExit(f"{weights / name}.pth is of another network: {lacking}")
    return model.eval()


def peer_features(name: str, heard_seconds: float) -> FeatureConfig:
    """Return the log-mels of Won et al. in windows that make up so many seconds of a track."""
    window_seconds = PEERS[name][1]
    return FeatureConfig(
        sample_rate=16_000,
        n_fft=512,
        hop_length=256,
        n_mels=N_MELS,
        mel_scale="htk",
        window_seconds=window_seconds,
        max_windows=round(heard_seconds / window_seconds),
    )


def main() -> None:
    torch.set_num_threads(1)
    weights, songs = Path(sys.argv[1]), [Path(path).read_bytes() for path in sys.argv[2:]]
    for name in PEERS:
        model = peer_network(weights, name)
        for what, seconds in (("whole", SONG_SECONDS), ("60s", HEARD_BY_MGC_SECONDS)):
            features = peer_features(name, seconds)
            _tag(model, songs[0], features)  # fills caches
            started = time.process_time()
            for song in songs:
                _tag(model, song, features)
            print(f"{name}_{what} {len(songs) * SONG_SECONDS / (time.process_time() - started):.4f}")


def _tag(model: nn.Module, song: bytes, features: FeatureConfig) -> None:
    log_mel = extract(song, features, DecodeConfig()).log_mel
    member_outputs(model, [log_mel], batch_windows=16)


if __name__ == "__main__":
    main()
