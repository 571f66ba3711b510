"""`python -m gradaug_timm.report`."""
from .main import command

if __name__ == '__main__':
    command()
