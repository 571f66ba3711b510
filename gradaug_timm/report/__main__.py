"""`python -m gradaug_timm.report`."""
import sys

from .main import main

if __name__ == '__main__':
    sys.stdout.reconfigure(errors='backslashreplace')  # type: ignore[union-attr]  # ± where it can't be shown
    main()
