"""Who asks Mixpanel for data, and where: a service account, its project and the region that holds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from merganser._mixpanel.errors import FetchAuthError
from merganser.errors import InvalidDataError


@dataclass(frozen=True)
class Hosts:
    """Where a region answers the two APIs."""

    export: str
    engage: str


REGIONS: dict[str, Hosts] = {
    "us": Hosts("https://data.mixpanel.com/api/2.0/export", "https://mixpanel.com/api/query/engage"),
    "eu": Hosts("https://data-eu.mixpanel.com/api/2.0/export", "https://eu.mixpanel.com/api/query/engage"),
    "in": Hosts("https://data-in.mixpanel.com/api/2.0/export", "https://in.mixpanel.com/api/query/engage"),
}


@dataclass(frozen=True)
class Account:
    """Credentials with nothing left open."""

    username: str = field(repr=False)
    secret: str = field(repr=False)
    project_id: str
    hosts: Hosts

    def scrub(self, text: str) -> str:
        """``text`` without the secret and the user's name, should somebody have repeated them."""
        for word in (self.secret, self.username):
            text = text.replace(word, "***")
        return text


@dataclass(frozen=True)
class Credentials:
    """A service account of Mixpanel, and what it is to read.

    What is not given is taken from the environment when a fetch begins: ``MP_USERNAME``, ``MP_SECRET``, ``MP_PROJECT_ID`` and
    ``MP_REGION`` (``us``, ``eu`` or ``in``; ``us`` if nothing says otherwise). Neither ``repr`` nor an error shows the user's
    name and the secret.
    """

    username: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    project_id: str | int | None = None
    region: str | None = None

    def resolve(self, environment: Mapping[str, str] = os.environ) -> Account:
        """The account that these credentials and ``environment`` are; an error names all that is missing."""
        found = {
            name: str(given or environment.get(f"MP_{name.upper()}", "")).strip()
            for name, given in (("username", self.username), ("secret", self.secret), ("project_id", self.project_id))
        }
        missing = [name for name, value in found.items() if not value]
        if missing:
            variables = ", ".join(f"MP_{name.upper()}" for name in missing)
            raise FetchAuthError(f"no {' and no '.join(missing)}: set {variables}, or give Credentials to the workspace")
        region = (self.region or environment.get("MP_REGION") or "us").strip().lower()
        if region not in REGIONS:
            raise InvalidDataError(f"region must be one of {', '.join(REGIONS)}, not {region!r}", field="region")
        return Account(found["username"], found["secret"], found["project_id"], REGIONS[region])
