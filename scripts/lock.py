"""Write the two lock files: exact versions with hashes, for every platform and Python that we support."""

import subprocess
import sys

COMPILE = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
COMPILE += ["--generate-hashes", "--no-header", "pyproject.toml"]

subprocess.run([*COMPILE, "-o", "requirements.lock"], check=True)
subprocess.run([*COMPILE, "--group", "dev", "-o", "requirements-dev.lock"], check=True)
