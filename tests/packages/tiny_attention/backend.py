"""The smallest build backend that pip and uv accept (PEP 517, PEP 660); it compiles nothing."""

import base64
import hashlib
import os
import zipfile

NAME = "tiny_attention"
INFO = NAME + "-1.0.dist-info"
METADATA = (
    "Metadata-Version: 2.1\nName: tiny-attention\nVersion: 1.0\nSummary: A package for tests\n\nText.\n"
)
WHEEL = "Wheel-Version: 1.0\nGenerator: tiny\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
ENTRY_POINTS = "[console_scripts]\ntiny-attention = tiny_attention:main\n"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    files = {}
    for folder, _, names in os.walk(NAME):
        for name in names:
            path = os.path.join(folder, name)
            if "__pycache__" not in path:
                with open(path, "rb") as stream:
                    files[path.replace(os.sep, "/")] = stream.read()
    if os.path.exists("data.cfg"):
        with open("data.cfg", "rb") as stream:
            files[NAME + "-1.0.data/data/etc/tiny.cfg"] = stream.read()
    return write(wheel_directory, files)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return write(wheel_directory, {"tiny_attention.pth": os.getcwd().encode()})


def write(folder, files):
    files[INFO + "/METADATA"] = METADATA.encode()
    files[INFO + "/WHEEL"] = WHEEL.encode()
    files[INFO + "/entry_points.txt"] = ENTRY_POINTS.encode()
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append("%s,sha256=%s,%d\n" % (name, digest, len(data)))
    files[INFO + "/RECORD"] = ("".join(lines) + INFO + "/RECORD,,\n").encode()
    filename = NAME + "-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, filename), "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    return filename
