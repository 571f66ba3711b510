"""The device that a command computes on."""
import torch


def pick_device(name: str | None = None) -> torch.device:
    """Return the device that `--device` names; without a name the accelerator, or the CPU where there is none.

    Raises:
        ValueError: The device does not exist; the message names the one that was found.
    """
    found = _found()
    if name is None:
        return found
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (AssertionError, RuntimeError):  # torch raises AssertionError for a backend it was built without
        raise ValueError(f'--device {name} does not exist; found {found}') from None


def _found() -> torch.device:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device('cpu')
