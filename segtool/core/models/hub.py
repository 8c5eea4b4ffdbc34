"""Bundles on the Hugging Face hub: `hf:user/name` names one wherever a run is asked for."""

from pathlib import Path

from segtool.errors import SegtoolError, UsageError

PREFIX = "hf:"
# The bundle's name in a repository.
FILE = "segtool.zip"


def is_hub(path: Path) -> bool:
    """Return whether a path is the name of a repository, such as `hf:user/name`."""
    return str(path).startswith(PREFIX)


def fetch(path: Path) -> Path:
    """Return the bundle of `hf:user/name` or `hf:user/name@revision`, from the hub's cache where it is there.

    Raises:
        UsageError: this is no name of a repository.
        SegtoolError: the hub cannot be reached and the cache lacks it, or there is no such repository or bundle.
    """
    from huggingface_hub import errors, hf_hub_download

    repo, _, revision = str(path).removeprefix(PREFIX).partition("@")
    try:
        return Path(hf_hub_download(repo, FILE, revision=revision or None))
    except errors.HFValidationError as error:
        raise UsageError(
            f"{path}: not the name of a repository; write hf:user/name or hf:user/name@revision"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise SegtoolError(
            f"{path}: there is no such repository or revision, or it is private and `hf auth login` has not been typed"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise SegtoolError(
            f"{path}: the hub cannot be reached, and its cache does not hold the bundle; on a machine with a network,"
            " `segtool bundle` makes a file that can be copied"
        ) from error
    except errors.EntryNotFoundError as error:
        raise SegtoolError(f"{path} holds no {FILE}: it was not written by `segtool push`") from error
    except errors.HfHubHTTPError as error:
        raise SegtoolError(f"{path}: the hub answers {_line(error)}") from error


def upload(bundle: Path, repo: str, card: str, *, private: bool) -> str:
    """Upload a bundle with its model card, in one commit, and return the repository's address.

    Raises:
        UsageError: `repo` is no name of a repository.
        SegtoolError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, errors

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        files = [CommitOperationAdd(FILE, str(bundle)), CommitOperationAdd("README.md", card.encode())]
        done = api.create_commit(repo, files, commit_message="segtool push")
    except errors.HFValidationError as error:
        raise UsageError(f"{repo!r} is not the name of a repository; write user/name") from error
    except errors.HfHubHTTPError as error:
        raise SegtoolError(f"{repo}: the hub refuses: {_line(error)} (`hf auth login` signs in)") from error
    except Exception as error:
        # The client hands on what its own library for HTTP raises, which changes with its version.
        if not isinstance(error, OSError) and not type(error).__module__.startswith("httpx"):
            raise
        raise SegtoolError(f"{repo}: the hub cannot be reached: {_line(error)}") from error
    return str(done.repo_url)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
