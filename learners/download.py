"""Models of the MACE project: fetched from where mace itself fetches them, and checked before they are loaded.

They are pickles, which run whatever code is in them. The project publishes no hashes; those below are what several
users have published independently of one another. ``mh-1`` is missing: two files of that name are in circulation.
"""

import contextlib
import http.client
import sys
import urllib.error
import warnings
from pathlib import Path

from curator.datasets.atomic import write_atomically
from curator.datasets.digest import sha256_of
from curator.datasets.notice import Notice
from curator.learners.reference import MINI_HALIDES

SHA256: dict[str, str] = {
    "small": "2ddb079cee0e131eaaf6912ba581b394551ead283e95c99cfe78c605d10b5736",
    "medium": "01bfe22100139f424713cf921144e5509cbe353d67aa9fa1be9c6e1e0ed35845",
    "large": "f80e992b65ab8f88fdf26964511357c022e92704e4d9bcd086652635a8495b32",
    "small-0b": "7e3a0abcaf41e03a80e69f778e1b11b29de1cca704783dc25917a736392f8cf0",
    "medium-0b": "ab8baff639a8f295f3eccad3d3ccf574efb6fb63220bd52cd88664211569e521",
    "small-0b2": "d5773bf9440e96d6eb8c598f84bd0e6369fcfa432f626a87f890e07da3c651c9",
    "medium-0b2": "a90be07c8aa6623c390fcc4653d3e319c4a356f8b4a53d323f96b2012d375caf",
    "large-0b2": "348390e758e1c90011c7675e864850f8e9c5b3e7c217f79a2b4bad1baaa657ad",
    "medium-0b3": "2f2be696351ac9e94fbe01cdfb6f017679acdbd2db7645209ef55fec9826b012",
    "medium-mpa-0": "75428afe3a1d7d8062e19bcaabd5c433623cabf308242ec9fb493e38604fb638",
    "small-omat-0": "0abfde07862cf1e93b8b4d03cb702f29ce9c344ff2fc4de2ec0d7166d6c113a5",
    "medium-omat-0": "d4b14be9afa294eebdbe31a0280b26a0fa29715771e978cbfd3ca24e0d90307a",
    "mace-matpes-pbe-0": "e618ad582b84239905b9c3b77ce6e9ce111b0ecd1533223a1a6aac7a696b8aa0",
    "mace-matpes-r2scan-0": "8f147ecffa1d06a696e5648b13b81abda9c96fda9d0fb3faba3cd3fb27d9bba9",
    "mh-0": "d62ff8f293664e6556cfa49364b28ee72a70cf1e6150f3c111a578397fed609d",
}
"""SHA-256 of the files by the names of mace 0.3.16."""


def download(name: str) -> Path:
    """Path of a model of the MACE project, from mace's cache or the network, once its SHA-256 is checked.

    Raises
    ------
    ValueError
        If there is no such model, it cannot be downloaded, or its SHA-256 is not the known one.
    """
    from mace.calculators.foundations_models import download_mace_mp_checkpoint, mace_mp_urls

    if name not in mace_mp_urls:
        raise ValueError(f"no model {name!r} in the MACE project; there are {', '.join(mace_mp_urls)}")
    try:
        # mace prints to standard output, which may belong to a program that reads JSON.
        with contextlib.redirect_stdout(sys.stderr):
            path = Path(download_mace_mp_checkpoint(name))
    except (urllib.error.URLError, http.client.HTTPException, OSError, RuntimeError) as error:
        raise ValueError(
            f"mace:{name} is not in the cache and could not be downloaded ({error}).\n"
            f"Fetch {mace_mp_urls[name]} elsewhere and give its path with --trust, or use {MINI_HALIDES}"
        ) from error
    check_sha256(path, name)
    return path


def check_sha256(path: Path, name: str) -> None:
    """Compare a downloaded file with its known hash; if none is known, with that of the first download.

    Raises
    ------
    ValueError
        If they differ.
    """
    digest = sha256_of(path)
    record = path.with_name(f"{path.name}.sha256")
    known = SHA256.get(name)
    if known is None and record.is_file():
        known = record.read_text(encoding="utf-8").split()[0]
    if known is None:
        with contextlib.suppress(OSError):
            write_atomically(record, f"{digest}  {path.name}\n")
        warnings.warn(
            f"no SHA-256 of mace:{name} is known; that of {path} is {digest} and will be checked from now on",
            Notice,
            stacklevel=2,
        )
    elif digest != known:
        raise ValueError(
            f"{path} is not mace:{name}: its SHA-256 is {digest}, not {known}.\n"
            "Remove it to download it again, or, if you know where it comes from, give its path with --trust"
        )
