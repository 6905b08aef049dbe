"""A process of its own that opens files under an audit hook, and reports what it saw; run as a script.

Arguments: a folder of files to open, and a harmless checkpoint that is opened first, so that whatever
Python itself imports on the way is imported before the hook looks. With a third argument the files are
unpickled instead, which proves that the hook sees what it must.
"""

import codecs
import json
import pickle
import re
import sys
import time
from pathlib import Path

from cxrzoo.checkpoint import find_state_dict, open_checkpoint

seen: list[str] = []
watching = False


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Note every audited event but the opening of a file of ours for reading."""
    reading = event == "open" and str(arguments[0]) in allowed and arguments[1] in ("r", "rb")
    if watching and not reading and event != "builtins.id":
        seen.append(f"{event} {str(arguments)[:100]}")


def outcome(path: Path) -> str:
    """Return the class and the text of the error that a file meets."""
    try:
        if len(sys.argv) > 3:
            with path.open("rb") as file:
                pickle.load(file)
        else:
            with open_checkpoint(path) as checkpoint:
                for tensor in find_state_dict(checkpoint.root, ["state_dict"]).values():
                    tensor.read()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


def peak() -> int:
    """Return the most memory this program ever held, in KiB; getrusage would count its parent's too."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


files = sorted(Path(sys.argv[1]).iterdir())
allowed = {str(path) for path in files}
outcome(Path(sys.argv[2]))
codecs.lookup("raw-unicode-escape")  # Python imports it when the first text of protocol 0 is met
sys.addaudithook(watch)
before = peak()
report: dict[str, tuple[str, float]] = {}
for path in files:
    start = time.process_time()
    watching = True
    text = outcome(path)
    watching = False
    report[path.name] = (text, time.process_time() - start)
grown = (peak() - before) / 1024
print(json.dumps({"report": report, "seen": seen, "grown": grown, "modules": sorted(sys.modules)}))
