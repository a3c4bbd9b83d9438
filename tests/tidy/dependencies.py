#!/usr/bin/env python3
"""Applies deny.toml to what the workspace really builds, with nothing but Python and cargo.

It understands the parts of cargo-deny's format that deny.toml uses (licences, bans, sources) and refuses to run when
the file holds a rule that it does not understand, so that no rule can be written there and silently not be applied.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNDERSTOOD = {
    "graph": {"all-features"},
    "licenses": {"allow", "confidence-threshold"},
    "bans": {"multiple-versions", "wildcards", "allow-wildcard-paths", "deny"},
    "sources": {"unknown-registry", "unknown-git", "allow-registry", "allow-git"},
}


def not_understood(rules):
    """Names of the rules in deny.toml that this script would not apply."""
    unknown = [section for section in rules if section not in UNDERSTOOD]
    for section, keys in UNDERSTOOD.items():
        unknown += [f"{section}.{key}" for key in rules.get(section, {}) if key not in keys]
    return unknown


def licence_allowed(expression, allowed):
    """Whether an SPDX expression can be satisfied by allowed licences alone: AND needs both sides, OR either."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def alternatives(at):
        value, at = conjunction(at)
        while at < len(tokens) and tokens[at] == "OR":
            other, at = conjunction(at + 1)
            value = value or other
        return value, at

    def conjunction(at):
        value, at = single(at)
        while at < len(tokens) and tokens[at] == "AND":
            other, at = single(at + 1)
            value = value and other
        return value, at

    def single(at):
        if tokens[at] == "(":
            value, at = alternatives(at + 1)
            return value, at + 1
        name, at = tokens[at], at + 1
        if at < len(tokens) and tokens[at] == "WITH":
            name, at = f"{name} WITH {tokens[at + 1]}", at + 2
        return name in allowed, at

    return alternatives(0)[0]


def version(text):
    """A version as numbers; what follows `-` or `+` orders nothing here."""
    numbers = re.split(r"[-+]", text)[0].split(".")
    return tuple(int(n) for n in numbers) + (0,) * (3 - len(numbers))


def banned(package, ban):
    """Whether one `[bans] deny` entry names this package: `name` or `name@<version`."""
    name, _, bound = ban["crate"].partition("@")
    if name != package["name"]:
        return False
    if not bound:
        return True
    if not bound.startswith("<"):
        sys.exit(f"deny.toml: `{ban['crate']}` is not understood; write `name` or `name@<version`.")
    # A bound speaks about its own major version: rand 0.10 is not older than 0.8.6, and nothing is banned twice.
    return version(package["version"]) < version(bound[1:])


def built_packages(metadata):
    """The packages that the workspace reaches, without what only other platforms' features would add."""
    packages = {package["id"]: package for package in metadata["packages"]}
    return [packages[node["id"]] for node in metadata["resolve"]["nodes"]]


def mistakes(rules, metadata):
    allowed = set(rules["licenses"]["allow"])
    registries = {f"registry+{url}" for url in rules["sources"]["allow-registry"]}
    for package in built_packages(metadata):
        name = f"{package['name']} {package['version']}"
        licence = package["license"]
        if licence is None:
            yield f"{name}: states no licence."
        elif not licence_allowed(licence, allowed):
            yield f"{name}: its licence `{licence}` is not among those that deny.toml allows."
        source = package["source"]
        if source is not None and source not in registries:
            yield f"{name}: comes from {source}, which deny.toml does not allow."
        for ban in rules["bans"]["deny"]:
            if banned(package, ban):
                yield f"{name}: banned as `{ban['crate']}`: {ban['reason']}."
        if source is None:
            for dependency in package["dependencies"]:
                if dependency["req"] == "*" and not dependency.get("path"):
                    yield f"{name}: depends on any version of {dependency['name']}; name one."


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    unknown = not_understood(rules)
    if unknown:
        sys.exit(f"deny.toml: this check does not understand {', '.join(unknown)}; teach it, or remove the rule.")
    target = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    host = re.search(r"^host: (.*)$", target, re.M).group(1)
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={host}"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)
    found = sorted(set(mistakes(rules, metadata)))
    for mistake in found:
        print(mistake)
    print(f"{len(built_packages(metadata))} packages, {len(found)} mistakes")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
