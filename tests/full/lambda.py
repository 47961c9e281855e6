"""What is in the zips that lambda.sh has built, and how large they are."""

import os
import struct
import sys
import zipfile

# Lambda takes 50 MB of zip; the functions are far smaller, and a cold start reads all of it.
LARGEST_ZIP = 5_000_000
AARCH64 = 183


def check_zip(name):
    path = f"target/lambda/{name}/bootstrap.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["bootstrap"], archive.namelist()
        entry = archive.getinfo("bootstrap")
        assert entry.external_attr >> 16 & 0o111, "not executable"
        head = archive.read(entry)[:20]
    assert head[:4] == b"\x7fELF", head
    (machine,) = struct.unpack_from("<H", head, 18)
    assert machine == AARCH64, machine
    size = os.path.getsize(path)
    assert size < LARGEST_ZIP, size
    print(f"size: {path} is {size:,} bytes, and {entry.file_size:,} unpacked")


passed = failed = 0
for name in ["greeter-lambda", "greeter-caller"]:
    try:
        check_zip(name)
        passed += 1
    except (AssertionError, OSError) as error:
        print(f"{name}: {error!r}")
        failed += 1
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
