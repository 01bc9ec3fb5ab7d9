"""The plan of a batch as its workers need it: all that decides the answers, without the rows."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

from batchrun.batch.added_columns import AddedColumns
from batchrun.batch.job_files import structure_of, toolbox_of
from batchrun.batch.plan import Plan
from batchrun.errors import InputError
from batchrun.prompts.templates import prompter_for
from batchrun.scale.shards import ShardRows
from batchrun.services.client import Endpoint

__all__ = ["ShardPlan", "check_can_travel"]


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What a worker has to know of a plan: the plan without its rows, and without the parts that cannot be pickled."""

    _bare: Plan

    @classmethod
    def of(cls, plan: Plan, concurrency: int | None = None) -> Self:
        """Return what a worker needs.

        Args:
            concurrency: rows in flight at most; None for an adaptive number.
        """
        made_again = cast(Any, None)
        return cls(
            replace(
                plan,
                job=replace(plan.job, concurrency=concurrency),
                source=ShardRows(plan.source.name, tuple(plan.source.columns), Path(os.devnull)),
                rows=0,
                whole=None,
                selection=None,
                cache=None,
                target=None,
                write_output=False,
                prompter=made_again,
                added=made_again,
                structure=None,
                toolbox=None,
            )
        )

    def plan(self) -> Plan:
        """Return the plan, with no rows."""
        bare, job, columns = self._bare, self._bare.job, self._bare.source.columns
        structure = structure_of(job)
        return replace(
            bare,
            prompter=prompter_for(bare.settings, columns, job.key),
            added=AddedColumns(bare.settings, structure, keep=job.keep or (), taken=columns, prefix=job.output_prefix),
            structure=structure,
            # The functions of a file are read again; their declarations are in the job already.
            toolbox=toolbox_of(replace(job, functions=[])),
        )


def check_can_travel(plan: Plan, endpoint: Endpoint) -> None:
    """Raise InputError if a plan or its service has something that only this process can use."""
    try:
        pickle.dumps((ShardPlan.of(plan), endpoint))
    except Exception:  # noqa: BLE001 - objects of the user raise anything
        raise InputError(
            "--workers: a function, a class or a key of this call exists in this process only; give tools and schema "
            "as files and the key as text, or leave --workers out"
        ) from None
