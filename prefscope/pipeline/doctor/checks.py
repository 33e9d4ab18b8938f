"""The doctor's checks: pure functions of a scored sample, each with its thresholds."""

from __future__ import annotations

import numpy as np

from prefscope.errors import TemplateError, VocabularyError
from prefscope.ledger.left_out import describe_left_out
from prefscope.ledger.source_pairs import source_pairs
from prefscope.pipeline.doctor.verdict import Evidence, Judgement, State, doctor_check
from prefscope.preference.diagnostics.reference import MUCH_NATS, SFT_NATS
from prefscope.scoring.profiles import TRL
from prefscope.statistics import upper_tail

MOST = 0.5
"""A flag on at least this share of the pairs points to the set-up rather than to single rows."""
COARSE = 0.1
"""Warn if rounding changes margins by more than this share of the median margin."""
SATURATED_LOSS = 1e-3
"""At beta 0.1, a difference of 69 nats; the gradient of such a pair is practically 0."""
UNLIKELY = 0.01
OF_ALL = f"fails if at least {MOST:.0%} of the pairs are affected, warns if any is"


@doctor_check(
    "tokenizers",
    "Pass the reference that the policy was trained from; it has the policy's vocabulary.",
    answers_refusals=True,
    rule="fails if a token id in use has another meaning in the reference, warns if only unused ones do",
)
def check_tokenizers(evidence: Evidence) -> Judgement:
    """Fail if a token id in use has another meaning in the reference."""
    if isinstance(evidence.refusal, VocabularyError):
        return "fail", evidence.refusal.what
    differing = evidence.tokenizers.differing
    if differing:
        noun = "token id has" if differing == 1 else "token ids have"
        return "warn", f"{differing:,} {noun} another meaning in the reference; none of them is used here"
    return "ok", "token ids mean the same in policy and reference"


@doctor_check(
    "chat_template",
    "The policy's template is used for both models. Pass the template that both were trained with (--chat-template "
    "FILE), or the reference that the policy was trained from.",
    answers_refusals=True,
    rule="fails if conversations have no template, or the two models have different ones; warns if the reference has "
    "none",
)
def check_chat_template(evidence: Evidence) -> Judgement:
    """Fail if conversations have no chat template, or the two models have different ones."""
    if isinstance(evidence.refusal, TemplateError):
        return "fail", evidence.refusal.what
    if evidence.refusal is not None:
        return "skip", "nothing could be scored"
    if all(isinstance(pair.prompt, str) for pair in source_pairs(evidence.ledger)):
        return "ok", "the data are plain text and need no chat template"
    templates = evidence.tokenizers.templates
    if templates == "differing":
        return "fail", "policy and reference have different chat templates"
    if templates == "none in the reference":
        return "warn", "the reference has no chat template: was it trained on this format at all?"
    return "ok", "--chat-template is used for both" if templates == "from option" else "both models have the same"


@doctor_check(
    "same_model",
    "Pass the trained checkpoint with --policy and the one that its training started from with --ref.",
    rule="fails if the weights are the same, or every log-ratio is exactly 0",
)
def check_same_model(evidence: Evidence) -> Judgement:
    """Fail if policy and reference are the same, so that every reward is 0."""
    models = evidence.manifest["models"]
    if models["policy"]["fingerprint"] == models["ref"]["fingerprint"]:
        return "fail", "policy and reference have the same weights, so every reward is 0"
    ratios = np.concatenate([evidence.numbers["chosen_logratios"], evidence.numbers["rejected_logratios"]])
    scored = sum(int(evidence.ledger.stored[f"{side}_num_tokens"].sum()) for side in ("chosen", "rejected"))
    if scored and not np.any(ratios):
        return "fail", "every log-ratio is exactly 0: both models compute the same, as with an untrained adapter"
    return "ok", f"policy and reference differ by {np.median(np.abs(evidence.differences)):.3g} nats on the median pair"


@doctor_check(
    "swapped",
    "Swap --policy and --ref, or check that chosen and rejected are the right way round.",
    rule="fails if the policy is the base and the reference an adapter on it; warns if so few margins are positive "
    f"that the probability of this by chance is below {UNLIKELY:.0%}",
)
def check_swapped(evidence: Evidence) -> Judgement:
    """Fail if the policy is the base model and the reference its adapter; warn if too few margins are positive."""
    if "swapped" in evidence.oddities:
        return "fail", "the policy is the base model, and the reference is an adapter on it"
    differences = evidence.differences[evidence.differences != 0]
    wins = int((differences > 0).sum())
    detail = f"{wins} of {len(differences)} margins are positive"
    if len(differences) and upper_tail(len(differences) - wins, len(differences), 0.5) < UNLIKELY:
        return "warn", f"only {detail}: policy and reference, or chosen and rejected, may be swapped"
    return "ok", detail


