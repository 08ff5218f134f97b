#!/usr/bin/env python3
"""Myelin and Synapse in one room: every scenario in both directions and in several room versions.

    tests/interop/run.py [--versions 1,6,10] [--only NAME,NAME] [--keep] [--servers myelin,synapse]

The exit status is the number of scenarios that failed, at most 100. With `--servers synapse,synapse` the scenarios
themselves are tested, with `myelin,myelin` two of ours.
"""

import argparse
import sys
import time
import traceback

import scenarios
import servers

VERSIONS = ["1", "6", "9", "10", "11", "12"]


def main():
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", default=",".join(VERSIONS))
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", action="store_true", help="keep the servers' directories")
    parser.add_argument("--servers", default="myelin,synapse")
    options = parser.parse_args()
    authority = servers.Authority()
    kinds = {"myelin": servers.Myelin, "synapse": servers.Synapse}
    one, other = (kinds[kind](authority) for kind in options.servers.split(","))
    failures = []
    try:
        one.start()
        other.start()
        for version in options.versions.split(","):
            failures += run_version(version, options.only, one, other)
    finally:
        for server in (one, other):
            if options.keep:
                server.stop()
                print(f"{server.kind}: {server.directory}")
            else:
                server.remove()
        if not options.keep:
            authority.remove()
    for failure in failures:
        print(f"FAILED {failure}")
    return min(len(failures), 100)


def run_version(version, only, one, other):
    """The names of the scenarios that failed in this version."""
    failures = []
    for name, (function, since) in scenarios.SCENARIOS.items():
        if (only and name not in only.split(",")) or int(version) < since:
            continue
        for here, there in [(one, other), (other, one)]:
            title = f"{name} v{version}: room on {here.kind}, joined from {there.kind}"
            begin = time.monotonic()
            try:
                function(here, there, version)
                print(f"ok     {title} ({time.monotonic() - begin:.1f} s)", flush=True)
            except Exception:  # noqa: BLE001: whatever went wrong, the others are tried
                print(f"not ok {title}\n{traceback.format_exc(limit=-2, chain=False)}", flush=True)
                failures.append(title)
    return failures


if __name__ == "__main__":
    sys.exit(main())
