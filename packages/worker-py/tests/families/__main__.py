"""`npm run models`: writes docs/models.md. `npm run drawn -- [--jobs N] [MESH ..]`: writes docs/drawn-jobs.md."""

import argparse
import tempfile
from pathlib import Path

from families import drawn_page, page


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["models", "drawn"])
    parser.add_argument("--jobs", type=int, default=30, help="drawn for each architecture, mesh and number type")
    parser.add_argument(
        "meshes", nargs="*", default=list(drawn_page.MESHES), help="of docs/drawn-jobs.md (default: all)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "models":
            page.write(Path(folder))
        else:
            drawn_page.write(Path(folder), arguments.meshes, arguments.jobs)


if __name__ == "__main__":
    main()
