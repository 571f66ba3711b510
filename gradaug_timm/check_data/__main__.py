"""Runs `python -m gradaug_timm.check_data`."""
from .main import main

if __name__ == '__main__':
    main()
