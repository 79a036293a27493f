"""One line of ours where the driver would log a traceback for every failure of its background work in an outage.

Only errors of the driver's own kind are shortened: that a server is away is no news to anybody who reads `flush
failed`. Anything else that it logs is a bug, ours or its own, and keeps its traceback.
"""

import logging

from pymongo.errors import PyMongoError

_DRIVER = logging.getLogger("pymongo.client")


def shorten_outages(record: logging.LogRecord) -> bool:
    """A filter that lets everything pass, outages without their traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, PyMongoError):
        record.msg, record.args = "the MongoDB driver met an outage", ()
        record.__dict__["fields"] = {"reason": type(error).__name__}
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def quieten_driver() -> None:
    """May be called any number of times."""
    _DRIVER.addFilter(shorten_outages)
