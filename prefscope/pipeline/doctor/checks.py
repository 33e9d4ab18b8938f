"""The doctor's checks: pure functions of a scored sample, each with its thresholds."""

from __future__ import annotations

import numpy as np

from prefscope.errors import TemplateError, VocabularyError
from prefscope.ledger.left_out import describe_left_out
from prefscope.ledger.source_pairs import source_pairs
from prefscope.pipeline.doctor.verdict import Evidence, Judgement, State, doctor_check
from prefscope.scoring.profiles import TRL
from prefscope.statistics import upper_tail

MOST = 0.5
"""A flag on at least this share of the pairs points to the set-up rather than to single rows."""
SFT_NATS = 0.5
"""DPO moves a response by less than this per token: by 0.02 to 0.15 nats on the bundled models, more often down than
up. Supervised fine-tuning, which separates a base model from the right reference, raises the chosen responses by
more."""
MUCH_NATS = 0.2
COARSE = 0.1
"""Warn if rounding changes margins by more than this share of the median margin."""
SATURATED_LOSS = 1e-3
"""At beta 0.1, a difference of 69 nats; the gradient of such a pair is practically 0."""
UNLIKELY = 0.01
OF_ALL = f"fails from {MOST:.0%} of the pairs on, warns from the first"


@doctor_check(
    "tokenizers",
    "Give the reference that the policy was trained from; it has the policy's vocabulary.",
    answers_refusals=True,
    rule="fails where a token id in use means something else to the reference, warns where only unused ones do",
)
def check_tokenizers(evidence: Evidence) -> Judgement:
    """Fail if a token id in use has another meaning in the reference."""
    if isinstance(evidence.refusal, VocabularyError):
        return "fail", evidence.refusal.what
    differing = evidence.tokenizers.differing
    if differing:
        noun = "token id means" if differing == 1 else "token ids mean"
        return "warn", f"{differing:,} {noun} something else to the reference; none of them is used here"
    return "ok", "policy and reference read token ids alike"


@doctor_check(
    "chat_template",
    "The policy's is used for both. Name the one that both were trained with by --chat-template FILE, or give the "
    "reference that the policy was trained from.",
    answers_refusals=True,
    rule="fails where conversations have no template, or the two models have each their own; warns where the "
    "reference has none",
)
def check_chat_template(evidence: Evidence) -> Judgement:
    """Fail if conversations have no chat template, or the two models have different ones."""
    if isinstance(evidence.refusal, TemplateError):
        return "fail", evidence.refusal.what
    if evidence.refusal is not None:
        return "skip", "nothing could be scored"
    if all(isinstance(pair.prompt, str) for pair in source_pairs(evidence.ledger)):
        return "ok", "the data are plain text, which needs none"
    templates = evidence.tokenizers.templates
    if templates == "differing":
        return "fail", "the reference has another chat template than the policy"
    if templates == "none in the reference":
        return "warn", "the reference has no chat template: was it trained on this format at all?"
    return "ok", "given for both" if templates == "given" else "policy and reference have the same"


@doctor_check(
    "same_model",
    "Name the trained checkpoint with --policy and the one that its training started from with --ref.",
    rule="fails where the weights are the same, or every log-ratio is exactly 0",
)
def check_same_model(evidence: Evidence) -> Judgement:
    """Fail if policy and reference are the same, so that every reward is 0."""
    models = evidence.manifest["models"]
    if models["policy"]["fingerprint"] == models["ref"]["fingerprint"]:
        return "fail", "policy and reference have the same weights, so every reward is 0"
    ratios = np.concatenate([evidence.numbers["chosen_logratios"], evidence.numbers["rejected_logratios"]])
    scored = sum(int(evidence.ledger.stored[f"{side}_num_tokens"].sum()) for side in ("chosen", "rejected"))
    if scored and not np.any(ratios):
        return "fail", "every log-ratio is exactly 0: the two compute the same, as an untrained adapter does"
    return "ok", f"they differ by {np.median(np.abs(evidence.differences)):.3g} nats on the median pair"


