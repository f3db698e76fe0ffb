"""What Linux says of this machine's processor."""

import platform
from pathlib import Path

from bench.files import read_bytes

CPUINFO = Path("/proc/cpuinfo")


def processor_fact(field: str) -> str:
    """Return a field of the first core in /proc/cpuinfo, such as `vendor_id`; empty where there is none."""
    try:
        first_core = read_bytes(CPUINFO).decode(errors="replace").partition("\n\n")[0]
    except OSError:
        return ""
    pairs = (line.partition(":") for line in first_core.splitlines())
    return next((value.strip() for name, _, value in pairs if name.strip() == field), "")


def processor_name() -> str:
    """Return the name of the processor, or of its kind."""
    return processor_fact("model name") or platform.processor() or platform.machine()
