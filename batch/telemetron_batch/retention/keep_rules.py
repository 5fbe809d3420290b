"""Decide which runs stay: pure rules over what is known of all runs of a reports folder."""

from collections.abc import Iterable, Mapping, Sequence

from telemetron_batch.run.removal import JobKey, RunFacts


def reasons_to_stay(runs: Sequence[RunFacts], before: float, in_use: Iterable[str] = ()) -> Mapping[str, str]:
    """Return why each finished run stays that ended before a moment, by run id; the others may be removed.

    `in_use` are the ids of runs whose files something else than a run needs.
    """
    newest, reads, used = _newest_of_each_job(runs), _readers(runs), set(in_use)
    since_last = [run for run in newest.values() if run.uses_since_last]
    return {
        run.run_id: reason
        for run in runs
        if is_old(run, before) and (reason := _reason(run, newest, since_last, reads, used))
    }


def is_old(run: RunFacts, before: float) -> bool:
    """Return whether a run has finished, before a moment."""
    return run.is_finished and run.ended_at is not None and run.ended_at < before


def _reason(
    run: RunFacts,
    newest: Mapping[JobKey, RunFacts],
    since_last: Iterable[RunFacts],
    reads: Mapping[str, str],
    used: set[str],
) -> str:
    """Return why a finished run stays; "" if it need not."""
    if newest[run.job] is run:
        return f"the newest finished run of {job_words(run)}"
    if not run.is_published:
        return "its files could not be published; the same command publishes them"
    if reader := reads.get(run.run_id):
        return f"run {reader}, which has not finished, reads a file of it"
    if run.run_id in used:
        return "a list of the page for clerks is a file of it"
    for base in since_last:
        if base.api == run.api and base.run_id != run.run_id and (run.acts_until or 0.0) > base.began_at:
            return f"--since-last of {job_words(base)} needs it: it has sent calls since run {base.run_id} began"
    return ""


def job_words(run: RunFacts) -> str:
    """Return the job of a run in words."""
    kind, *names = run.job[2] or ("job", "")
    return f"the job of {', '.join(names)}" if kind == "files" else f"{kind} {names[0] if names else ''}"


def _newest_of_each_job(runs: Iterable[RunFacts]) -> dict[JobKey, RunFacts]:
    """Return for each job the run that `--since-last` would take: of the finished ones that which began last."""
    newest: dict[JobKey, RunFacts] = {}
    for run in runs:
        other = newest.get(run.job)
        if run.is_finished and (other is None or (other.began_at, other.run_id) < (run.began_at, run.run_id)):
            newest[run.job] = run
    return newest


def _readers(runs: Iterable[RunFacts]) -> dict[str, str]:
    """Return for each run whose folder has an input of an unfinished run the id of that one.

    By the name of the folder: an input may have been named by a path that is relative to somewhere.
    """
    return {path.parent.name: run.run_id for run in runs if not run.is_finished for path in run.inputs}
