"""Training data of the embedded model.

    apt-get install wordnet-base dict-foldoc fortunes
    python -m devtools.training_data debian OUT
    python -m devtools.training_data mixture DATA OUT [--licences product|all] [--languages English|all]
        [--folders ...] [--without ...]

`debian` makes labelled text of Debian's packages: see `devtools.training_data.debian`. `mixture` copies the labelled
sets that a model is trained on out of a folder of them: see `devtools.training_data.mixture`.
"""

from __future__ import annotations

import argparse
import sys

from devtools.training_data import debian, mixture
from gliclass_spark.errors import GliclassSparkError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m devtools.training_data", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    debian.add_command(commands)
    mixture.add_command(commands)
    options = parser.parse_args()
    try:
        options.run(options)
    except GliclassSparkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
