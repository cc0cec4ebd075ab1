"""Documents without a label, from the counts of a tag job's manifest."""

from __future__ import annotations

from gliclass_spark.runs.manifest import Manifest

# From here on, most documents get no label, which a newcomer does not expect of a classifier.
MOST = 2 / 3


def unlabelled_share(tagged: Manifest) -> float:
    """Return the share of the scored documents that got no label, in [0, 1]; 0 if none was scored.

    It is the smallest share that the counts allow: documents are counted for each of their labels, so a document with
    several labels may hide others that have none. With at most one label for each document it is exact.
    """
    scored = (tagged.tagged or 0) - sum(tagged.errors.values())
    return max(0.0, 1 - sum(tagged.label_counts.values()) / scored) if scored > 0 else 0.0
