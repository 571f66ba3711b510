"""`python -m gradaug_timm.extract CHECKPOINT --width 0.8 --output small.safetensors`: a sub-network as a file.

The package has a function of this module's name. Imported, the module gives way to it, so that it never hides it.
"""
import sys

if __name__ == '__main__':
    from .extraction.main import main
    main()
else:
    from .elastic import extract
    extract.__spec__ = __spec__  # type: ignore[attr-defined]  # by which runpy finds the module again
    sys.modules[__name__] = extract  # type: ignore[assignment]
