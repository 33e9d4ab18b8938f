"""What every column of the ledger means: its name, unit, formula and how to show it.

One spelling everywhere: tensors, CSV header, filters, screens. Stored columns are in the ledger file; derived ones
depend on a knob and are computed on reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["integer", "number", "text", "tokens", "logps"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the ledger."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    alias: str = ""
    stored: bool = True


STORED = (
    Column("row", "integer", "0-based position in the data set"),
    Column("pair_id", "text", "16 hex digits that name the pair's content; duplicates share them"),
    Column("line", "integer", "1-based line or row number in the source file"),
    Column("policy_chosen_logps", "number", "Σ log π(chosen token)", "nats", "logp_c"),
    Column("policy_rejected_logps", "number", "Σ log π(rejected token)", "nats", "logp_r"),
    Column("ref_chosen_logps", "number", "Σ log ref(chosen token)", "nats", "ref_c"),
    Column("ref_rejected_logps", "number", "Σ log ref(rejected token)", "nats", "ref_r"),
    Column("chosen_num_tokens", "integer", "scored tokens of the chosen response", "tokens", "len_c"),
    Column("rejected_num_tokens", "integer", "scored tokens of the rejected response", "tokens", "len_r"),
    Column("flags", "text", "what is odd about the pair, joined by ;"),
)
TEXTS = (
    Column("prompt", "text", "the prompt, conversations as [role] blocks"),
    Column("chosen", "text", "the chosen response"),
    Column("rejected", "text", "the rejected response"),
    Column("source_json", "text", "the whole source row as JSON"),
)
TOKENS = (
    Column("chosen_tokens", "tokens", "the scored tokens of the chosen response as text"),
    Column("rejected_tokens", "tokens", "the scored tokens of the rejected response as text"),
    Column("policy_chosen_token_logps", "logps", "log π of each chosen token", "nats"),
    Column("policy_rejected_token_logps", "logps", "log π of each rejected token", "nats"),
    Column("ref_chosen_token_logps", "logps", "log ref of each chosen token", "nats"),
    Column("ref_rejected_token_logps", "logps", "log ref of each rejected token", "nats"),
)
TAILS = (
    Column("policy_chosen_tail_logps", "number", "Σ log π(chosen token) beyond the shorter one", "nats", stored=False),
    Column("policy_rejected_tail_logps", "number", "the same of the rejected response", "nats", stored=False),
    Column("ref_chosen_tail_logps", "number", "Σ log ref(chosen token) beyond the shorter one", "nats", stored=False),
    Column("ref_rejected_tail_logps", "number", "the same of the rejected response", "nats", stored=False),
)
"""Summed from the tokens' log-probs when a loss asks for them."""
COLLISIONS = (
    Column("policy_chosen_collision_logps", "number", "Σ log Σ_v π(v)² over the chosen tokens' positions", "nats"),
    Column("policy_rejected_collision_logps", "number", "the same of the rejected response", "nats"),
)
"""How sure the policy was, for WPO; in a ledger that was scored with --loss wpo."""
DERIVED = (
    Column("chosen_logratios", "number", "policy − ref log-probs of the chosen response", "nats", stored=False),
    Column("rejected_logratios", "number", "policy − ref log-probs of the rejected response", "nats", stored=False),
    Column("chosen_rewards", "number", "beta × chosen_logratios", "beta·nats", "r_chs", stored=False),
    Column("rejected_rewards", "number", "beta × rejected_logratios", "beta·nats", "r_rej", stored=False),
    Column("margins", "number", "chosen_rewards − rejected_rewards", "beta·nats", "margin", stored=False),
    Column("outcome", "text", "win, tie or loss by the sign of the margin", stored=False),
)
DIAGNOSED = (
    Column("quadrant", "text", "chosen, then rejected, against the reference: up_down, up_up, …, still", stored=False),
    Column("flip_posterior", "number", "how likely the label is flipped, by its margin", "probability", stored=False),
    Column(
        "residual_margins", "number", "margin less what the difference in length predicts", "beta·nats", stored=False
    ),
)
"""Derived as well, but in no file unasked: for filters, orders and the columns of a screen."""

LOGPS = tuple(column.name for column in STORED if column.name.endswith("_logps"))
"""The four sums of log-probs."""
TOKEN_LOGPS = tuple(column.name for column in TOKENS if column.kind == "logps")
TAIL_LOGPS = tuple(column.name for column in TAILS)
COLLISION_LOGPS = tuple(column.name for column in COLLISIONS)
POLICY_LOGPS, REF_LOGPS = LOGPS[:2], LOGPS[2:]
NUM_TOKENS = ("chosen_num_tokens", "rejected_num_tokens")
DIGESTS = ("chosen_digest", "rejected_digest")
"""Columns of a preview that name the sequences; finished ledgers have none."""
OF_THE_PAIR = frozenset({"row", "pair_id", "line", *(column.name for column in TEXTS)})
"""What a pair has in every run alike."""
FILTER_FUNCTIONS = ("abs", "flag", "lint", "mark")
FILTER_TRUTHS = ("true", "false")
"""Words of the filter language (filters.py) that a column could be named like."""
RESERVED = frozenset(column.name for column in (*STORED, *TEXTS, *TOKENS, *TAILS, *COLLISIONS, *DERIVED, *DIAGNOSED))

FLAGS = {
    "truncated": "a sequence was longer than the longest length and lost tokens",
    "prefix_mismatch": "the prompt's tokens are not how prompt + response begins: the boundary moved",
    "double_bos": "the sequence begins with two beginning-of-sequence tokens",
    "no_eos": "a response does not end with an end-of-sequence token",
    "double_eos": "a response ends with the same end-of-sequence token twice",
    "empty": "a response is empty or white space",
    "nothing_scored": "a response has no scored token, so its sums are 0",
    "identical": "chosen and rejected are the same",
    "not_rendered": "part of the messages or tools is not in the text that the chat template renders",
    "non_finite": "a log-prob is NaN or infinite",
    "crashed": "a response ends every process that computes it, so its log-probs are NaN",
    "scores_user_turns": "turns that are not the assistant's are among the scored tokens",
}
"""Every flag and what it means."""
