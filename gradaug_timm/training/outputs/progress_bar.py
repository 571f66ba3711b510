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
    """An iteration over the batches of an epoch, with a progress bar on terminals.

    Args:
        shown: Whether this process may show a bar; a bar also needs a terminal and tqdm.
    """

    def __init__(self, *, shown: bool):
        self.active = shown and tqdm is not None and sys.stderr.isatty()
        self._bar = None

    def over(self, batches: Iterable, total: int, title: str) -> Iterator:
        """Yield the batches; meanwhile, log lines are written above the bar."""
        if not self.active:
            yield from batches
            return
        bar = tqdm(total=total, desc=title, leave=False, unit='batch')
        with logging_redirect_tqdm([logging.root]), bar as self._bar:
            for batch in batches:
                yield batch
                bar.update()

    def note(self, text: str) -> None:
        """Show `text` after the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)
