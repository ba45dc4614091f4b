"""The whole way from a file's bytes to log-mels gives the values librosa gave when the golden file was made."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mgc.audio.encode import encode
from mgc.audio.extract import extract
from mgc.config import DecodeConfig, FeatureConfig

sys.path.insert(0, str(Path(__file__).parent))

from regenerate_log_mel import GOLDEN, SETTINGS, SOURCE_RATE, signal  # noqa: E402