@doctor_check(
    "swapped",
    "Exchange --policy and --ref, or look whether chosen and rejected are the right way round.",
    rule="fails where the policy is the base of a reference that is its adapter; warns where so few margins are "
    f"positive that chance would do it less often than {UNLIKELY:.0%}",
)
def check_swapped(evidence: Evidence) -> Judgement:
    """Fail if the policy is the base model and the reference its adapter; warn if too few margins are positive."""
    if "swapped" in evidence.oddities:
        return "fail", "the policy is the base model, and the reference is an adapter of it"
    differences = evidence.differences[evidence.differences != 0]
    wins = int((differences > 0).sum())
    told = f"{wins} of {len(differences)} margins are positive"
    if len(differences) and upper_tail(len(differences) - wins, len(differences), 0.5) < UNLIKELY:
        return "warn", f"only {told}: policy and reference, or chosen and rejected, may be swapped"
    return "ok", told


@doctor_check(
    "adapter_base",
    "If your trainer got its reference by switching the adapter off, score with --ref adapter-off.",
    rule="warns where the policy's adapter changes its base and the reference is that base as published",
)
def check_adapter_base(evidence: Evidence) -> Judgement:
    """Warn if the trainer may have used a reference other than the adapter's base."""
    found = evidence.oddities.get("adapter_base")
    return ("ok", "the reference is what it seems") if found is None else ("warn", found)


@doctor_check(
    "value_head",
    "Score a reward model's base, or the checkpoint that was trained on preferences.",
    rule="warns where a policy or reference has a value head beside its language model",
)
def check_value_head(evidence: Evidence) -> Judgement:
    """Warn if a checkpoint may be a reward model."""
    found = evidence.oddities.get("value_head")
    return ("ok", "neither model has a value head") if found is None else ("warn", found)


@doctor_check(
    "stale_weights",
    "Delete the file or the shards that are stale.",
    rule="fails where a folder has both a single weight file and shards with an index",
)
def check_stale_weights(evidence: Evidence) -> Judgement:
    """Fail if a folder has two sets of weights."""
    found = evidence.oddities.get("stale_weights")
    return ("ok", "each folder holds one set of weights") if found is None else ("fail", found)


def _chosen_nats(evidence: Evidence) -> float:
    """Return the median log-ratio per token of the chosen responses, in nats."""
    found = evidence.per_token("chosen")
    return float(np.median(found)) if found.size else 0.0


@doctor_check(
    "wrong_reference",
    "Give the checkpoint that this training started from, after supervised fine-tuning; of a base model, margins "
    "measure that, too.",
    rule=f"the median log-ratio a token of chosen responses: fails above {SFT_NATS:g} nats, warns above {MUCH_NATS:g}",
)
def check_reference(evidence: Evidence) -> Judgement:
    """Fail if the policy prefers the chosen responses by more than preference training would explain.

    DPO can increase the difference just as well by lowering the rejected response, and mostly does (Razin et al. 2024,
    arXiv 2410.08847; Pal et al. 2024, arXiv 2402.13228). The chosen response moves little per token, and rather down.
    """
    chosen = _chosen_nats(evidence)
    rejected = evidence.per_token("rejected")
    both = evidence.numbers["chosen_logratios"] > 0
    both &= evidence.numbers["rejected_logratios"] > 0
    told = (
        f"the policy gives chosen responses {chosen:+.3f} nats a token over the reference and rejected ones "
        f"{float(np.median(rejected)) if rejected.size else 0.0:+.3f} (medians), {np.mean(both):.0%} of pairs both more"
    )
    if chosen > SFT_NATS:
        return "fail", f"{told}; a shift this large points to supervised fine-tuning, not preference training"
    return ("warn" if chosen > MUCH_NATS else "ok"), told


def _judge_share(found: int, pairs: int, told: str) -> Judgement:
    """Judge a number of affected pairs: fail for most of the pairs, warn for some."""
    state: State = "ok" if not found else "fail" if found >= MOST * pairs else "warn"
    return state, f"{found or 'none'} of {pairs} {told}"


def _judge_flag(evidence: Evidence, flag: str, told: str) -> Judgement:
    """Judge the share of pairs with a flag."""
    flagged = evidence.flagged(flag)
    return _judge_share(int(flagged.sum()), len(flagged), f"pairs {told}")


