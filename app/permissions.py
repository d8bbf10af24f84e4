"""Who may do what: the scopes that an access class takes, and the lock-down of the registry. Pure.

Access classes are those of `routes.tsv`: a class that nobody knows is open to nobody.
"""

from app.errors import PermissionDenied
from app.policy_settings import PolicySettings
from app.scope import Principal, Route

ADMIN_SCOPES = frozenset({"admin", "mlflow:admin", "registry:admin", "model-registry:admin"})
WRITE_SCOPES = frozenset(
    {"model:write", "mlflow:write", "mlflow:access", "admin", "mlflow:admin", "write", "full_access"}
)

# One of these scopes is needed for an access class. For `read` any valid key will do.
SCOPES_FOR = {"write": WRITE_SCOPES, "admin": ADMIN_SCOPES, "use": ADMIN_SCOPES | {"gateway:use"}}
REGISTRY = "registry."  # how the families of the model registry begin: models, versions, webhooks


def permits(access: str, principal: Principal) -> bool:
    """Whether a principal's scopes suffice for an access class."""
    return access == "read" or not SCOPES_FOR.get(access, frozenset()).isdisjoint(principal.scopes)


class Permissions:
    """The rules for one configuration."""

    def __init__(self, settings: PolicySettings) -> None:
        self._settings = settings

    def allows(self, route: Route, principal: Principal) -> bool:
        """Whether a principal may do what a route does."""
        return permits(route.access, principal) and not self._shut(route, principal)

    def denial(self, route: Route, principal: Principal) -> PermissionDenied | None:
        """The 403 for a principal that may not do what a route does; None for one that may."""
        if not permits(route.access, principal):
            needed = " or ".join(sorted(SCOPES_FOR.get(route.access, ())))
            return PermissionDenied(
                f"403: this key may not do {route.action}: it needs the scope {needed}.",
                kind=f"scope_{route.access}",
                required_scope=needed,
                current_scopes=sorted(principal.scopes),
            )
        if self._shut(route, principal):
            return PermissionDenied(
                f"403: Admin access required for the model registry: this key may not do {route.action}.",
                kind="registry_locked",
                error="REGISTRY_ADMIN_REQUIRED",
                required_scope=" or ".join(sorted(self._settings.admin_scopes)),
                current_scopes=sorted(principal.scopes),
            )
        return None

    def _shut(self, route: Route, principal: Principal) -> bool:
        # The lock-down only ever takes away: an admin's key that was made for reading stays a key for reading.
        if not self._settings.locked or route.access == "read" or not route.family.startswith(REGISTRY):
            return False
        admin = principal.is_admin or principal.email.lower() in self._settings.admin_emails
        return not admin and self._settings.admin_scopes.isdisjoint(principal.scopes | principal.roles)
