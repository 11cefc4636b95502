"""`make bench`: every benchmark in turn, each printing ratios against a plain reference of the same run."""

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    for script in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"\n== {script.stem} ==", flush=True)
        subprocess.run([sys.executable, str(script)], check=True)
