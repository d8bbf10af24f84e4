"""What scanners ask for that is served nowhere here: told by its path alone, before anything else is looked at. Pure.

The lists are those of the proxy before this one, made from what was seen in production.
"""

from collections.abc import Iterable

EXACT = (
    "/.env",
    "/api/jsonws",
    "/boaform/admin/formlogin",
    "/login.action",
    "/manager/html",
    "/server-status",
    "/ui/login",
)
FOLDERS = (
    "/.git/",
    "/.aws/",
    "/actuator/",
    "/api/jsonws/",
    "/autodiscover/",
    "/cgi-bin/",
    "/console/",
    "/geoserver/",
    "/hudson/",
    "/jenkins/",
    "/mgmt/",
    "/nifi/",
    "/owa/",
    "/phpmyadmin/",
    "/solr/",
    "/wp-admin/",
)

# Ours, whatever an operator's patterns say.
OWN = (
    "/api/mlflow",
    "/mlflow",
    "/api/2.0",
    "/api/3.0",
    "/ajax-api",
    "/v1/traces",
    "/version",
    "/graphql",
    "/get-artifact",
    "/model-versions",
    "/static-files",
    "/health",
    "/live",
    "/ready",
)
OWN_FOLDERS = tuple(f"{path}/" for path in OWN)


class Scanners:
    """Knows noise by its path. `extra` patterns are exact paths, or all that is below one when it ends in a slash.

    With None there is no noise.
    """

    def __init__(self, extra: Iterable[str] | None = ()) -> None:
        patterns = [] if extra is None else [*EXACT, *FOLDERS, *(pattern.lower() for pattern in extra)]
        self._exact = frozenset(pattern for pattern in patterns if not pattern.endswith("/"))
        self._folders = tuple(pattern for pattern in patterns if pattern.endswith("/"))

    def is_noise(self, target: str) -> bool:
        """Whether a request target, as it was sent, is noise. Letter case makes no difference."""
        if target.startswith(OWN_FOLDERS):  # nearly every request: it should not pay for the others
            return False
        path = target.partition("?")[0].lower()
        if path in OWN or path.startswith(OWN_FOLDERS):
            return False
        return path in self._exact or path.startswith(self._folders)
