"""List the skipped tests of a JUnit report and fail on any that the allow-list does not explain.

Usage: check_skips.py JUNIT_XML ALLOWED_TXT
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path


def read_allowed(path: Path) -> dict[re.Pattern[str], str]:
    """Read `pattern -- why` lines; blank lines and lines that start with `#` do not count."""
    allowed = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, separator, why = line.partition(" -- ")
        if not separator or not why.strip():
            raise SystemExit(f"{path}:{number}: needs 'pattern -- why', got {line!r}")
        allowed[re.compile(pattern.strip())] = why.strip()
    return allowed


def read_skips(path: Path) -> list[tuple[str, str]]:
    """Return (test, reason) for each skipped or expected-to-fail test of a JUnit report."""
    cases = ElementTree.parse(path).getroot().findall(".//testcase")
    if not cases:
        raise SystemExit(f"{path}: no test ran")
    skips = []
    for case in cases:
        for skipped in case.findall("skipped"):
            kind = "xfail: " if skipped.get("type") == "pytest.xfail" else ""
            name = f"{case.get('classname')}::{case.get('name')}".removeprefix("::")
            skips.append((name, kind + (skipped.get("message") or "no reason given")))
    return skips


def main(junit: str, allowed_file: str) -> int:
    """Print the skips by reason; return 1 if one of them is not explained."""
    allowed = read_allowed(Path(allowed_file))
    skips = read_skips(Path(junit))
    refused = []
    for reason, count in sorted(Counter(reason for _, reason in skips).items()):
        why = next((why for pattern, why in allowed.items() if pattern.search(reason)), None)
        if why is None:
            refused.append(reason)
        print(f"skipped {count:4d}  {reason}  [{why or 'NOT ALLOWED'}]")
    for reason in refused:
        tests = [test for test, its_reason in skips if its_reason == reason]
        print(f"not in {allowed_file}: {reason!r}, for example {tests[0]}")
    print(f"{len(skips)} skipped, {len(refused)} reasons not allowed")
    return 1 if refused else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    raise SystemExit(main(*sys.argv[1:]))
