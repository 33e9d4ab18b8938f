"""The settings that the values of shared options stand for."""

from __future__ import annotations

from dataclasses import replace

from prefscope.errors import UsageError
from prefscope.settings import DispatchSettings, Engine


def read_mapping(text: str | None) -> dict[str, str] | None:
    """Return the columns named by --map, or None without it.

    Raises:
        UsageError: A part is missing or unknown.
    """
    from prefscope.data.dialects import parse_mapping

    return None if text is None else parse_mapping(text)


def read_dispatch(
    workers: int | None,
    engine: Engine,
    address: str | None,
    gpus_per_worker: float | None,
    cpus_per_worker: int,
    parts: str | None,
    slice_: str | None,
) -> DispatchSettings:
    """Return how the work is divided among processes and machines.

    Raises:
        UsageError: --slice is malformed or has no --parts, or a Ray option is used without --engine ray.
    """
    if engine != "ray" and (address is not None or gpus_per_worker is not None or cpus_per_worker != 1):
        raise UsageError("--address, --gpus-per-worker and --cpus-per-worker need Ray", hint="Add --engine ray.")
    dispatch = DispatchSettings(workers, engine, address, gpus_per_worker, cpus_per_worker, parts=parts)
    if slice_ is None:
        return dispatch
    number, slices = _read_slice(slice_)
    if parts is None:
        raise UsageError("--slice needs --parts", hint="Pass a folder or URL that all slices can access.")
    return replace(dispatch, slice_number=number, slices=slices)


def _read_slice(text: str) -> tuple[int, int]:
    """Return I and N of a slice I/N.

    Raises:
        UsageError: It is malformed, or I is not below N.
    """
    number, _, slices = text.partition("/")
    if not (number.isascii() and number.isdigit() and slices.isascii() and slices.isdigit()):
        raise UsageError(f"--slice {text} is not of the form I/N", hint="Write 0/4 for the first of four.")
    if int(number) >= int(slices):
        raise UsageError(
            f"There is no slice {text}", hint=f"Slices of {slices} run from 0/{slices} to {int(slices) - 1}/{slices}."
        )
    return int(number), int(slices)
