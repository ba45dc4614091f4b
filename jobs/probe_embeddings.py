"""What bundles' frozen embeddings are worth, each under an SVM and logistic regressions.

The same command as `mgc probe`::

    python jobs/probe_embeddings.py --help
    ray job submit --working-dir . -- python jobs/probe_embeddings.py …
"""

from __future__ import annotations

from mgc.cli.app import run
from mgc.cli.evaluate_command import probe

if __name__ == "__main__":
    run(probe)
