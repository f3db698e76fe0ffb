"""`python -m bench`, so that torchrun can start it."""

from bench.cli import main

if __name__ == "__main__":
    main()
