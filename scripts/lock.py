"""Write the lock files: exact versions with hashes, for every platform and Python that we support.

npm's name no registry, so that a mirror serves as well.
"""

import subprocess
import sys
from pathlib import Path

COMPILE = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
COMPILE += ["--generate-hashes", "--no-header"]
NPM = [str(Path(sys.executable).with_name("npm")), "install", "--package-lock-only", "--ignore-scripts"]
NPM += ["--omit-lockfile-registry-resolved", "--no-audit", "--no-fund", "--silent"]

subprocess.run([*COMPILE, "pyproject.toml", "-o", "requirements.lock"], check=True)
subprocess.run([*COMPILE, "--group", "build", "-o", "requirements-build.lock"], check=True)
subprocess.run([*COMPILE, "pyproject.toml", "--group", "dev", "-o", "requirements-dev.lock"], check=True)
subprocess.run([*COMPILE, "tests/agents/aider.txt", "-o", "tests/agents/aider.lock"], check=True)
for peer in ("litellm", "sglang"):
    subprocess.run([*COMPILE, f"tests/bench/peers/{peer}.txt", "-o", f"tests/bench/peers/{peer}.lock"], check=True)
for folder in ("tests/sdks", "tests/agents", "tests/bench/peers/portkey"):
    subprocess.run(NPM, cwd=folder, check=True)
