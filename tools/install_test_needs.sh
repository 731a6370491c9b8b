#!/usr/bin/env bash
# Installs the programs that `make test-all` needs beyond Linux, make and Python, as packages of Debian or Ubuntu.
set -euo pipefail

packages=()
need() { command -v "$1" >/dev/null || packages+=("${@:2}"); }
need javac openjdk-17-jdk-headless   # the Java example, and clocks of a broker
need mvn maven                       # the S3 server's jars
need npx nodejs npm                  # clients in JavaScript, and the AsyncAPI validator
need c++ g++                         # torch.compile, and the load program of the benches
need faketime faketime               # processes whose clocks are wrong
need bwrap bubblewrap                # the sandbox of registration steps
need chromium chromium               # the console's pages
need promtool prometheus             # alert rules, and the dashboard's queries
if ((${#packages[@]} == 0)); then
  echo "All programs that the tests need are installed."
  exit
fi
echo "Installing: ${packages[*]}"
if ((EUID != 0)); then
  echo "Only root can: sudo apt-get install --no-install-recommends ${packages[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
