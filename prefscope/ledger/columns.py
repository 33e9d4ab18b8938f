"""The columns of the ledger: names, units, meanings and, for derived columns, how they are computed.

Names are the same in tensors, CSV headers, filters and on screens. Stored columns are in the ledger file; derived
columns are computed on reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from prefscope.preference.diagnostics import quadrants, residual_margins, suspicion
from prefscope.preference.rewards import implicit_reward, outcomes

Kind = Literal["integer", "number", "text", "tokens", "logps", "halves", "integers"]
Lookup: TypeAlias = Callable[[str], NDArray[Any]]
"""Returns a column by its full name, with one value per pair; missing numbers are nan."""
Compute: TypeAlias = Callable[[Lookup, float], NDArray[Any]]
"""Returns a derived column from a lookup of the other columns and beta."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the ledger."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    alias: str = ""
    compute: Compute | None = None
    """Computes a derived column; None for a stored column."""
    exported: bool = True
    """Whether a derived column is exported; the others are for filters, sorting and the screens."""
    over_all_pairs: bool = False
    """Whether a value depends on the other pairs of the ledger, so that the column must be computed over all pairs."""


STORED = (
    Column("row", "integer", "0-based position in the data set"),
    Column("pair_id", "text", "16 hex digits that identify the pair's content; duplicates share them"),
    Column("line", "integer", "1-based line or row number in the source file"),
    Column("policy_chosen_logps", "number", "Σ log π(chosen token)", "nats", "logp_c"),
    Column("policy_rejected_logps", "number", "Σ log π(rejected token)", "nats", "logp_r"),
    Column("ref_chosen_logps", "number", "Σ log ref(chosen token)", "nats", "ref_c"),
    Column("ref_rejected_logps", "number", "Σ log ref(rejected token)", "nats", "ref_r"),
    Column("chosen_num_tokens", "integer", "scored tokens of the chosen response", "tokens", "len_c"),
    Column("rejected_num_tokens", "integer", "scored tokens of the rejected response", "tokens", "len_r"),
    Column("flags", "text", "flags of the pair, joined by ;"),
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
    Column("policy_chosen_tail_logps", "number", "Σ log π(chosen token) beyond the shorter one", "nats"),
    Column("policy_rejected_tail_logps", "number", "the same of the rejected response", "nats"),
    Column("ref_chosen_tail_logps", "number", "Σ log ref(chosen token) beyond the shorter one", "nats"),
    Column("ref_rejected_tail_logps", "number", "the same of the rejected response", "nats"),
)
"""Summed from the tokens' log-probs when a loss needs them."""
_ALTERNATIVES: tuple[tuple[str, Kind, str, str], ...] = (
    ("token_entropies", "logps", "entropy of {}", "nats"),
    ("token_ranks", "integers", "rank of the token under {}, 1 if none is more probable, 0 if unknown,", ""),
    ("top_ids", "integers", "ids of the most probable tokens of {}, the same number", ""),
    ("top_logps", "halves", "their log-probs under {}, in half precision,", "nats"),
)
COLLISIONS = (
    Column("policy_chosen_collision_logps", "number", "Σ log Σ_v π(v)² over the chosen tokens' positions", "nats"),
    Column("policy_rejected_collision_logps", "number", "the same of the rejected response", "nats"),
)
"""Normaliser of WPO, only in ledgers that were scored with --loss wpo."""
_DIVERGENCES: tuple[tuple[str, str], ...] = (("kl_policy_ref", "KL(π‖ref)"), ("kl_ref_policy", "KL(ref‖π)"))
DIVERGENCES = tuple(
    Column(f"{side}_{name}", "number", f"Σ {symbol} over the {side} tokens' positions", "nats", alias)
    for (name, symbol), aliases in zip(_DIVERGENCES, (("kl_c", "kl_r"), ("", "")), strict=True)
    for side, alias in zip(("chosen", "rejected"), aliases, strict=True)
)
"""Exact divergences of the two distributions, only in ledgers that were scored with --kl or a loss like TDPO."""
TOKEN_DIVERGENCES = tuple(
    Column(f"{side}_token_{name}", "logps", f"{symbol} at each {side} token's position", "nats")
    for name, symbol in _DIVERGENCES
    for side in ("chosen", "rejected")
)
ALTERNATIVE_IDS, ALTERNATIVE_TEXTS = "alternative_ids", "alternative_texts"
ALTERNATIVES = (
    *(
        Column(f"{role}_{side}_{name}", kind, f"{meaning.format(model)} at each {side} token", unit)
        for role, model in (("policy", "the policy"), ("ref", "the reference"))
        for side in ("chosen", "rejected")
        for name, kind, meaning, unit in _ALTERNATIVES
    ),
    Column(ALTERNATIVE_IDS, "integers", "the token ids that occur in top_ids of the pair"),
    Column(ALTERNATIVE_TEXTS, "tokens", "their texts"),
)
"""What the models would have said instead, only in ledgers that were scored with --alternatives."""
RANKS = (
    Column("rank_policy", "integer", "the largest rank of a token of either response under the policy"),
    Column("rank_ref", "integer", "the same under the reference"),
)
"""Computed from the tokens' ranks on reading: 100 if 99 tokens are more probable than the actual one."""
MARKED = (
    Column("mark", "text", "your decision about the pair: keep, drop or swap; empty if none"),
    Column("note", "text", "your note on the pair"),
)
"""Decisions and notes of the user, stored beside the ledger (marks.py). A data set may have a column `note`, too."""
NUM_TOKENS = ("chosen_num_tokens", "rejected_num_tokens")

