"""`python -m gradaug_timm.export`."""
from .main import main

if __name__ == '__main__':
    main()
