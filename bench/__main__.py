"""`python -m bench`, so that torchrun can start it."""

import os
import sys

if __name__ == "__main__":
    # the command `bench` does not search the working folder; here a torch.py in it would be taken for torch
    if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109, as Python spells it
        del sys.path[0]
    from bench.cli import main

    main()
