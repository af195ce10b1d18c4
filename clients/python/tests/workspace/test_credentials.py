"""Who fetches, and from where."""

import pickle

import pytest

from merganser import InvalidDataError
from merganser._mixpanel.credentials import Credentials
from merganser._mixpanel.errors import FetchAuthError, FetchError
from merganser._mixpanel.limits import FetchLimits

ENVIRONMENT = {"MP_USERNAME": "env-user", "MP_SECRET": "env-secret", "MP_PROJECT_ID": "42", "MP_REGION": "eu"}


def test_the_environment_gives_what_is_left_open():
    account = Credentials().resolve(ENVIRONMENT)
    assert (account.username, account.secret, account.project_id) == ("env-user", "env-secret", "42")
    assert account.hosts.export == "https://data-eu.mixpanel.com/api/2.0/export"
    assert account.hosts.engage == "https://eu.mixpanel.com/api/query/engage"
    account = Credentials(username="u", project_id=7, region="IN").resolve(ENVIRONMENT)
    assert (account.username, account.secret, account.project_id) == ("u", "env-secret", "7")
    assert account.hosts.export == "https://data-in.mixpanel.com/api/2.0/export"
    account = Credentials("u", "s", 1).resolve({})
    assert account.hosts.export == "https://data.mixpanel.com/api/2.0/export"
    assert account.hosts.engage == "https://mixpanel.com/api/query/engage"


def test_all_that_is_missing_is_named():
    with pytest.raises(FetchAuthError, match="no secret and no project_id: set MP_SECRET, MP_PROJECT_ID, or give Credentials"):
        Credentials("u").resolve({})
    with pytest.raises(InvalidDataError, match="region must be one of us, eu, in, not 'mars'"):
        Credentials("u", "s", 1, "mars").resolve({})


def test_nothing_shows_the_secret():
    credentials = Credentials("the-user", "the-secret", 42)
    for shown in (repr(credentials), str(credentials), repr(credentials.resolve({}))):
        assert "the-user" not in shown
        assert "the-secret" not in shown
        assert "42" in shown
    assert credentials.resolve({}).scrub("401 for the-user:the-secret") == "401 for ***:***"


def test_errors_keep_their_fields():
    error = FetchError("nobody is there", part="2024-01-01", attempts=3, status=503)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "The fetch of 2024-01-01 failed, and nothing is stored: nobody is there (3 attempts)."
    assert (again.part, again.reason, again.attempts, again.status) == ("2024-01-01", "nobody is there", 3, 503)
    assert again.details == {"part": "2024-01-01", "reason": "nobody is there", "attempts": 3, "status": 503}
    assert again.code == "FETCH_FAILED"


def test_limits_are_above_nothing():
    with pytest.raises(ValueError, match="FetchLimits: attempts must be more than 0, not 0"):
        FetchLimits(attempts=0)
