"""What comes back about decisions: the verdicts, and how several on one decision are joined.

A signal is about one decision: that a document (`doc_id`), asked the question `label_set_hash`, was given
a `label`, or was not. It has a `verdict`, a `source` (who or what says so), the time `observed_at`, and a
`reward` in [-1, 1]: how good the decision was. 1 says that it was right to give the label, or right not to.

Explicit verdicts say whether the label holds:

- `accepted`, `corrected`: it holds; with `corrected`, though the decision did not give it. `rejected`: it
  does not. Their reward, unless stated, is 1 where the decision did as it should have and -1 where not.
- `rated`: a person's reward for the decision. Above 0 the label holds if it was given, below 0 if it was not.

Implicit verdicts only come with a reward: `clicked` (1 unless stated), `dwelled`, `loss` (a later model's
loss on the document, made a reward by whoever sends it), `deduplicated` (-1 unless stated).

Several signals on one decision, of one text, are joined into a `target` (1: the label holds, 0: it does
not, null: nobody knows) and one reward:

1. Explicit beats implicit. Among explicit signals those of the newest time count; older ones are superseded.
2. Where those of the newest time contradict each other about the target, they cancel, and the decision
   counts as contradicting: the implicit signals speak then, if there are any.
3. The reward is the mean of the rewards that count. Implicit signals give no target.
4. What was decided (chosen, score, propensity) is told by the newest of the signals that count.

A signal that was observed before the decision that stands now was made is late: it is about an earlier
one, of which only the target is known.
"""

from __future__ import annotations

from dataclasses import dataclass

# What a signal must come with; `label_set_hash` and `reward` may be left out.
REQUIRED = ("doc_id", "label", "verdict", "source", "observed_at")
# One signal is told from another by these.
SIGNAL_KEY = ("doc_id", "label_set_hash", "label", "verdict", "source", "observed_at")


@dataclass(frozen=True)
class Verdict:
    """target: whether the label holds, None where the verdict alone does not say. reward: what a signal without
    one of its own is worth, None where it must state it; where there is a target, the decision tells.
    """

    name: str
    explicit: bool
    target: int | None = None
    reward: float | None = None

    @property
    def states_reward(self) -> bool:
        """Whether a signal must come with a reward."""
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
