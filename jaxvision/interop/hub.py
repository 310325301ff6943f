"""Downloads weights from the Hugging Face hub."""

import pathlib

from jaxvision.core import InputError


def download_weights(
    repository: str, *, filename: str = "model.safetensors", revision: str | None = None
) -> pathlib.Path:
    """Downloads a file of weights from the hub, or finds it in the cache.

    The environment variables of huggingface_hub apply: HF_HOME sets the folder of the cache,
    HF_ENDPOINT sets another hub, and HF_HUB_OFFLINE=1 only uses the cache.

    Args:
      repository: id of the repository, "owner/name".
      filename: name of the file in the repository.
      revision: branch, tag or commit; None: the main branch.
    Returns:
      the path of the file, for `load_weights` or `read_state_dict`.
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
