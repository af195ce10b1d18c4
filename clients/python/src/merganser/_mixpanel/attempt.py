"""How an attempt to get a part of a fetch may end, other than well."""

from __future__ import annotations


class BrokenError(Exception):
    """The attempt failed, and another one may not: a limit of the API, an error of its server, a connection that broke.

    ``wait`` is how many seconds the API asks to wait, if it does; ``is_limit`` that it asks this of all requests.
    """

    def __init__(self, reason: str, *, status: int | None = None, wait: float | None = None, is_limit: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.wait = wait
        self.is_limit = is_limit


class RefusedError(Exception):
    """The API will not answer, however often it is asked. ``is_auth``: because of who asks."""

    def __init__(self, reason: str, *, status: int | None = None, is_auth: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.is_auth = is_auth
