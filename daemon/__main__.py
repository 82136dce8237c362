"""`python -m codegraphd.daemon`: the command line, for whoever has no script on the path (a service unit, a spawn)."""

import sys

from codegraphd.daemon.cli import main

if __name__ == "__main__":
    sys.exit(main())
