"""What an actor refuses to compute on a node that differs from the machine that started the run; needs no Ray."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import prefscope
from prefscope.errors import ModelError
from prefscope.pipeline.dispatch.choice import _job
from prefscope.pipeline.dispatch.ray_driver import _ScoreUnits
from prefscope.pipeline.dispatch.ray_job import RayJob
from prefscope.pipeline.model_pool import gather
from prefscope.scoring.checkpoints import resolve
from prefscope.scoring.store import LogpStore
from tests.functional.runs import settings_of

pytestmark = pytest.mark.exhaustive


@pytest.fixture(name="job")
def _job_of_the_bundled_policy() -> RayJob:
    settings = settings_of(ref="none")
    with LogpStore(None) as store:
        policy, _ = resolve(settings.models, print)
        pool = gather(settings, store, [policy], np.arange(100, dtype=np.int32), lambda _: None)
        models = [pool.judge(candidate) for candidate in pool.candidates]
        return RayJob(_job(settings.dispatch, pool, models, 1), None, "the machine that started it")


def test_a_node_with_the_environment_of_the_driver_computes(job: RayJob) -> None:
    assert job.scorer().score(()) == []


def test_a_node_with_another_torch_is_refused(job: RayJob) -> None:
    (model,) = job.job.models
    other = replace(job, job=replace(job.job, models=(replace(model, scope=b"of another torch"),)))
    with pytest.raises(
        ModelError, match=r"would compute different numbers: it has Python .*, torch .*Install the same"
    ):
        other.scorer()


def test_a_node_with_other_weights_under_the_same_path_is_refused(job: RayJob) -> None:
    (model,) = job.job.models
    candidate = replace(model.candidate, fingerprint="of other weights")
    other = replace(job, job=replace(job.job, models=(replace(model, candidate=candidate),)))
    with pytest.raises(ModelError, match="has different weights"):
        other.scorer()


def test_a_node_with_another_prefscope_is_reported() -> None:
    """The pickled payload is not even read: another version may interpret it differently."""
    actor = _ScoreUnits("0.0.1", b"no pickle")
    answers = actor({"number": [7], "unit": [pickle.dumps(())]})
    error = pickle.loads(answers["answer"][0])  # noqa: S301 (our own)
    assert answers["number"] == [7]
    assert isinstance(error, ModelError)
    assert f"A node of the cluster has prefscope {prefscope.__version__}, but this machine has 0.0.1" in str(error)
