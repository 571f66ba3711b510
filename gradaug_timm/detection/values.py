"""Numbers and ids as annotation files of many tools write them."""
import math
import re
from typing import Any

LARGEST = 2 ** 31  # of ids that are used as they are
WHOLE = re.compile(r'\s*([+-]?\d+)(\.0*)?\s*', re.ASCII)  # not 1_11 and 1e5, which Python takes for numbers


def whole(value: Any) -> int | None:
    """Return a whole number that may be written as a float or as text; None if it is none."""
    if isinstance(value, str):
        match = WHOLE.fullmatch(value)
        return int(match[1]) if match else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def finite(value: Any) -> float | None:
    """Return a finite number that may be written as text; None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def is_set(value: Any) -> bool:
    """Return whether a mark such as `iscrowd` is set, written as a number, as true and false, or as text."""
    if isinstance(value, str):
        return value.strip().lower() not in ('', '0', '0.0', 'false', 'no', 'none', 'null')
    return bool(value)


def key_of(value: Any) -> int | str | None:
    """Return the form in which ids are compared: a whole number if it is one, else text; None if there is none."""
    if type(value) is int:
        return value
    number = whole(value)
    if number is not None:
        return number
    return None if value is None or value == '' else str(value)
