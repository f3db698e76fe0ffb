"""`python -m bench`, so that torchrun can start it."""

import os
import sys

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109, as Python spells it
        del sys.path[0]  # so that a torch.py in the user's folder is not imported
    from bench.cli import main

    main()
