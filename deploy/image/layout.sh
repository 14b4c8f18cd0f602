#!/bin/sh
# layout.sh BINARY PROGRAM FOLDER: makes in FOLDER the file system of an image of PROGRAM (spire-server or spire-agent):
# our binary alone, linked statically, where SPIRE's images have theirs, and the folders that SPIRE's configuration
# files name. Nothing else: no shell, no /etc/passwd.
set -eu
binary=$1 program=$2 root=$3
role=${program#spire-}
mkdir -p "$root/opt/spire/bin" "$root/etc/spire/$role" "$root/run/spire/$role" "$root/var/lib/spire/$role" "$root/tmp"
chmod -R 755 "$root"
install -m 755 "$binary" "$root/opt/spire/bin/$program"
chmod 1777 "$root/tmp"
