"""How pynetdicom is set up, which is done by globals of its modules."""

from __future__ import annotations

import logging

from pynetdicom import _config


def configure() -> None:
    """No data set in a log, none as a whole in memory."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.STORE_SEND_CHUNKED_DATASET = True
    # Below, it prints messages.
    logging.getLogger("pynetdicom").setLevel(logging.WARNING)
