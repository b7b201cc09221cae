"""Time and modules of ``import luminoracore_sdk.session`` in a new interpreter: the median of eleven runs."""

import statistics
import subprocess
import sys

SCRIPT = """
import sys, time
start = time.perf_counter()
import luminoracore_sdk.session
print(time.perf_counter() - start, len(sys.modules))
"""


def main() -> None:
    seconds, modules = [], 0
    for _ in range(11):
        run = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)  # noqa: S603 - ours
        took, count = run.stdout.split()
        seconds.append(float(took))
        modules = int(count)
    print(f"import luminoracore_sdk.session: {statistics.median(seconds) * 1e3:.0f} ms, {modules} modules")


if __name__ == "__main__":
    main()
