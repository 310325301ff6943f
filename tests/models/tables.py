"""What the scripts that print tables of networks share."""

import argparse
import fnmatch


def asked_for(doc, argv):
    """name -> whether the command line asks for the network: all, or those that --only matches."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of names")
    patterns = parser.parse_args(argv).only
    return lambda name: any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
