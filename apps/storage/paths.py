"""Paths made of UIDs: no PHI, and no UID becomes a path unchecked. Plain Python."""

import re
from functools import lru_cache
from hashlib import sha256
from pathlib import PurePosixPath

_UID = re.compile(r"[0-9.]{1,64}")


def safe_uid(uid: str) -> str:
    """The UID where it is 1 to 64 of [0-9.] (PS3.5 9) and not only dots, else "x" and 40 hex digits of its hash."""
    if _UID.fullmatch(uid) and uid.strip("."):
        return uid
    return "x" + sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def instance_path(study_uid: str, series_uid: str, sop_uid: str, variant: str = "") -> PurePosixPath:
    """`aa/bb/study/series/sop.dcm` below a volume's root; aa and bb spread studies over 65,536 folders.

    A variant, of hexadecimal digits, names another file under the same UID.
    """
    return PurePosixPath(series_folder(study_uid, series_uid), file_name(sop_uid, variant))


@lru_cache(maxsize=1024)
def series_folder(study_uid: str, series_uid: str) -> str:
    """`aa/bb/study/series`: where the files of one series lie."""
    digest = sha256(study_uid.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{digest[:2]}/{digest[2:4]}/{safe_uid(study_uid)}/{safe_uid(series_uid)}"


def file_name(sop_uid: str, variant: str = "") -> str:
    """The name of one instance in the folder of its series."""
    return f"{safe_uid(sop_uid)}{variant and f'-{variant}'}.dcm"
