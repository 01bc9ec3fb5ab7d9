"""The plan of a batch as its workers need it: all that decides the answers, without the rows."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from batchrun.batch.added_columns import AddedColumns
from batchrun.batch.destination import Destination
from batchrun.batch.job_files import structure_of, toolbox_of
from batchrun.batch.paths import Paths
from batchrun.batch.plan import Plan
from batchrun.errors import InputError
from batchrun.job.options import Job
from batchrun.prompts.combinations import Combination
from batchrun.prompts.templates import prompter_for
from batchrun.records import Settings
from batchrun.scale.shards import ShardRows
from batchrun.services.client import Endpoint
from batchrun.tables import WriteOptions

__all__ = ["ShardPlan", "check_can_travel"]


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What a worker has to know of a plan. It can be pickled; the attributes are those of `Plan`."""

    job: Job
    input_name: str | None
    name: str
    columns: tuple[str, ...]
    paths: Paths
    destination: Destination
    settings: Settings
    write_options: WriteOptions
    combinations: tuple[Combination, ...]
    variants: tuple[Job, ...]
    models: tuple[str | None, ...]

    @classmethod
    def of(cls, plan: Plan, concurrency: int | None = None) -> Self:
        """Return what a worker needs.

        Args:
            concurrency: rows in flight at most; None for an adaptive number.
        """
        return cls(
            job=replace(plan.job, concurrency=concurrency),
            input_name=plan.input_name,
            name=plan.source.name,
            columns=tuple(plan.source.columns),
            paths=plan.paths,
            destination=plan.destination,
            settings=plan.settings,
            write_options=plan.write_options,
            combinations=plan.combinations,
            variants=plan.variants,
            models=plan.models,
        )

    def plan(self) -> Plan:
        """Return the plan, with no rows."""
        structure = structure_of(self.job)
        return Plan(
            job=self.job,
            input_name=self.input_name,
            paths=self.paths,
            source=ShardRows(self.name, self.columns, Path(os.devnull)),
            rows=0,
            prompter=prompter_for(self.settings, self.columns, self.job.key),
            destination=self.destination,
            settings=self.settings,
            write_options=self.write_options,
            write_output=False,
            combinations=self.combinations,
            variants=self.variants,
            models=self.models,
            added=AddedColumns(
                self.settings,
                structure,
                keep=self.job.keep or (),
                taken=self.columns,
                prefix=self.job.output_prefix,
            ),
            # The functions of a file are read again; their declarations are in the job already.
            toolbox=toolbox_of(replace(self.job, functions=[])),
            structure=structure,
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
