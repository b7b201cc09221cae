"""Time of ``import luminoracore_sdk.session`` in a new interpreter: the median of eleven."""

import statistics
import subprocess
import sys

SCRIPT = """
import time
start = time.perf_counter()
import luminoracore_sdk.session
print(time.perf_counter() - start)
"""


def main() -> None:
    runs = [
        float(subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True).stdout)  # noqa: S603 - ours
        for _ in range(11)
    ]
    print(f"import luminoracore_sdk.session: {statistics.median(runs) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
