"""From a closed spool batch to rows and stored files.

Run twice, side by side, or killed anywhere, it ends in the same state: the spool entry lives until the commit, files
are linked and never overwritten, and every insert leaves what is there. One bad file never holds up the others.
"""

import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, transaction
from psycopg.errors import DeadlockDetected

from apps.archive.holding import Ingested, Outcome, hold_unreadable
from apps.archive.settling import store_files
from apps.archive.upsert import fetch
from apps.core.leader import lock_key
from apps.storage.files import NoVolumeError, forget_volume
from apps.storage.spool import BATCH_FILES, Batch, Spool

__all__ = ["Ingested", "Outcome", "store_batch", "store_open_batch"]

logger = logging.getLogger(__name__)

AWAY = (OperationalError, InterfaceError, NoVolumeError)  # concerns every file alike: nothing to isolate


def store_batch(name: str) -> list[Ingested]:
    """Store one closed batch, and with it others that wait, up to the size of a full batch.

    So a backlog of small batches costs no more than one of full ones. A batch that another worker has, or that is done
    already, is passed over. When something goes wrong, the batch is stored without the others, and at last file by
    file. Raises NoVolumeError and database errors; what is left in the spool is asked for again by its sweep.
    """
    spool = Spool(settings.SPOOL_DIR)
    if not (spool.closed_dir / name).exists():
        return []
    results = _first_that_works(
        name,
        lambda: _store_locked(spool, _gather(spool, name), _store_together),
        lambda: _store_locked(spool, [name], _store_together),
        lambda: _store_locked(spool, [name], _store_each),
    )
    if results:
        counts = Counter(result.outcome.value for result in results)
        logger.info("batch %s: %s", name, ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    return results


def store_open_batch(batch: Batch) -> list[Ingested]:
    """Store the files of a batch that this process holds open, and close it: for import, which reports on each file.

    No worker sees an open batch; when this process dies, the spool sweep hands it over. Raises as `store_batch`.
    """
    paths = batch.files()
    results = _first_that_works(batch.name, lambda: _store_together(paths), lambda: _store_each(paths))
    for result in results:
        result.path.unlink()
    batch.close()
    return results


def _first_that_works(name: str, *ways: Callable[[], list[Ingested]]) -> list[Ingested]:
    for way in ways[:-1]:
        try:
            return way()
        except AWAY as error:
            if not isinstance(error.__cause__, DeadlockDetected):
                raise
            logger.warning("batch %s waited for another worker that waited for it: stored again", name)
        except Exception as error:
            forget_volume()
            logger.error("batch %s cannot be stored at once: %s", name, describe(error))  # noqa: TRY400  values in it
    return ways[-1]()


def describe(error: Exception) -> str:
    """The type of an error and where it was raised; its text may hold values of the file."""
    at = error.__traceback__
    while at and at.tb_next:
        at = at.tb_next
    where = f" in {Path(at.tb_frame.f_code.co_filename).name} line {at.tb_lineno}" if at else ""
    return f"{type(error).__name__}{where}"


def _gather(spool: Spool, name: str) -> list[str]:
    """Names of batches that have as many files together as a full one; chance picks, so that workers seldom meet."""
    with os.scandir(spool.closed_dir) as entries:
        others = [entry.name for entry in islice(entries, BATCH_FILES) if entry.name != name]
    random.shuffle(others)
    names, count = [name], len(spool.files(name)) if others else 0
    for other in others:
        if count >= BATCH_FILES:
            break
        names.append(other)
        count += len(spool.files(other))
    return names


def _store_locked(spool: Spool, names: list[str], store: Callable[[list[Path]], list[Ingested]]) -> list[Ingested]:
    with _locked(names) as mine:
        batches = {name: spool.files(name) for name in mine}  # only now: what another worker settled is gone
        results = store([path for paths in batches.values() for path in paths])
        settled = {result.path for result in results}
        for name, paths in batches.items():
            spool.remove(name, [path for path in paths if path in settled])
    return results


@contextmanager
def _locked(names: Iterable[str]) -> Iterator[list[str]]:
    """Those of the names that nobody else has. The locks outlive the commit: a batch is free when it is unlinked."""
    keys = {lock_key(f"batch {name}"): name for name in names}
    taken = fetch("SELECT key FROM unnest(%s::bigint[]) AS key WHERE pg_try_advisory_lock(key)", [list(keys)])
    try:
        yield [keys[key] for (key,) in taken]
    finally:
        with suppress(Error):  # a broken connection has given them back by itself
            fetch("SELECT pg_advisory_unlock(key) FROM unnest(%s::bigint[]) AS key", [[key for (key,) in taken]])


def _store_together(paths: list[Path]) -> list[Ingested]:
    with transaction.atomic():
        return store_files(paths)


def _store_each(paths: list[Path]) -> list[Ingested]:
    return [result for path in paths for result in _store_alone(path)]


def _store_alone(path: Path) -> list[Ingested]:
    """What the disk refuses stays in the spool; what is refused for any other reason is kept aside."""
    try:
        return _store_together([path])
    except AWAY:
        raise
    except OSError as error:
        logger.error("%s stays in the spool: %s", path.name, describe(error))  # noqa: TRY400
        return []
    except Exception as error:
        logger.error("%s cannot be stored: %s", path.name, describe(error))  # noqa: TRY400
        with transaction.atomic():
            return [hold_unreadable(path, f"it cannot be stored ({type(error).__name__})")]
