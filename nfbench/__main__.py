"""``python -m nfbench``: the command line from a bare checkout."""

from nfbench.cli import main

if __name__ == "__main__":
    main(prog_name="nfbench")