@doctor_check(
    "adapter_base",
    "If your trainer switched the adapter off to get its reference, score with --ref adapter-off.",
    rule="warns if the policy's adapter changes its base and the reference is that base as published",
)
def check_adapter_base(evidence: Evidence) -> Judgement:
    """Warn if the trainer may have used a reference other than the adapter's base."""
    found = evidence.oddities.get("adapter_base")
    return ("ok", "nothing suggests that training used another reference") if found is None else ("warn", found)


@doctor_check(
    "value_head",
    "Score the base of the reward model, or the checkpoint that was trained on preferences.",
    rule="warns if the policy or the reference has a value head in addition to its language model",
)
def check_value_head(evidence: Evidence) -> Judgement:
    """Warn if a checkpoint may be a reward model."""
    found = evidence.oddities.get("value_head")
    return ("ok", "neither model has a value head") if found is None else ("warn", found)


@doctor_check(
    "stale_weights",
    "Delete the stale file or the stale shards.",
    rule="fails if a folder has both a single weight file and shards with an index",
)
def check_stale_weights(evidence: Evidence) -> Judgement:
    """Fail if a folder has two sets of weights."""
    found = evidence.oddities.get("stale_weights")
    return ("ok", "each folder has one set of weights") if found is None else ("fail", found)


def _chosen_nats(evidence: Evidence) -> float:
    """Return the median log-ratio per token of the chosen responses, in nats."""
    found = evidence.per_token("chosen")
    return float(np.median(found)) if found.size else 0.0


@doctor_check(
    "wrong_reference",
    "Pass the checkpoint that this training started from, after supervised fine-tuning. Against a base model, margins "
    "measure the fine-tuning, too.",
    rule="median log-ratio per token of the chosen responses: "
    f"fails above {SFT_NATS:g} nats, warns above {MUCH_NATS:g}",
)
def check_reference(evidence: Evidence) -> Judgement:
    """Fail if the policy prefers the chosen responses by more than preference training would explain.

    DPO can increase the difference just as well by lowering the rejected response, and mostly does (Razin et al. 2024,
    arXiv 2410.08847; Pal et al. 2024, arXiv 2402.13228). The chosen response moves little per
    token, and more often down than up.
    """
    chosen = _chosen_nats(evidence)
    rejected = evidence.per_token("rejected")
    both = evidence.numbers["chosen_logratios"] > 0
    both &= evidence.numbers["rejected_logratios"] > 0
    detail = (
        f"median log-ratio per token: {chosen:+.3f} nats for chosen and "
        f"{float(np.median(rejected)) if rejected.size else 0.0:+.3f} for rejected responses, "
        f"both positive in {np.mean(both):.0%} of pairs"
    )
    if chosen > SFT_NATS:
        return "fail", f"{detail}; a shift this large points to supervised fine-tuning, not preference training"
    return ("warn" if chosen > MUCH_NATS else "ok"), detail


def _judge_share(found: int, pairs: int, what: str) -> Judgement:
    """Judge a number of affected pairs: fail for most of the pairs, warn for some."""
    state: State = "ok" if not found else "fail" if found >= MOST * pairs else "warn"
    return state, f"{found or 'none'} of {pairs} {what}"


def _judge_flag(evidence: Evidence, flag: str, what: str) -> Judgement:
    """Judge the share of pairs with a flag."""
    flagged = evidence.flagged(flag)
    return _judge_share(int(flagged.sum()), len(flagged), f"pairs {what}")


@doctor_check(
    "double_bos",
    "Remove the BOS token from the texts or the chat template: the tokenizer adds one, and models expect only one.",
    rule=OF_ALL,
)
def check_double_bos(evidence: Evidence) -> Judgement:
    """Fail if most pairs begin with two BOS tokens."""
    return _judge_flag(evidence, "double_bos", "begin with two BOS tokens")


@doctor_check(
    "missing_eos",
    "Use a chat template that ends the assistant's turn; otherwise the end is not trained. Check that this is the "
    "right template.",
    rule=f"{OF_ALL}; truncated pairs are not counted",
)
def check_missing_eos(evidence: Evidence) -> Judgement:
    """Fail if most pairs that are not truncated have a response without an end token."""
    whole = ~evidence.flagged("truncated")
    if not whole.any():
        return "skip", "every pair is truncated"
    without = evidence.flagged("no_eos") & whole
    return _judge_share(int(without.sum()), int(whole.sum()), "untruncated pairs have a response without an end token")


