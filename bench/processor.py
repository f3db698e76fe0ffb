"""What Linux says of this machine's processor."""

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def processor_fact(field: str) -> str:
    """Return a field of the first core in /proc/cpuinfo, such as `vendor_id`; empty where there is none."""
    try:
        with CPUINFO.open(encoding="utf-8") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == field:
                    return value.strip()
                if not line.strip():
                    break
    except OSError:
        pass
    return ""


def processor_name() -> str:
    """Return the name of the processor, or of its kind."""
    return processor_fact("model name") or platform.processor() or platform.machine()
