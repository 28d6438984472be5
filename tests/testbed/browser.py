from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core")
INSTALL_SECONDS = 240


def program() -> str | None:
    """Return a browser on the path."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def installable() -> bool:
    """Tell whether one can be installed here: as root, with Debian's packages."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and Path("/etc/debian_version").is_file()


@cache
def installed() -> str:
    """Return a browser's path, installing it once if need be; raises RuntimeError with what apt-get has said."""
    if found := program():
        return found
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *PACKAGES]):
        try:
            subprocess.run(
                ["apt-get", *command],
                check=True,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise RuntimeError(f"apt-get {command[0]} failed: {said[-300:]}") from error
    found = program()
    if found is None:
        raise RuntimeError(f"apt-get has installed {', '.join(PACKAGES)}, but no browser is on the path")
    return found
