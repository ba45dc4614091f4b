"""FCN, CRNN and musicnn with the weights that Won et al. (2020) published, in a process of their own.

    python -m benchmarks.peers WEIGHTS SONG…

`WEIGHTS` is a folder with fcn.pth, crnn.pth and musicnn.pth (github: minzwon/sota-music-tagging-models, MIT). The
networks are ours (`mgc.models.published_networks`), the tensors theirs; decoding and log-mels are mgc's, at their
settings, so that what differs is the network and how much of a track is analysed. One thread,
no Ray, no child, nothing written.
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
from mgc.audio.extraction import extract
from mgc.config import DecodeConfig, FeatureConfig
from mgc.models.forward import member_outputs
from mgc.models.network_registry import build_model
from mgc.models.published_weights import published_bundle

PEERS = ("fcn", "crnn", "musicnn")
N_TAGS = 50
MGC_INPUT_SECONDS = 60.0


def peer_network(weights: Path, name: str) -> tuple[nn.Module, FeatureConfig]:
    """Return a network with its published weights, and the log-mels that it takes."""
    path = weights / f"{name}.pth"
    bundle = published_bundle(path.read_bytes(), tuple(f"tag {number}" for number in range(N_TAGS)), path.name)
    (member,) = bundle.members
    model = build_model(member.config, bundle.features.n_mels, 0, N_TAGS)
    model.load_state_dict(member.weights)
    return model.eval(), bundle.features


def windowed(features: FeatureConfig, input_seconds: float) -> FeatureConfig:
    """Return the same with as many windows as make up so many seconds of a track."""
    return features.model_copy(update={"max_windows": round(input_seconds / features.window_seconds)})


def main() -> None:
    torch.set_num_threads(1)
    weights, songs = Path(sys.argv[1]), [Path(path).read_bytes() for path in sys.argv[2:]]
    for name in PEERS:
        model, bundle_features = peer_network(weights, name)
        for what, seconds in (("whole", SONG_SECONDS), ("60s", MGC_INPUT_SECONDS)):
            features = windowed(bundle_features, seconds)
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
