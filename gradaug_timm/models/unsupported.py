"""What of timm has no `gradaug_<name>`, and why."""
from fnmatch import fnmatchcase

# Pattern of architectures -> reason, which ends the sentence '<name> can't be elastic: '.
UNSUPPORTED: dict[str, str] = {}


def unsupported_reason(name: str) -> str | None:
    """Why the architecture `name` of timm has no `gradaug_<name>`; None if it has one."""
    return next((reason for pattern, reason in UNSUPPORTED.items() if fnmatchcase(name, pattern)), None)
