"""Upload to the Hugging Face Hub; huggingface_hub takes the permission to write from its environment (HF_TOKEN)."""
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi

from ..cli import one_line
from .folder import FILES


def check_free(repo: str) -> None:
    """Check that no file of a repository would be overwritten.

    Raises:
        ValueError: A file would be overwritten, or the Hub can't be reached.
    """
    with _errors_named(repo):
        there = [name for name in FILES if HfApi().file_exists(repo, name)]
    if there:
        raise ValueError(f'--push {repo} already has {", ".join(there)}; use --overwrite to replace')


def push(folder: str, repo: str, *, private: bool) -> str:
    """Upload the files of a folder to a repository, which is created if needed; return its address.

    Raises:
        ValueError: The Hub rejects it, or can't be reached.
    """
    api = HfApi()
    with _errors_named(repo):
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, folder_path=folder, allow_patterns=list(FILES), commit_message='Network and card')
    return str(url)


@contextmanager
def _errors_named(repo: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the Hub's, those of its HTTP client, and the system's
        raise ValueError(f'--push {repo}: {one_line(error, 300, kind=True)}') from error
