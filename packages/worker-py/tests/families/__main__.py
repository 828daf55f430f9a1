"""`npm run models -- [--mesh M]*`: writes docs/models.md.
`npm run drawn -- [--jobs N] [--mesh M]* [--architecture A]*`: writes docs/drawn-jobs.md.
"""

import argparse
import tempfile
from pathlib import Path

from families import drawn_page, page
from support.checkpoints import FAMILIES


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["models", "drawn"])
    parser.add_argument("--jobs", type=int, default=30, help="drawn for each architecture, mesh and number type")
    parser.add_argument("--mesh", action="append", choices=list(drawn_page.MESHES), help="default: all")
    parser.add_argument("--architecture", action="append", choices=list(FAMILIES), help="default: all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "models":
            page.write(Path(folder), [mesh for mesh in arguments.mesh or page.MESHES if mesh in page.MESHES])
        else:
            meshes, families = arguments.mesh or drawn_page.MESHES, arguments.architecture or FAMILIES
            drawn_page.write(Path(folder), meshes, families, arguments.jobs)


if __name__ == "__main__":
    main()
