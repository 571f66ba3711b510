"""`python -m gradaug_timm.recipe`."""
from .main import main

if __name__ == '__main__':
    main()
