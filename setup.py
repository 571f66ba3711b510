"""What setup.cfg can't say: the settings of hparams/ are installed inside the package; an index shows README.md."""
import re
from pathlib import Path

from setuptools import find_packages, setup

SETTINGS = 'gradaug_timm.hparams'
NOTE = ('The pages named here, such as `docs/training.md`, are files of the source tree, and of the source '
        'distribution.')


def description() -> str:
    """Return README.md without links to files and pictures, which only work in the source tree."""
    text = (Path(__file__).parent / 'README.md').read_text(encoding='utf-8')
    text = re.sub(r'^!\[[^]]*]\((?!https?:)[^)]*\)\n\n', '', text, flags=re.MULTILINE)
    text = re.sub(r'\[([^]]+)]\((?!https?:)([^)#]+)(?:#[^)]*)?\)', lambda link: _named(*link.groups()), text)
    return f'{text}\n{NOTE}\n'


def _named(text: str, path: str) -> str:
    return text if text == path else f'{text} (`{path}`)'


setup(
    long_description=description(),
    long_description_content_type='text/markdown',
    packages=[*find_packages(include=['gradaug_timm', 'gradaug_timm.*']), SETTINGS],
    package_dir={SETTINGS: 'hparams'},
    package_data={SETTINGS: ['**/*.yaml']},
)
