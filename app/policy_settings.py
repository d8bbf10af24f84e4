"""What the operator may switch about who may do what: the mode of the policy, and the lock-down of the registry."""

from dataclasses import dataclass

from app.variables import Reader

# As in the deployments before this one: the first of these that is set counts, the others are not looked at.
ADMIN_EMAILS = (
    "REGISTRY_ADMIN_USER_EMAILS",
    "REGISTRY_ADMIN_USER_EMAIL",
    "ADMIN_BLOG_USER_EMAILS",
    "ADMIN_BLOG_USER_EMAIL",
)
ADMIN_SCOPES = "admin,mlflow:admin,registry:admin,model-registry:admin"


@dataclass(frozen=True)
class PolicySettings:
    """`report` logs a missing scope instead of refusing; `locked` keeps registry writes for the registry's admins.

    `admin_emails` are in lower case; `admin_scopes` are matched against scopes and roles alike.
    """

    report: bool = False
    locked: bool = False
    admin_emails: frozenset[str] = frozenset()
    admin_scopes: frozenset[str] = frozenset(ADMIN_SCOPES.split(","))


def read_policy(reader: Reader) -> PolicySettings:
    """Take the policy's variables."""
    emails = [reader.text(name, "") for name in ADMIN_EMAILS]
    return PolicySettings(
        report=reader.choice("POLICY_MODE", "enforce", ("enforce", "report")) == "report",
        locked=reader.flag("REGISTRY_LOCKDOWN", False),
        admin_emails=_listed(next(filter(None, emails), "").lower()),
        admin_scopes=_listed(reader.text("REGISTRY_ADMIN_SCOPES", ADMIN_SCOPES)),
    )


def _listed(text: str) -> frozenset[str]:
    return frozenset(item.strip() for item in text.split(",") if item.strip())
