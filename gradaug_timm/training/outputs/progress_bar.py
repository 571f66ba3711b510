"""A progress bar on a terminal."""
import logging
import sys
from collections.abc import Iterable, Iterator

try:
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm
except ImportError:
    tqdm = None


class Progress:
    """Iterates over an epoch's batches, with a bar where one can be seen.

    Args:
        shown: Whether this process may show one; it does on a terminal, where tqdm is installed.
    """

    def __init__(self, *, shown: bool):
        self.active = shown and tqdm is not None and sys.stderr.isatty()
        self._bar = None

    def over(self, batches: Iterable, total: int, title: str) -> Iterator:
        """The batches; log lines go above the bar meanwhile."""
        if not self.active:
            yield from batches
            return
        bar = tqdm(total=total, desc=title, leave=False, unit='batch')
        with logging_redirect_tqdm([logging.root]), bar as self._bar:
            for batch in batches:
                yield batch
                bar.update()

    def note(self, text: str) -> None:
        """Shows `text` behind the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)
