"""The Hugging Face Hub. Who is allowed to write is between huggingface_hub and its environment (HF_TOKEN)."""
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi

from ..cli import one_line
from .folder import FILES


def check_free(repo: str) -> None:
    """Checks that nothing there would be overwritten.

    Raises:
        ValueError: Something would, or the Hub can't be asked.
    """
    with _told(repo):
        there = [name for name in FILES if HfApi().file_exists(repo, name)]
    if there:
        raise ValueError(f'--push {repo} has {", ".join(there)} already, replace by --overwrite')


def push(folder: str, repo: str, *, private: bool) -> str:
    """Uploads the files of a folder to a repository, which is made if need be; returns its address.

    Raises:
        ValueError: The Hub refuses, or can't be reached.
    """
    api = HfApi()
    with _told(repo):
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, folder_path=folder, allow_patterns=list(FILES), commit_message='Network and card')
    return str(url)


@contextmanager
def _told(repo: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the Hub's, those of its HTTP client, and the system's
        raise ValueError(f'--push {repo}: {one_line(error, 300, kind=True)}') from error
