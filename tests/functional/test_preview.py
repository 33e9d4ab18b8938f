"""A run with a preview shows its pairs before it scores, and emits every sum as soon as it is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from prefscope.events import BatchScored, Event, LogpsKnown, Prepared
from prefscope.folders import store_path
from prefscope.ledger.columns import LOGPS
from prefscope.ledger.live import LiveLedger
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.pipeline.run import score
from prefscope.scoring.store import LogpStore, sequence_key
from prefscope.settings import ScoreSettings
from tests.functional.runs import POLICY, settings_of

pytestmark = pytest.mark.slow

LEDGER, PREVIEW = Path("ledger.parquet"), Path("preview.parquet")
PAIRS = 30


class Watched:
    """A run with a preview."""

    def __init__(self, settings: ScoreSettings, at: Callable[[Event], None] = lambda _: None) -> None:
        self.events: list[Event] = []
        self.scopes: dict[str, bytes] = {}
        self.ledger: LiveLedger | None = None
        self._at = at
        self._store = LogpStore(store_path(settings.compute.cache_dir))
        score(settings, lambda _: LEDGER, self.hear, PREVIEW)

    def hear(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Prepared):
            self.ledger = LiveLedger(Path(event.preview), LEDGER, self.token_logps)
        if isinstance(event, LogpsKnown):
            self.scopes[event.role] = bytes.fromhex(event.scope)
            self.live.take(event.role, zip(map(bytes.fromhex, event.digests), event.sums, strict=True))
            self.live.catch_up()
        self._at(event)

    @property
    def live(self) -> LiveLedger:
        assert self.ledger is not None
        return self.ledger

    def token_logps(self, role: str, digest: bytes) -> NDArray[np.float32] | None:
        return next(iter(self._store.lookup([sequence_key(self.scopes[role], digest)]).values()), None)

    def digests_of(self, role: str) -> list[str]:
        """Return the digests whose sums were emitted for a role, in order."""
        known = [event for event in self.events if isinstance(event, LogpsKnown)]
        return [digest for event in known if event.role == role for digest in event.digests]


def sums(ledger: Ledger) -> dict[str, list[float]]:
    return {name: ledger.stored[name].tolist() for name in LOGPS}


@pytest.fixture(name="watched")
def _watched() -> Watched:
    return Watched(settings_of(limit=PAIRS, batch_tokens=1500))


def test_emitted_sums_equal_those_of_the_ledger_bit_for_bit(watched: Watched) -> None:
    assert sums(watched.live) == sums(load_ledger(LEDGER))


def test_every_pair_is_in_the_preview_before_the_first_batch(watched: Watched) -> None:
    kinds = [type(event) for event in watched.events]
    assert kinds.index(Prepared) < kinds.index(BatchScored)
    texts = ["row", "line", "pair_id", "prompt", "chosen", "rejected", "chosen_tokens", "source_json", "category"]
    shown, written = Ledger(PREVIEW), load_ledger(LEDGER)
    assert [*shown.read(texts)] == [*written.read(texts)]


def test_no_pair_is_known_before_its_event() -> None:
    known: list[int] = []

    def count(event: Event) -> None:
        if watched and isinstance(event, Prepared | BatchScored):
            known.append(int(watched[0].live.is_known.sum()))

    watched: list[Watched] = []
    settings = settings_of(limit=PAIRS, batch_tokens=1500)

    class Counting(Watched):
        def hear(self, event: Event) -> None:
            watched[:] = [self]
            super().hear(event)

    Counting(settings, count)
    assert known[0] == 0
    assert known == sorted(known)
    assert known[-1] == PAIRS
    assert len(set(known)) > 3


def test_a_pair_has_its_tokens_log_probs_as_soon_as_it_is_scored(watched: Watched) -> None:
    shown, written = watched.live.pair(3), load_ledger(LEDGER).pair(3)
    for name in written:
        found = shown[name]
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == written[name], name
    assert shown.keys() == written.keys()


def test_stored_results_are_emitted_before_anything_is_scored(watched: Watched) -> None:
    more = Watched(settings_of(limit=2 * PAIRS, batch_tokens=1500))
    kinds = [type(event) for event in more.events]
    before = [event for event in more.events[: kinds.index(BatchScored)] if isinstance(event, LogpsKnown)]
    digests = {digest for event in before if event.role == "policy" for digest in event.digests}
    assert digests >= set(watched.digests_of("policy"))
    assert sums(more.live) == sums(load_ledger(LEDGER))


def test_a_sum_is_emitted_for_both_roles_of_one_model() -> None:
    same = Watched(settings_of(POLICY, POLICY, limit=4))
    assert same.digests_of("policy") == same.digests_of("ref") != []
    assert same.live.is_known.all()


def test_without_a_reference_a_pair_is_known_once_the_policy_has_scored_it() -> None:
    free = Watched(settings_of(ref="none", limit=4))
    assert free.live.is_known.all()
    assert not free.live.has_reference
    assert all(map(math.isnan, free.live.stored["ref_chosen_logps"]))


def test_a_nan_sum_is_known_and_flagged(watched: Watched) -> None:
    live = LiveLedger(PREVIEW, LEDGER, watched.token_logps)
    digests = {name: bytes.fromhex(value) for name, value in zip("ab", watched.digests_of("policy"), strict=False)}
    live.take("policy", [(digests["a"], math.nan), (digests["b"], -3.0)])
    live.catch_up()
    assert sum("non_finite" in flags for flags in live.stored["flags"]) == 1
    assert not live.is_known.any()


def test_a_live_ledger_does_not_change_until_it_catches_up(watched: Watched) -> None:
    live = LiveLedger(PREVIEW, LEDGER, watched.token_logps)
    for role in ("policy", "ref"):
        live.take(role, [(bytes.fromhex(digest), -3.0) for digest in watched.digests_of(role)])
    assert np.isnan(live.stored["policy_chosen_logps"]).all()
    assert live.pair(0)["policy_chosen_token_logps"] is None
    assert not live.is_known.any()
    live.catch_up()
    assert live.pair(0)["policy_chosen_token_logps"] is not None
    assert (live.stored["policy_chosen_logps"] == -3.0).all()
    assert live.is_known.all()


def test_a_run_without_a_preview_emits_no_sums() -> None:
    events: list[Event] = []
    score(settings_of(limit=4), lambda _: LEDGER, events.append)
    assert not [event for event in events if isinstance(event, LogpsKnown | Prepared)]


def test_the_preview_does_not_change_the_ledger(watched: Watched) -> None:
    settings = settings_of(limit=PAIRS, batch_tokens=1500, cache="other")
    score(settings, lambda _: Path("other.parquet"), lambda _: None)
    assert sums(watched.live) == sums(load_ledger("other.parquet"))
