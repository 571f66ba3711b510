"""`python -m gradaug_timm.predict --checkpoint RUN --data-dir DIR`."""
from .main import main

if __name__ == '__main__':
    main()
