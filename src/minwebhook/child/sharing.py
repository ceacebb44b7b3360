"""Files that the steps of a flow hand on: into the directory ``shared`` of a job before it begins, and out of it at its end.

Runs in a process of its own with the rights of the job, in its place and within its limits: what is in the archive, and what the
directory holds, is the job's. The archive is a tar file that the server has opened.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
from typing import Final

#: The directory, below where a job begins.
DIRECTORY: Final = "shared"
#: Exit codes.
DONE: Final = 0
TOO_LARGE: Final = 3
FAILED: Final = 4


def unpack(fd: int) -> int:
    """Makes the directory with what is in the archive; an empty archive leaves it empty. The exit code."""
    import tarfile  # noqa: PLC0415 - dear, and only these flows need it

    os.mkdir(DIRECTORY, 0o700)  # noqa: PTH102 - pathlib is not needed besides
    if not os.fstat(fd).st_size:
        return DONE
    try:
        with os.fdopen(fd, "rb") as file, tarfile.open(fileobj=file, mode="r|") as archive:
            if hasattr(tarfile, "fully_trusted_filter"):  # it is the job's own, within the job's rights
                archive.extraction_filter = staticmethod(tarfile.fully_trusted_filter)
            archive.extractall(".")  # noqa: S202
    except (OSError, tarfile.TarError):
        return FAILED
    return DONE


def pack(fd: int, most_bytes: int) -> int:
    """Writes what the directory holds, at most so many bytes. The exit code."""
    import tarfile  # noqa: PLC0415

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = most_bytes if most == resource.RLIM_INFINITY else min(most_bytes, most)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            if os.path.isdir(DIRECTORY) and not os.path.islink(DIRECTORY):  # noqa: PTH112, PTH114
                archive.add(DIRECTORY)
    except OSError as error:
        return TOO_LARGE if error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT) else FAILED
    except tarfile.TarError:
        return FAILED
    return DONE
