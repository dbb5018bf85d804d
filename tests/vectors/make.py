"""Write the test vectors anew: `python -m tests.vectors.make [folder]`.

Keys come from fixed seeds; what is sealed is random each time, so the files are stored and need not be
reproducible. Every vector names its expected outcome. Run it only when the format changes: published
vectors are a promise that what was sealed once opens later.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.vectors.envelopes import damaged, opening, refused
from tests.vectors.kinds import receipts_with_p256, sealed_with_p256, signed_with_p256
from tests.vectors.statements import receipts, sealed_chunks

HERE = Path(__file__).parent


def write(folder: Path) -> None:
    """Write every vector below `folder`, one file each."""
    families = {
        "envelope": (opening, damaged, refused, signed_with_p256, sealed_with_p256),
        "receipts": (receipts, receipts_with_p256),
        "chunks": (sealed_chunks,),
    }
    for family, sources in families.items():
        (folder / family).mkdir(parents=True, exist_ok=True)
        for name, vector in (pair for source in sources for pair in source()):
            text = json.dumps(vector, indent=1) + "\n"
            (folder / family / f"{name}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
