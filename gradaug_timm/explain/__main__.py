"""`python -m gradaug_timm.explain CHECKPOINT... --images DIR --output grid.png`."""
from .main import main

main()
