"""A disk without space, as the operating system says it."""

import errno


def is_full(error: BaseException) -> bool:
    """Whether this is what went wrong."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
