"""Writes RFCs as JSON Lines for `nsa shards`, without page breaks.

    python examples/rfc_texts.py rfc/usr/share/doc/RFC rfc.jsonl --least 60000 --most 50000000

Debian's packages doc-rfc-* have the texts. The order follows from a hash of each name, so that
`--most` takes a sample of all of them.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
from pathlib import Path

PAGE_BREAK = re.compile(r"\n*\n[^\n]*\[Page \d+\]\n*\f?\n*(?:RFC \d+[^\n]*\n)?\n*")
NAME = re.compile(r"(rfc\d+)\.txt(\.gz)?")


def texts(folder: Path, least: int) -> dict[str, str]:
    """The texts of at least so many characters, by name."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("rfc*.txt*")):
        name = NAME.fullmatch(path.name)
        if name is None or name[1] in found or not path.is_file():
            continue
        data = gzip.decompress(path.read_bytes()) if name[2] else path.read_bytes()
        text = PAGE_BREAK.sub("\n\n", data.decode("utf-8", errors="replace")).replace("\f", "")
        if len(text) >= least:
            found[name[1]] = text
    return found


def main() -> None:
    """Write the texts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder that has the RFCs, at any depth")
    parser.add_argument("out", type=Path, help="JSON Lines file to write")
    parser.add_argument("--least", type=int, default=0, help="characters of the shortest text")
    parser.add_argument("--most", type=int, default=None, help="characters of all texts")
    args = parser.parse_args()
    found = texts(args.folder, args.least)
    total = count = 0
    with args.out.open("w", encoding="utf-8") as file:
        for name in sorted(found, key=lambda each: hashlib.sha256(each.encode()).hexdigest()):
            if args.most is not None and total + len(found[name]) > args.most:
                break
            file.write(json.dumps({"name": name, "text": found[name]}) + "\n")
            total, count = total + len(found[name]), count + 1
    print(f"{args.out}: {count:,} of {len(found):,} texts, {total:,} characters")


if __name__ == "__main__":
    main()
