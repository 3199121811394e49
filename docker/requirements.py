"""What the images install: the project's dependencies and those of the extras named, a line each.

    python3 docker/requirements.py torch

Read from the pyproject.toml of the current folder, so that they are declared once. The project itself is not installed:
an image holds the code of its own step alone.
"""

import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in [
    *project["dependencies"],
    *(line for extra in sys.argv[1:] for line in project["optional-dependencies"][extra]),
]:
    print(requirement)