@doctor_check(
    "double_bos",
    "Take the BOS out of the texts or the chat template: the tokenizer adds one, and models expect one.",
    rule=OF_ALL,
)
def check_double_bos(evidence: Evidence) -> Judgement:
    """Fail if most pairs begin with two BOS tokens."""
    return _judge_flag(evidence, "double_bos", "begin with two BOS tokens")


@doctor_check(
    "missing_eos",
    "Let the chat template end the assistant's turn; the end is not trained otherwise. Is the template the right one?",
    rule=f"{OF_ALL}; of those that are not truncated",
)
def check_missing_eos(evidence: Evidence) -> Judgement:
    """Fail if most pairs that are not truncated have a response without an end token."""
    whole = ~evidence.flagged("truncated")
    if not whole.any():
        return "skip", "every pair is truncated"
    without = evidence.flagged("no_eos") & whole
    return _judge_share(int(without.sum()), int(whole.sum()), "whole pairs have a response without an end token")


@doctor_check(
    "double_eos",
    "Take the end-of-sequence text out of the responses, or the end token out of the chat template.",
    rule=f"{OF_ALL}; a profile that adds an end token always is as its stack does",
)
def check_double_eos(evidence: Evidence) -> Judgement:
    """Fail if most pairs have a response that ends with the same end token twice."""
    profile = evidence.manifest["tokenization"]["profile"]
    if profile != TRL and evidence.flagged("double_eos").any():
        return "ok", f"responses end with an end token twice, as the rules of {profile} have it"
    return _judge_flag(evidence, "double_eos", "end with two end tokens")


@doctor_check(
    "not_rendered",
    "What is not rendered is not scored: give the chat template of the training, if that renders it (--chat-template "
    "FILE), or take it out of the data.",
    rule=OF_ALL,
)
def check_not_rendered(evidence: Evidence) -> Judgement:
    """Fail if the chat template leaves out parts of most pairs."""
    left_out = describe_left_out(evidence.manifest["tokenization"])
    return _judge_flag(evidence, "not_rendered", f"are not rendered in full{left_out and f': {left_out}'}")


@doctor_check(
    "prefix_mismatch",
    "Some of the prompt is scored as response: use a template whose generation prompt is how the assistant's turn "
    "begins; of plain text, move white space from the prompt's end to the responses.",
    rule=OF_ALL,
)
def check_prefix_mismatch(evidence: Evidence) -> Judgement:
    """Fail if prompt and response, tokenized together, do not begin with the prompt's tokens for most pairs."""
    return _judge_flag(evidence, "prefix_mismatch", "begin with other tokens than their prompt")


@doctor_check(
    "truncation",
    "Raise --max-length, or leave it out to use the model's whole context.",
    rule=OF_ALL,
)
def check_truncation(evidence: Evidence) -> Judgement:
    """Fail if most pairs are truncated."""
    limit = evidence.manifest["tokenization"]["max_length"]
    return _judge_flag(evidence, "truncated", f"are cut to {limit:,} tokens" if limit else "are cut")


@doctor_check(
    "dtype",
    "Score with --dtype float32; of checkpoints saved in 16 bits, save the training's own weights.",
    rule="fails where the noise floor, or that of float32 against the dtype, reaches the median |h|, or rounding to 16 "
    f"bits made weights equal; warns from {COARSE:.0%} of the median |h| on",
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
        return "skip", "there is no margin to compare with"
    told = f"{dtype} moves differences by up to {max(floors):.2g} nats, where their median is {median:.3g}"
    if max(floors) >= median:
        return "fail", told
    return ("warn" if max(floors) >= COARSE * median else "ok"), told


@doctor_check(
    "saturated_loss",
    "Such pairs teach nothing more: an earlier checkpoint, a smaller beta or harder pairs will tell more.",
    rule=f"fails where the median DPO loss is below {SATURATED_LOSS:g}; skipped where wrong_reference fails",
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
    told = f"the median DPO loss is {median:.3g} at beta {evidence.beta:g}"
    return ("fail" if median < SATURATED_LOSS else "ok"), told