DERIVED = {
    column.name: column
    for column in (
        Column(
            "chosen_logratios",
            "number",
            "policy − ref log-probs of the chosen response",
            "nats",
            compute=lambda of, _: of("policy_chosen_logps") - of("ref_chosen_logps"),
        ),
        Column(
            "rejected_logratios",
            "number",
            "policy − ref log-probs of the rejected response",
            "nats",
            compute=lambda of, _: of("policy_rejected_logps") - of("ref_rejected_logps"),
        ),
        Column(
            "chosen_rewards",
            "number",
            "beta × chosen_logratios",
            "beta·nats",
            "r_chs",
            compute=lambda of, beta: implicit_reward(of("policy_chosen_logps"), of("ref_chosen_logps"), beta=beta),
        ),
        Column(
            "rejected_rewards",
            "number",
            "beta × rejected_logratios",
            "beta·nats",
            "r_rej",
            compute=lambda of, beta: implicit_reward(of("policy_rejected_logps"), of("ref_rejected_logps"), beta=beta),
        ),
        Column(
            "margins",
            "number",
            "chosen_rewards − rejected_rewards",
            "beta·nats",
            "margin",
            compute=lambda of, _: of("chosen_rewards") - of("rejected_rewards"),
        ),
        Column(
            "outcome",
            "text",
            "win, tie or loss by the sign of the margin",
            compute=lambda of, _: outcomes(of("margins")),
        ),
        Column(
            "quadrant",
            "text",
            "chosen, then rejected, against the reference: up_down, up_up, …, still",
            compute=lambda of, _: quadrants(of("chosen_logratios"), of("rejected_logratios")).astype(object),
            exported=False,
        ),
        Column(
            "flip_posterior",
            "number",
            "how likely the label is flipped, by its margin and the difference in length",
            "probability",
            compute=lambda of, _: suspicion(of("margins"), of("chosen_num_tokens") - of("rejected_num_tokens")),
            exported=False,
            over_all_pairs=True,
        ),
        Column(
            "residual_margins",
            "number",
            "margin minus the part that the difference in length predicts",
            "beta·nats",
            compute=lambda of, _: residual_margins(of("margins"), *map(of, NUM_TOKENS)),
            exported=False,
            over_all_pairs=True,
        ),
    )
}
"""Columns that are computed from the stored ones, in the order of the flat table.

To add a column, add its record here: filters, sorting, the table of pairs, docs and (if `exported`) the flat table use
this registry.
"""

LOGPS = tuple(column.name for column in STORED if column.name.endswith("_logps"))
"""The four sums of log-probs."""
TOKEN_LOGPS = tuple(column.name for column in TOKENS if column.kind == "logps")
TAIL_LOGPS = tuple(column.name for column in TAILS)
COLLISION_LOGPS = tuple(column.name for column in COLLISIONS)
DIVERGENCE_SUMS = tuple(column.name for column in DIVERGENCES)
RANK_COLUMNS = tuple(column.name for column in RANKS)
POLICY_LOGPS, REF_LOGPS = LOGPS[:2], LOGPS[2:]
DIGESTS = ("chosen_digest", "rejected_digest")
"""Columns of a preview that identify the sequences; finished ledgers do not have them."""
OF_THE_PAIR = frozenset({"row", "pair_id", "line", *(column.name for column in TEXTS)})
"""Columns that are the same in every run on the same pairs."""
FILTER_FUNCTIONS = ("abs", "flag", "lint", "mark")
FILTER_TRUTHS = ("true", "false")
"""Words of the filter language (filters.py) that could clash with column names."""


def all_columns() -> tuple[Column, ...]:
    """Return every column of a ledger."""
    more = (*TAILS, *COLLISIONS, *DIVERGENCES, *TOKEN_DIVERGENCES, *ALTERNATIVES, *RANKS)
    return (*STORED, *TEXTS, *TOKENS, *more, *DERIVED.values())
