import sys

from .main import main

if __name__ == '__main__':
    sys.stdout.reconfigure(errors='backslashreplace')  # where the terminal has no ±
    main()
