"""promptfoo: tests (CSV, JSON, YAML), configurations and results. Source: its `src/types/index.ts` and `src/csv.ts`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar, Final

from batchrun.errors import InputError
from batchrun.scoring.formats.documents import Document
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.answers import ANSWER_COLUMNS, own_column
from batchrun.scoring.formats.importers.importer import Cells, Importer
from batchrun.scoring.formats.importers.promptfoo_checks import Check, check_cells, checks_of
from batchrun.scoring.formats.importers.promptfoo_config import case_of_csv, is_config, tests_of, with_files
from batchrun.scoring.formats.importers.promptfoo_results import csv_results, is_csv_of_results, is_result, result_row
from batchrun.scoring.formats.importers.promptfoo_templates import rendered

__all__ = ["Promptfoo", "PromptfooCase", "variable_column"]

_COLUMNS: Final = ANSWER_COLUMNS | {
    *("test", "prompt", "prompt_label", "prompt_index", "provider", "description", "check", "target", "result_id"),
    *(f"{name}_{number}" for name in ("check", "target") for number in range(2, 100)),
}


def variable_column(name: str) -> str:
    """Return the column of a variable.

    >>> variable_column("topic"), variable_column("response")
    ('topic', 'var_response')
    """
    return own_column(name, "var_", _COLUMNS, ("score_", "passed_", "metadata_"))


@dataclass(frozen=True, slots=True)
class PromptfooCase:
    """A test with one value of each variable.

    Attributes:
        variables: the variables.
        cells: the cells of its row.
        checks: its assertions that have a counterpart, with the variables in their texts.
    """

    variables: Cells
    cells: Cells
    checks: list[Check]


class Promptfoo(Importer):
    """One row a test; of results, one row a test, prompt and provider."""

    repeats_columns: ClassVar[bool] = True

    def rows(self, fields: Fields, document: Document) -> Iterator[Cells]:
        if isinstance(fields.get("results"), dict | list):
            yield from self._results(fields)
        elif is_result(fields):
            yield self._result(fields)
        elif is_config(fields):
            for test, source in tests_of(fields, document, self.notes):
                yield from self._test(test, source)
        elif isinstance(fields.get("vars"), dict) or isinstance(fields.get("assert"), list):
            yield from self._test(fields, document)
        elif is_csv_of_results(fields):
            for row in csv_results(fields):
                yield self._variables(row.variables) | row.cells
        elif not any(isinstance(each, dict | list) for each in fields.fields.values()):
            yield from self._csv_test(fields, document)
        else:
            raise InputError(
                f"{document.where}: expected promptfoo's tests, a configuration with prompts, providers or tests, or "
                "results"
            )

    def _variables(self, variables: Cells) -> Cells:
        cells: Cells = {}
        for name, value in variables.items():
            column = variable_column(name)
            if column != name:
                self.notes.remark(f"the variable {name!r} is the column {column!r}")
            cells[column] = value
        return cells

    # -- tests --------------------------------------------------------------------------------------------------

    def _test(self, fields: Fields, document: Document, where: str = "assert") -> Iterator[Cells]:
        for case in self.cases(fields, document, where):
            yield case.cells | check_cells(case.checks)

    def cases(
        self, fields: Fields, document: Document, where: str = "assert", *, for_job: bool = False
    ) -> Iterator[PromptfooCase]:
        """Take a test, and yield a case for each combination of its variables that are lists."""
        variables = {name: with_files(value, document) for name, value in fields.object("vars").take_all().items()}
        rest: Cells = {}
        for name, column in (("description", "description"), ("providerOutput", "response")):
            if name in fields:
                rest[column] = fields.take(name)
        for name, value in fields.object("metadata").take_all().items():
            rest[f"metadata_{name}"] = value
        checks = list(checks_of(fields.objects("assert"), self.notes, where, for_job=for_job))
        if for_job and any(check.scorer == "model-graded" for check in checks):
            grader = fields.object("options").take("provider")
            checks = [
                replace(each, provider=each.provider or grader) if each.scorer == "model-graded" else each
                for each in checks
            ]
        options = fields.object("options")
        lists = {} if options.take_if("disableVarExpansion", True) else {
            name: value for name, value in variables.items() if isinstance(value, list) and value
        }  # fmt: skip
        for combination in product(*lists.values()):
            given = {**variables, **dict(zip(lists, combination, strict=True))}
            given = {name: rendered(value, given, self.notes) for name, value in given.items()}
            own = [check.rendered(given, self.notes) for check in checks]
            yield PromptfooCase(given, self._variables(given) | rest, own)

    def _csv_test(self, fields: Fields, document: Document) -> Iterator[Cells]:
        case = Fields.of(case_of_csv(fields, self.notes))
        yield from self._test(case, document, "__expected")
        for path, value in case.left():
            self.notes.add_value(path.replace("assert[].", "__expected: "), value)

    # -- results ------------------------------------------------------------------------------------------------

    def _results(self, fields: Fields) -> Iterator[Cells]:
        summary = fields.object("results") if isinstance(fields.get("results"), dict) else fields
        for result in summary.objects("results"):
            yield self._result(result)

    def _result(self, fields: Fields) -> Cells:
        variables = fields.take("vars")
        case = fields.object("testCase")
        if variables is None:
            variables = case.take("vars")
        case.take_if("vars", variables)
        assertions = case.get("assert")
        copied = [dict(each) for each in assertions if isinstance(each, dict)] if isinstance(assertions, list) else []
        cells = self._variables(variables if isinstance(variables, dict) else {"vars": variables})
        checks = [
            check.rendered(variables if isinstance(variables, dict) else {}, self.notes)
            for check in checks_of(case.objects("assert"), self.notes, "assert")
        ]
        return cells | result_row(fields, case, copied) | check_cells(checks)
