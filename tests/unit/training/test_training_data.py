"""The script that makes labelled text out of Debian's packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gliclass_spark.training.labelled import read_sets

SCRIPT = Path(__file__).parents[3] / "tools" / "training_data.py"
PACKAGE = """Package: game{number}
Description: A strategy game about the number {number}
 The longer text is not here.
Tag: game::strategy, role::program,
 use::gameplaying
Section: contrib/{section}
"""
FIELD = '00000001 09 n 01 physics 0 000 | (science) the science of matter; "his favourite subject was physics"  \n'
KIND = "00000002 05 n 02 sea_bird 0 sea_fowl 0 000 | a bird of the sea  \n"
GLOSS = (
    "{offset} 05 n 01 term_{number} 0 002 ;c 00000001 n 0000 @ 00000002 n 0000 | (physics) the term number {number}  \n"
)


def test_tables_of_wordnet_and_debian_are_written_that_a_training_reads(tmp_path: Path) -> None:
    glosses = [GLOSS.format(offset=f"{100 + number:08}", number=number) for number in range(30)]
    (tmp_path / "data.noun").write_text("  1 This is the licence.  \n" + FIELD + KIND + "".join(glosses))
    packages = [PACKAGE.format(number=number, section=("games", "net")[number % 2]) for number in range(60)]
    (tmp_path / "packages").write_text("\n".join(packages))
    places = ["--wordnet", str(tmp_path / "data.noun"), "--packages", str(tmp_path / "packages")]
    command = [sys.executable, str(SCRIPT), str(tmp_path / "out"), *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "wordnet_topics: 30 texts, 1 labels" in done.stdout
    [sections] = read_sets(tmp_path / "out" / "debian_sections.parquet")
    assert sections.labels == ("games", "networking")
    assert sections.texts[0] == "A strategy game about the number 0"
    assert sections.targets[:2] == ((0,), (1,))
    [tags] = read_sets(tmp_path / "out" / "debian_tags.parquet")
    assert (tags.labels, tags.targets[0]) == (("gameplaying", "strategy"), (0, 1))


def test_a_gloss_does_not_tell_its_field() -> None:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from training_data import read_synset
    finally:
        sys.path.remove(str(SCRIPT.parent))
    synset = read_synset(FIELD)
    assert (synset.gloss, synset.domain) == ("physics: the science of matter", 9)
    assert read_synset(KIND).words == ("sea bird", "sea fowl")
