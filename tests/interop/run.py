#!/usr/bin/env python3
"""Myelin and Synapse in one room: every scenario in both directions and in several room versions.

    tests/interop/run.py [--versions 1,6,10] [--only NAME,NAME] [--keep] [--servers myelin,synapse] [--minutes 45]

The exit status is the number of scenarios that failed, at most 100. With `--servers synapse,synapse` the scenarios
themselves are tested, with `myelin,myelin` two of ours. What is not begun after so many minutes has failed.
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
    parser.add_argument("--minutes", type=float, default=45)
    options = parser.parse_args()
    deadline = time.monotonic() + options.minutes * 60
    authority = servers.Authority()
    kinds = {"myelin": servers.Myelin, "synapse": servers.Synapse}
    one, other = (kinds[kind](authority) for kind in options.servers.split(","))
    failures = []
    try:
        one.start()
        other.start()
        chosen = list(choose(options.versions.split(","), options.only.split(",") if options.only else []))
        for number, (name, version) in enumerate(chosen, start=1):
            progress = f"{number}/{len(chosen)}"
            for here, there in [(one, other), (other, one)]:
                if not run(name, version, here, there, progress, deadline):
                    failures.append(f"{name} v{version}: room on {here.kind}")
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


def choose(versions, only):
    """What is to be run: names of scenarios, each with a room version."""
    for version in versions:
        for name, (_, since) in scenarios.SCENARIOS.items():
            if (not only or name in only) and int(version) >= since:
                yield name, version


def run(name, version, here, there, progress, deadline):
    """Runs a scenario in one direction. Whether it went well."""
    title = f"{progress} {name} v{version}: room on {here.kind}, joined from {there.kind}"
    begin = time.monotonic()
    if begin > deadline:
        print(f"not ok {title}: there is no time left", flush=True)
        return False
    function, _ = scenarios.SCENARIOS[name]
    try:
        function(here, there, version)
    except Exception:  # noqa: BLE001: whatever went wrong, the others are tried
        print(f"not ok {title}\n{traceback.format_exc(limit=-2, chain=False)}", flush=True)
        return False
    print(f"ok     {title} ({time.monotonic() - begin:.1f} s)", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
