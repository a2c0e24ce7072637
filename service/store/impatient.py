"""A Postgres connection that gives up on a server which is there but silent: frozen, paused, or behind a dead network.

Such a server keeps its sockets open, and libpq would wait for ever.
"""

import select
import time

from psycopg import Connection, OperationalError
from psycopg.pq import TransactionStatus

GRACE = 1.0
"""Seconds after ``patience`` in which a server that lives may cancel the statement by itself."""

MOMENT = 5.0
"""Seconds after an answer for which a server that has said nothing more counts as alive."""


class ImpatientConnection(Connection):
    """Raises ``OperationalError``, closed for good, where a statement is not answered in time."""

    patience = 10.0
    """Seconds that one statement may take."""
    answered = 0.0
    """Moment of the last answer."""

    @classmethod
    def within(cls, patience: float, *args, **options) -> "ImpatientConnection":
        """``Connection.connect`` with that patience, kept by the server too (``statement_timeout``)."""
        connection = cls.connect(*args, **options)
        connection.patience = patience
        return connection

    def wait(self, gen, *args, timeout: float | None = None, **options):
        limit = self.patience + GRACE if timeout is None else timeout
        try:
            answer = super().wait(gen, *args, timeout=limit, **options)
        except OperationalError as error:
            silent = timeout is None and error.sqlstate is None
            if not silent or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.close()  # its answer may come yet, and must not be taken for that of the next statement
            raise OperationalError(f"the server has not answered for {limit:g} s") from None
        self.answered = time.monotonic()
        return answer

    def alive(self) -> bool:
        """Surely, without a question: it answered a moment ago, and has not ended the session since, which it says."""
        if self.closed or time.monotonic() - self.answered > MOMENT:
            return False
        socket = select.poll()
        socket.register(self.fileno(), select.POLLIN)
        return not socket.poll(0)
