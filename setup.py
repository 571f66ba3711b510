"""What setup.cfg can't say: the settings of hparams/ are installed inside the package."""
from setuptools import find_packages, setup

SETTINGS = 'gradaug_timm.hparams'

setup(
    packages=[*find_packages(include=['gradaug_timm', 'gradaug_timm.*']), SETTINGS],
    package_dir={SETTINGS: 'hparams'},
    package_data={SETTINGS: ['**/*.yaml']},
)
