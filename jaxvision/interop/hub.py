"""Weights from the Hugging Face hub."""

import pathlib

from jaxvision.core import InputError


def download_weights(
    repository: str, *, filename: str = "model.safetensors", revision: str | None = None
) -> pathlib.Path:
    """A file of weights from the hub, downloaded once and kept in its cache.

    The environment variables of huggingface_hub apply: HF_HOME is where the cache is, HF_ENDPOINT
    another hub, HF_HUB_OFFLINE=1 takes from the cache alone.

    Args:
      repository: its id, "owner/name".
      filename: in the repository.
      revision: branch, tag or commit; None: the main branch.
    Returns:
      The path of the file, for `load_weights` or `read_state_dict`.
    Raises:
      InputError: huggingface_hub is not installed, the hub cannot be reached, or it has no such
        repository, revision or file.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ImportError as error:
        raise InputError("the hub needs huggingface_hub: `pip install 'jaxvision[hub]'`") from error
    try:
        return pathlib.Path(hf_hub_download(repository, filename, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{filename} of {repository} cannot be downloaded: {reason}") from error