@doctor_check(
    "double_eos",
    "Remove the end-of-sequence text from the responses, or the end token from the chat template.",
    rule=f"{OF_ALL}; ok under a profile whose stack always adds an end token",
)
def check_double_eos(evidence: Evidence) -> Judgement:
    """Fail if most pairs have a response that ends with the same end token twice."""
    profile = evidence.manifest["tokenization"]["profile"]
    if profile != TRL and evidence.flagged("double_eos").any():
        return "ok", f"responses end with two end tokens, as in the stack that {profile} follows"
    return _judge_flag(evidence, "double_eos", "end with two end tokens")


@doctor_check(
    "not_rendered",
    "What is not rendered is not scored. Pass the chat template of the training if that renders it (--chat-template "
    "FILE), or remove it from the data.",
    rule=OF_ALL,
)
def check_not_rendered(evidence: Evidence) -> Judgement:
    """Fail if the chat template leaves out parts of most pairs."""
    left_out = describe_left_out(evidence.manifest["tokenization"])
    return _judge_flag(evidence, "not_rendered", f"are not rendered in full{left_out and f': {left_out}'}")


@doctor_check(
    "prefix_mismatch",
    "Part of the prompt is scored as response. Use a template whose generation prompt is the beginning of the "
    "assistant's turn; in plain text, move white space from the end of the prompt to the responses.",
    rule=OF_ALL,
)
def check_prefix_mismatch(evidence: Evidence) -> Judgement:
    """Fail if prompt and response, tokenized together, do not begin with the prompt's tokens for most pairs."""
    return _judge_flag(evidence, "prefix_mismatch", "do not begin with the tokens of their prompt")


@doctor_check(
    "truncation",
    "Raise --max-length, or omit it to use the model's whole context.",
    rule=OF_ALL,
)
def check_truncation(evidence: Evidence) -> Judgement:
    """Fail if most pairs are truncated."""
    limit = evidence.manifest["tokenization"]["max_length"]
    return _judge_flag(evidence, "truncated", f"are cut to {limit:,} tokens" if limit else "are cut")


@doctor_check(
    "dtype",
    "Score with --dtype float32. If a checkpoint was saved in 16 bits, save it in the dtype of the training instead.",
    rule="fails if the noise floor, or that of float32 against the dtype, reaches the median |h|, or if rounding to 16 "
    f"bits made weights equal; warns from {COARSE:.0%} of the median |h|",
)
def check_dtype(evidence: Evidence) -> Judgement:
    """Fail if rounding changes margins by as much as their typical size."""
    dtype, noise = evidence.manifest["compute"]["dtype"], evidence.manifest["noise"]
    weights = evidence.manifest.get("weights")
    if weights and weights["erased"]:
        return "fail", f"rounding to 16 bits made {weights['equal']:.0%} of the policy's weights equal the reference's"
    floors = [floor for floor in (noise["floor"], noise["float32_floor"]) if floor is not None]
    if not floors or not np.isfinite(floors).all():
        return "skip", "no pair is finite in both computations"
    differences = evidence.differences
    median = float(np.median(np.abs(differences))) if differences.size else 0.0
    if not median:
        return "skip", "there are no margins to compare with"
    detail = f"{dtype} changes log-ratio differences by up to {max(floors):.2g} nats; their median is {median:.3g}"
    if max(floors) >= median:
        return "fail", detail
    return ("warn" if max(floors) >= COARSE * median else "ok"), detail


@doctor_check(
    "saturated_loss",
    "There is practically nothing left to learn from such pairs. Use an earlier checkpoint, a smaller beta or harder "
    "pairs.",
    rule=f"fails if the median DPO loss is below {SATURATED_LOSS:g}; skipped if wrong_reference fails",
)
def check_saturated_loss(evidence: Evidence) -> Judgement:
    """Fail if the loss of most pairs is close to 0, unless a wrong reference explains it."""
    if _chosen_nats(evidence) > SFT_NATS:
        return "skip", "margins mean little with a wrong reference"
    losses = evidence.numbers["dpo_loss"]
    losses = losses[np.isfinite(losses)]
    if not losses.size:
        return "skip", "no loss is finite"
    median = float(np.median(losses))
    detail = f"the median DPO loss is {median:.3g} at beta {evidence.beta:g}"
    return ("fail" if median < SATURATED_LOSS else "ok"), detail
