"""Whether and how a batch uses a cache, decided before the first request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchrun.batch.cached_answers import PlannedCache
from batchrun.batch.destination import Destination
from batchrun.batch.paths import Paths
from batchrun.cache import RowKeys, check_answer_file, has_function_tools, service_identity
from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.journal import Journal
from batchrun.prompts.combinations import Combination
from batchrun.prompts.local_files import LocalFile
from batchrun.records import Settings
from batchrun.services.kept import ON_REQUEST
from batchrun.structured import SchemaMismatch, Structure

__all__ = ["BatchFiles", "has_cached_answers", "kept_on_request", "planned_cache", "service_of"]

_BY_FILE = ("schema", "file_search")
"""Settings whose content, and not the name of the file, is in the settings of a batch."""


@dataclass(frozen=True, slots=True)
class BatchFiles:
    """The files of a batch that a cache depends on.

    Attributes:
        folder: relative paths of attachments are relative to this folder.
        searched: files that the model may search.
        structure: the schema of the answers, None without --schema.
    """

    folder: Path
    searched: Sequence[LocalFile]
    structure: Structure | None

    def fits(self, answer: str) -> bool:
        """Return whether an answer has the form of the schema."""
        if self.structure is None:
            return True
        try:
            self.structure.read(answer)
        except SchemaMismatch:
            return False
        return True


def planned_cache(
    job: Job,
    variants: Sequence[Job],
    combinations: Sequence[Combination],
    settings: Settings,
    service: str,
    paths: Paths,
    files: BatchFiles,
) -> PlannedCache | str | None:
    """Return the cache of a batch, or one line that says why it is not used; None without --cache.

    Args:
        variants: the job of each combination of settings, without epochs.
        settings: what decides the answers, as stored in the journal.
        service: see `service_of`.

    Raises:
        InputError: the file is not a cache, or belongs to the batch itself.
    """
    if job.cache is None:
        return None
    for own in (paths.output, paths.journal, paths.lock, paths.store, paths.spool):
        if job.cache.absolute() == own.absolute():
            raise InputError(f"--cache: {job.cache}: is a file of this batch itself; name another one")
    check_answer_file(job.cache)
    reason = _reason_against(job, variants, is_embedded=bool(settings["embedded"]))
    if reason is not None:
        return f"--cache is not used: {reason}"
    of_combinations = [(variants[each.variant], each.epoch) for each in combinations]
    extra = {name: settings[name] for name in _BY_FILE if name in settings}
    if files.searched:
        extra["file_names"] = sorted(file.path.name for file in files.searched)
    if kept := kept_on_request(job):
        extra["keep"] = kept
    keys = RowKeys(service, of_combinations, extra, files.folder)
    return PlannedCache(job.cache, keys, files.fits, job.fallback_model)


def _reason_against(job: Job, variants: Sequence[Job], *, is_embedded: bool) -> str | None:
    """Return why no answer of this batch belongs to a cache; None if answers do."""
    if is_embedded:
        return "the embedded server answers, and a cache has answers of services only"
    if job.tools is not None or any(variant.functions or has_function_tools(variant.param) for variant in variants):
        return "the model may call functions, and an answer without their effects would be another one"
    if job.code_interpreter:
        return "with --code-interpreter, answers have files, which belong to the batch that downloaded them"
    return None


def kept_on_request(job: Job) -> list[str]:
    """Return what answers carry because the job asks for it; some of it changes the requests."""
    return sorted({*(job.keep or ())} & {*ON_REQUEST})


def service_of(job: Job, destination: Destination, environment: Environment) -> str:
    """Return a digest of the service that answers, without credentials."""
    api_version = (job.api_version or environment.api_version) if job.azure else None
    return service_identity(destination.base_url, api_version, job.header, job.query)


def has_cached_answers(journal: Path) -> bool:
    """Return whether an earlier run of a batch has used a cache.

    Raises:
        OutputError: the journal cannot be read.
    """
    if not journal.exists() or not journal.stat().st_size:
        return False
    with Journal(journal, read_only=True) as opened:
        return bool(opened.read_manifest().get("cache"))
