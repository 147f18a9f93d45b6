"""Make .venv and install monai_anat into it: torch first, at the tested versions. Any argument is passed on to pip.

Written for any Python 3 without packages, so that a wrong Python gets a sentence.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "installed.sha256")
OLDEST = (3, 11)
NEEDED_GB = 4


def fail(sentence):
    sys.stderr.write("install: " + sentence + "\n")
    sys.exit(1)


def suitable_python():
    """This Python if it is new enough, else the newest one on the PATH that is."""
    if sys.version_info >= OLDEST:
        return sys.executable
    for minor in (14, 13, 12, 11):
        found = shutil.which("python3.%d" % minor)
        if found and subprocess.call([found, "-c", "import venv"]) == 0:
            return found
    return fail(
        "Python %d.%d or newer is needed, this is %d.%d (%s); install one and run: make install PYTHON=python3.12"
        % (OLDEST + sys.version_info[:2] + (sys.executable,))
    )


def run(command, purpose):
    """Run a command; show its last lines and a sentence if it fails."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = [line.decode("utf-8", "replace").rstrip() for line in process.stdout]
    if process.wait() == 0:
        return
    text = "\n".join(lines[-15:])
    sys.stderr.write(text + "\n")
    if "No space left" in text:
        fail("the disk is full while %s; about %d GB are needed in %s" % (purpose, NEEDED_GB, ROOT))
    if any(word in text for word in ("NewConnectionError", "Temporary failure", "ConnectTimeout", "No matching distr")):
        fail(
            "no package index answered while %s; check the network, or pass an index: "
            "make install PIP_ARGS='--index-url URL'" % purpose
        )
    fail("%s failed; the lines above say why" % purpose)


def fingerprint(arguments):
    """Changes when what is installed would change."""
    digest = hashlib.sha256(repr((sys.version_info[:2], arguments)).encode())
    for name in ("setup.cfg", "constraints.txt", "pyproject.toml"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def main(arguments):
    python = suitable_python()
    if os.path.exists(STAMP):
        with open(STAMP) as file:
            if file.read() == fingerprint(arguments):
                return
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < NEEDED_GB:
        fail("about %d GB of disk are needed in %s, %.1f GB are free" % (NEEDED_GB, ROOT, free))
    sys.stderr.write("install: making .venv and installing; some minutes on a new machine\n")
    run([python, "-m", "venv", VENV], "making .venv")
    pip = [os.path.join(VENV, "bin", "python"), "-m", "pip", "install", "-c", "constraints.txt"]
    pip += ["--disable-pip-version-check"] + arguments
    run(pip + ["torch"], "installing torch")
    run(pip + ["-e", ".[dev]"], "installing monai_anat and its dependencies")
    with open(STAMP, "w") as file:
        file.write(fingerprint(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
