"""What goes wrong with a fetch."""

from __future__ import annotations

from merganser.errors import AuthError, MerganserError


class FetchError(MerganserError):
    """A fetch that failed, and has stored nothing.

    ``part`` is the day (``2024-01-31``), the days (``2024-01-01 to 2024-01-07``) or the page that could not be had, ``reason``
    why the last attempt failed, ``attempts`` how many there were, ``status`` the last HTTP status, if there was one.
    """

    default_code = "FETCH_FAILED"

    def __init__(self, reason: str, *, part: str | None = None, attempts: int | None = None, status: int | None = None) -> None:
        place = f" of {part}" if part else ""
        tries = f" ({attempts} attempts)" if attempts and attempts > 1 else ""
        known = {"part": part, "reason": reason, "attempts": attempts, "status": status}
        details = {key: value for key, value in known.items() if value is not None}
        super().__init__(f"The fetch{place} failed, and nothing is stored: {reason}{tries}.", details=details)
        self.part = part
        self.reason = reason
        self.attempts = attempts
        self.status = status


class FetchAuthError(FetchError, AuthError):
    """Mixpanel does not know the service account, or it may not read the project; or there are no credentials at all."""

    default_code = "FETCH_AUTH_FAILED"
