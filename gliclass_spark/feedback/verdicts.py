"""Verdicts: feedback on decisions, and how several signals on one decision are joined.

A signal is about one decision: that a document (`doc_id`) got, or did not get, a `label` of the label set
`label_set_hash`; or, without a label, that the document got all of its labels. It has a `verdict`, a `source` (the
person or system that sent it), the time `observed_at`, and a `reward` in [-1, 1] for the decision: 1 if it was right to
give the label, or right not to give it.

Explicit verdicts state whether the label holds:

- `accepted`, `corrected`: it holds; `corrected` means that the decision did not give it. `rejected`: it does not hold.
  Their reward, unless stated, is 1 for a correct decision and -1 for a wrong one.
- `rated`: a person's reward for the decision. Above 0 the decision was right, below 0 it was wrong, and the label
  holds accordingly.

Without a label, `accepted` says that the document's labels are right together, `rejected` that they are not, and a
`rated` reward how good they are together. `corrected` needs a label.

Implicit verdicts have only a reward: `clicked` (1 unless stated), `dwelled`, `loss` (a later model's loss on the
document, converted to a reward by its sender), `deduplicated` (-1 unless stated).

Several signals on one decision, of one text, are joined into a `target` (1: the label holds, 0: it does not, null:
unknown) and one reward:

1. Explicit signals take precedence over implicit ones. Of the explicit signals only the latest count; with a majority,
   the latest of each source that say what most sources say. In a tie the latest of all count.
2. If the explicit signals that count contradict each other about the target, they cancel each other and the decision
   counts as contradicting; the implicit signals count instead, if there are any.
3. The reward is the mean of the rewards that count. Implicit signals give no target: a click or a long read is no
   statement about the label. In training, and only there, a reward above 0 stands for a right decision and one below 0
   for a wrong one, and counts by its size.
4. The decision (chosen, score, propensity) is taken from the latest of the signals that count.

A signal observed before the current decision was made is late: it is about an earlier decision, of which only the
target is known.

Signals without a label give a reward and no target. Only those about the document's latest labels count. Signals on one
label take precedence for that label.
"""

from __future__ import annotations

from dataclasses import dataclass

# The required fields of a signal; `label`, `label_set_hash` and `reward` are optional.
REQUIRED = ("doc_id", "verdict", "source", "observed_at")
# The fields that identify a signal.
SIGNAL_KEY = ("doc_id", "label_set_hash", "label", "verdict", "source", "observed_at")


@dataclass(frozen=True)
class Verdict:
    """A verdict and what it states by itself.

    target: 1 if the label holds, 0 if it does not, None if the verdict does not state it.
    reward: the default reward; None if the signal must state one, or if it follows from the target and the decision.
    """

    name: str
    explicit: bool
    target: int | None = None
    reward: float | None = None

    @property
    def states_reward(self) -> bool:
        """True if a signal with this verdict must state a reward."""
        return self.target is None and self.reward is None


VERDICTS = (
    Verdict("accepted", explicit=True, target=1),
    Verdict("rejected", explicit=True, target=0),
    Verdict("corrected", explicit=True, target=1),
    Verdict("rated", explicit=True),
    Verdict("clicked", explicit=False, reward=1.0),
    Verdict("dwelled", explicit=False),
    Verdict("loss", explicit=False),
    Verdict("deduplicated", explicit=False, reward=-1.0),
)
