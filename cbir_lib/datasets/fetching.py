"""Downloads of public archives: only on request, verified, and never half a file."""

from __future__ import annotations

import sys
from pathlib import Path

from cbir_lib.addresses import hide_credentials
from cbir_lib.errors import CbirError


def download(url: str, known_hash: str, path: Path) -> Path:
    """Download ``url`` to ``path``, unless a file with this hash is already there.

    Parameters
    ----------
    known_hash
        Algorithm and value: ``md5:0bc7...``.

    Raises
    ------
    CbirError
        When ``url`` is not of the web, the server cannot be reached or sends something else, or the
        file cannot be written.
    """
    import pooch
    import requests

    shown = hide_credentials(url)
    if not url.lower().startswith(("http://", "https://")):
        raise CbirError(f"{shown} is not an address of the web", "name one: --url https://...")
    pooch.get_logger().setLevel("WARNING")  # it would print the address with its credentials
    print(f"downloading {shown} to {path}", file=sys.stderr)
    # An archive that a server calls encoded would be unpacked on the way.
    fetch = pooch.HTTPDownloader(progressbar=True, headers={"Accept-Encoding": "identity"})
    try:
        return Path(pooch.retrieve(url, known_hash, path.name, path.parent, downloader=fetch))
    except (requests.RequestException, ValueError) as error:
        if "does not match the known hash" in str(error):  # pooch, which has removed the file
            raise CbirError(
                f"what {shown} sent is not the published archive: wrong checksum",
                "try again; if that fails, download it elsewhere and name its place: "
                "--data-root PATH",
            ) from error
        raise CbirError(
            f"cannot download {shown}: {type(error).__name__}",
            "check the address, the proxy and the connection, or copy the archive into "
            f"{path.parent}",
        ) from error
    except OSError as error:
        raise CbirError(
            f"cannot write to {path.parent}: {error.strerror}",
            "free some space, or fix its permissions",
        ) from error
