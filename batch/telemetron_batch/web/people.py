"""The people who use the page, and what their roles allow."""

from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """What a user may do; each role may also do what those before it may."""

    VIEWER = "viewer"
    """Look at the own runs, which were made before the role was lowered."""
    OPERATOR = "operator"
    """Upload lists and send them; sees the own runs only."""
    APPROVER = "approver"
    """Approve the plans of others; sees every run."""

    def includes(self, other: "Role") -> bool:
        """Return whether this role may do what the other may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class User:
    """Who makes a request. Names are in lower case, so that nobody is two users."""

    name: str
    role: Role
    peer: str = field(default="", compare=False)
    """The address that the request came from."""
    is_only_user: bool = False
    """Whether the token of the server let this user in, so that there is no other."""

    def may_see(self, owner: str | None) -> bool:
        """Return whether the user may see a run of this owner; None: a run that no user of the page made."""
        return self.is_only_user or self.role is Role.APPROVER or owner == self.name
