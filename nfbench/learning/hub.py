"""Where published weights are found: in the caches of huggingface_hub and torch, else at the hub, asked once."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from nfbench.errors import BadWeights, reason

PATIENCE_S = 5.0


def fetch(name: str, config: Mapping[str, Any]) -> Path:
    """The file of the weights ``name``, whose place timm's ``config`` tells: from a cache, else from the hub.

    Raises:
        BadWeights: it is in no cache, and the hub does not answer within 5 s or does not have it.
    """
    repo, _, revision = (config.get("hf_hub_id") or "").partition("@")
    own = config.get("hf_hub_filename")
    files = [own] if own else ["model.safetensors", "pytorch_model.bin"]
    url = config.get("url") or ""
    checkpoints = Path(torch.hub.get_dir(), "checkpoints")
    in_hub = [try_to_load_from_cache(repo, file, revision=revision or None) for file in files] if repo else []
    for place in (config.get("file"), *in_hub, checkpoints / url.rpartition("/")[2] if url else None):
        if isinstance(place, (str, Path)) and Path(place).is_file():
            return Path(place)
    looked = [f"{url.rpartition('/')[2]} in {with_tilde(checkpoints)}"] if url else []
    if not repo:
        raise _absent(name, looked, "nfbench fetches none but the hub's.", f"curl -LO {url}")
    trouble = "HF_HUB_OFFLINE is set."
    if not constants.HF_HUB_OFFLINE:
        silence = _silence(constants.ENDPOINT)
        trouble = f"{constants.ENDPOINT} does not answer: {silence}."
        for file in files if silence is None else ():
            try:
                return Path(hf_hub_download(repo, file, revision=revision or None))
            except Exception as error:
                trouble = f"{constants.ENDPOINT} answers, but: {reason(error)}"
                # the second stands for a connection lost, on which the next file would wait as long again
                if not isinstance(error, EntryNotFoundError) or isinstance(error, LocalEntryNotFoundError):
                    break
    looked.insert(0, f"{files[0]} of {repo} in {with_tilde(Path(constants.HF_HUB_CACHE))}")
    raise _absent(name, looked, trouble, f"hf download {repo} {files[0]} --local-dir .")


def _absent(name: str, looked: Sequence[str], trouble: str, bring: str) -> BadWeights:
    return BadWeights(
        f"The published weights {name} are not on this machine.",
        why=f"Looked for {', and for '.join(looked)}. {trouble}",
        try_=f"`{bring}` on a machine with a network, then --weights FILE",
    )


def _silence(url: str) -> str | None:
    """Why nobody but a failing server or proxy is there, else None; in a thread, since DNS knows no time limit."""
    heard: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE_S):
                heard.append(None)
        except urllib.error.HTTPError as error:
            heard.append(f"status {error.code}" if error.code in (403, 407) or error.code >= 500 else None)
            error.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            heard.append(str(getattr(error, "reason", error)))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    return heard[0] if heard else f"nothing came in {PATIENCE_S:.0f} s"


def with_tilde(path: Path) -> str:
    """A path with ``~`` for the home folder."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
