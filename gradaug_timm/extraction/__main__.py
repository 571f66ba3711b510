"""`python -m gradaug_timm.extraction CHECKPOINT --width 0.8 --output small.safetensors`."""
from .main import main

if __name__ == '__main__':
    main()
