"""The script that makes labelled text out of Debian's packages."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.training_data import wordnet
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets

ROOT = Path(__file__).parents[3]
PACKAGE = """Package: game{number}
Description: A strategy game about the number {number}
 The longer text is not here.
Tag: game::strategy, role::program,
 use::gameplaying
Section: contrib/{section}
"""
FIELD = '00000001 09 n 01 physics 0 000 | (science) the science of matter; "his favourite subject was physics"  \n'
KIND = "00000002 05 n 02 sea_bird 0 sea_fowl 0 000 | a bird that lives by the sea  \n"
GLOSS = (
    "{offset} 05 n 01 term_{number} 0 002 ;c 00000001 n 0000 @ 00000002 n 0000 | (physics) the term number {number}  \n"
)
# A verb's frames stand behind its pointers.
VERB = '{offset} 38 v 01 run_{number} 0 000 01 + 02 00 | move; "they ran {number} miles to the sea"  \n'
ENTRY = (
    "term {number}\n\n   <networking, tool> A {{program}} that sends\n   the number {number}.\n\n   (1994-11-08)\n\n"
)
SAYING = "Question authority, says sage number {number}.\n\t\t-- A sage\n%\n"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LabelledSet]:
    """What the script makes of a small /usr/share and two kinds of packages."""
    share = tmp_path_factory.mktemp("share")
    for folder in ("wordnet", "dictd", "games/fortunes"):
        (share / folder).mkdir(parents=True)
    licence = "  1 This is the licence.  \n"
    glosses = [GLOSS.format(offset=f"{100 + number:08}", number=number) for number in range(30)]
    verbs = [VERB.format(offset=f"{100 + number:08}", number=number) for number in range(30)]
    (share / "wordnet" / "data.noun").write_text(licence + FIELD + KIND + "".join(glosses))
    (share / "wordnet" / "data.verb").write_text(licence + "".join(verbs))
    book = "".join(ENTRY.format(number=number) for number in range(30))
    (share / "dictd" / "foldoc.dict.dz").write_bytes(gzip.compress(book.encode()))
    for topic in ("politics", "men-women", "cookie"):
        sayings = "".join(SAYING.format(number=f"{topic} {number}") for number in range(30))
        (share / "games" / "fortunes" / topic).write_text(sayings)
    (share / "games" / "fortunes" / "politics.dat").write_bytes(b"\xff\x00")
    packages = share / "packages"
    packages.write_text(
        "\n".join(PACKAGE.format(number=number, section=("games", "net")[number % 2]) for number in range(60))
    )
    arguments = ["debian", share / "out", "--share", share, "--packages", packages]
    command = [sys.executable, "-m", "devtools.training_data", *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "wordnet_topics: 30 texts, 1 labels" in done.stdout
    # A set with one label is left out.
    for alone in ("wordnet_topics", "wordnet_kinds", "wordnet_described", "wordnet_domains", "wordnet_actions"):
        (share / "out" / f"{alone}.parquet").unlink()
    return {each.name: each for each in read_sets(share / "out")}


def test_packages_have_their_section_and_their_purposes(tables: dict[str, LabelledSet]) -> None:
    sections = tables["debian_sections"]
    assert sections.labels == ("games", "networking")
    assert sections.texts[0] == "A strategy game about the number 0"
    assert sections.targets[:2] == ((0,), (1,))
    assert (tables["debian_tags"].labels, tables["debian_tags"].targets[0]) == (("gameplaying", "strategy"), (0, 1))


def test_a_definition_has_its_word(tables: dict[str, LabelledSet]) -> None:
    words = tables["wordnet_words"]
    assert words.texts[0] == "the science of matter"
    assert [words.labels[label] for label in words.targets[0]] == ["physics"]


def test_an_entry_has_its_subjects_and_a_saying_its_topic(tables: dict[str, LabelledSet]) -> None:
    subjects, topics = tables["foldoc_subjects"], tables["fortunes_topics"]
    assert (subjects.labels, subjects.targets[0]) == (("networking", "tool"), (0, 1))
    assert subjects.texts[0] == "A program that sends the number 0."
    assert topics.labels == ("men and women", "politics")
    assert topics.texts[0] == "Question authority, says sage number men-women 0."


def test_a_gloss_does_not_tell_its_field() -> None:
    synset = wordnet.read_synset(FIELD)
    assert (synset.gloss, synset.domain) == ("physics: the science of matter", "cognition")
    assert wordnet.read_synset(KIND).words == ("sea bird", "sea fowl")


def test_a_verb_is_read_without_its_frames() -> None:
    synset = wordnet.read_synset(VERB.format(offset="00000003", number=7))
    assert (synset.domain, synset.pointers, synset.examples) == ("motion", (), ("they ran 7 miles to the sea",))


def test_a_word_in_two_spellings_is_one_label() -> None:
    lines = (KIND.replace("sea_bird", spelling) for spelling in ("air_mail", "Airmail", "air-mail"))
    assert {label for _, [label] in wordnet.with_defined_word(map(wordnet.read_synset, lines))} == {"air mail"}
