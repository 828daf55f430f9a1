"""`npm run models`: writes docs/models.md."""

import tempfile
from pathlib import Path

from families.page import write

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
