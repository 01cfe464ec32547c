"""What the benchmarks share: running a command, and tables in Markdown."""
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


class Run:
    """What a command took: seconds of wall and of processors, megabytes of memory."""

    def __init__(self, command, **options):
        options.setdefault("stdout", subprocess.DEVNULL)
        begin = time.monotonic()
        process = subprocess.Popen([str(word) for word in command], **options)
        self.output = process.stdout.read().decode() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        self.wall = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{Path(sys.argv[0]).name}: {' '.join(map(str, command))} failed: {process.returncode}")
        self.cpu = usage.ru_utime + usage.ru_stime
        self.memory = usage.ru_maxrss * 1024 / 1e6


def need(*programs):
    """Ends this program where others are missing: what is left out or done otherwise is no measurement."""
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        sys.exit(f"{Path(sys.argv[0]).name}: not installed: {' '.join(missing)}; tools/setup installs what benchmarks need")


def make_pair(inputs):
    """The Debian roots `a` and `b`, in this directory; made the first time."""
    if not (inputs / "b").exists():
        print("making the pair of Debian roots: some minutes", file=sys.stderr)
        log = inputs / "pair.log"
        with open(log, "wb") as out:
            made = subprocess.run([TOP / "tools/bench-pair", inputs], stdout=out, stderr=out, check=False)
        if made.returncode != 0:
            sys.exit(f"{Path(sys.argv[0]).name}: the pair could not be made: see {log}")


def ratio(ours, theirs):
    """The median of the ratios of pairs."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def median(values):
    return statistics.median(values)


def table(*head):
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)


def row(*cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def verdict(value, goal, form="{:.2f}"):
    """The value with its goal, and whether it was met."""
    return f"{form.format(value)} (≤ {goal}, {'met' if value <= goal else 'missed'})"
