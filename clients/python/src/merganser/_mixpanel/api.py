"""Requests to Mixpanel, each tried again until its answer is whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, TypeVar, cast

import httpx

from merganser._mixpanel.attempt import BrokenError, RefusedError
from merganser._mixpanel.body import pieces_of
from merganser._mixpanel.credentials import Account
from merganser._mixpanel.errors import FetchAuthError, FetchError
from merganser._mixpanel.limits import FetchLimits
from merganser._mixpanel.tally import Tally

_T = TypeVar("_T")
_log = logging.getLogger("merganser.fetch")

_TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_ERROR_BYTES_MAX = 4096
_SHOWN_MAX = 200


class Api:
    """An account's way to Mixpanel. What it is asked for at a time is the caller's to bound."""

    def __init__(self, account: Account, limits: FetchLimits, tally: Tally) -> None:
        self.account = account
        self.limits = limits
        self.tally = tally
        self._gate = _Gate(limits.per_second)
        self._client = httpx.AsyncClient(
            auth=httpx.BasicAuth(account.username, account.secret),
            headers={"Accept-Encoding": "gzip", "User-Agent": "merganser-python"},
            timeout=limits.stall,
            limits=httpx.Limits(max_connections=limits.concurrency),
        )

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(self, part: str, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """What ``attempt`` returns at last; it is called again while it fails in a way that may pass."""
        attempts = self.limits.attempts
        for number in range(1, attempts + 1):
            await self._gate.enter()
            try:
                return await attempt()
            except RefusedError as error:
                kind = FetchAuthError if error.is_auth else FetchError
                raise kind(self._shown(error.reason), part=part, status=error.status) from None
            except OSError as error:
                raise FetchError(f"cannot keep it on the disk: {error.strerror or error}", part=part) from error
            except BrokenError as error:
                reason = self._shown(error.reason)
                wait = self._wait(error, number)
                is_last = number == attempts
                if wait > self.limits.wait:
                    reason += f"; to wait {wait:,.0f} s is asked for, and the limit `wait` is {self.limits.wait:,.0f} s"
                if is_last or wait > self.limits.wait:
                    raise FetchError(reason, part=part, attempts=number, status=error.status) from None
                _log.warning("%s: %s; attempt %d of %d in %.1f s", part, reason, number + 1, attempts, wait)
                self.tally.retry(part, reason, wait)
                if error.is_limit:
                    self._gate.close_for(wait)
                else:
                    await asyncio.sleep(wait)
        raise AssertionError("there is at least one attempt, and the last one returns or raises")

    @contextlib.asynccontextmanager
    async def answer(self, method: str, url: str, **parts: Any) -> AsyncGenerator[httpx.Response, None]:
        """The answer to a request, if it is a good one; its body is read inside of the block."""
        try:
            async with self._client.stream(method, url, **parts) as response:
                if response.status_code != HTTPStatus.OK:
                    raise await _bad_status(response)
                yield response
        except httpx.ConnectTimeout:
            raise BrokenError(f"cannot connect within {self.limits.stall:g} s") from None
        except httpx.TimeoutException:
            raise BrokenError(f"nothing has come for {self.limits.stall:g} s") from None
        except httpx.ConnectError as error:
            raise BrokenError(f"cannot connect: {_cause(error)}") from None
        except httpx.TransportError as error:
            raise BrokenError(f"the connection broke: {_cause(error)}") from None

    def _wait(self, error: BrokenError, number: int) -> float:
        if error.wait is not None:
            return error.wait
        # Parts that have failed together do not come back together.
        backoff = self.limits.backoff * 2.0 ** (number - 1)
        return min(backoff, self.limits.wait) * random.uniform(0.8, 1.0)  # noqa: S311 - nothing secret

    def _shown(self, reason: str) -> str:
        return self.account.scrub(reason)


class _Gate:
    """Lets requests begin one after the other: so many in a second, and none while the API wants none."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._opens = 0.0

    async def enter(self) -> None:
        now = asyncio.get_running_loop().time
        while (wait := self._opens - now()) > 0:
            await asyncio.sleep(wait)
        self._opens = now() + self._interval

    def close_for(self, seconds: float) -> None:
        self._opens = max(self._opens, asyncio.get_running_loop().time() + seconds)


def _cause(error: BaseException | None) -> str:
    """The first text in a chain of errors, most of which only pass on what they were raised for."""
    while error is not None and not str(error):
        error = error.__cause__ or error.__context__
    return str(error) if error is not None else "no reason is known"


def shown(text: bytes) -> str:
    """What somebody answered in the place of data, in one short line: the message, if it is a JSON object with one."""
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(error := cast("dict[str, Any]", found).get("error"), str):
            text = error.encode()
    line = " ".join(text.decode(errors="replace").split())
    return line if len(line) <= _SHOWN_MAX else line[:_SHOWN_MAX] + "..."


async def _bad_status(response: httpx.Response) -> BrokenError | RefusedError:
    status = response.status_code
    text = b""
    with contextlib.suppress(BrokenError, httpx.TransportError):
        async with contextlib.aclosing(pieces_of(response)) as pieces:
            async for piece in pieces:
                text += piece
                if len(text) > _ERROR_BYTES_MAX:
                    break
    said = shown(text[:_ERROR_BYTES_MAX])
    reason = f"Mixpanel answered {status} {response.reason_phrase}".rstrip() + (f": {said}" if said else "")
    if status in _TRY_AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        is_limit = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
        return BrokenError(reason, status=status, wait=_retry_after(response), is_limit=is_limit)
    return RefusedError(reason, status=status, is_auth=status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN))


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that a Retry-After asks to wait: it has them, or a time."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        time = parsedate_to_datetime(text)
    except ValueError:
        return None
    time = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    return max(0.0, (time - datetime.now(timezone.utc)).total_seconds())
