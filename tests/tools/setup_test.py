"""The set-up must install what the distribution has, and say what it lacks. Package tools are stand-ins."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A package's line: name, "installed", "offered" or "mentioned" (known, but without a version to install).
STAND_INS = {
    "dpkg-query": 'grep -q "^${!#} installed$" "$PACKAGES" && echo installed',
    "apt-cache": """
grep -q "^$2 " "$PACKAGES" || exit 0
[[ "$1" == show ]] && exit 0
echo "$2:"
echo "  Installed: (none)"
grep -q "^$2 mentioned$" "$PACKAGES" && echo "  Candidate: (none)" || echo "  Candidate: 1.83.0"
""",
    "apt-get": 'echo "$@" >>"$CALLS"',
    "sudo": 'exec "$@"',
}


def set_up(wanted, packages):
    """Runs tools/setup.sh; gives its exit code, errors, and what was installed."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "tools").mkdir()
        (root / "bin").mkdir()
        shutil.copy(ROOT / "tools" / "setup.sh", root / "tools")
        (root / "packages.txt").write_text("# a comment\n\n" + "\n".join(wanted) + "\n")
        (root / "known").write_text("".join(f"{name} {state}\n" for name, state in packages.items()))
        (root / "calls").touch()
        for name, text in STAND_INS.items():
            (root / "bin" / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
            (root / "bin" / name).chmod(0o755)
        path = f"{root / 'bin'}:{os.environ['PATH']}"
        environment = dict(os.environ, PATH=path, PACKAGES=str(root / "known"), CALLS=str(root / "calls"))
        done = subprocess.run([root / "tools" / "setup.sh"], env=environment, capture_output=True, text=True)
        calls = (root / "calls").read_text().splitlines()
        installs = [call.split("--no-install-recommends ")[1].split() for call in calls if call.startswith("install")]
        return done.returncode, done.stderr, installs


class SetUp(unittest.TestCase):
    def test_installs_nothing_that_is_there(self):
        self.assertEqual(set_up(["one", "two | three"], {"one": "installed", "three": "installed"}), (0, "", []))

    def test_takes_the_first_that_can_be_installed(self):
        known = {"two": "mentioned", "three": "offered", "four": "offered"}
        code, errors, installs = set_up(["one | two | three | four"], known)
        self.assertEqual((code, installs), (0, [["three"]]), errors)

    def test_names_what_the_distribution_lacks(self):
        code, errors, installs = set_up(["one | two", "three"], {"two": "mentioned", "three": "offered"})
        self.assertEqual((code, installs), (1, []))
        self.assertIn("this distribution has none of: one | two", errors)


if __name__ == "__main__":
    unittest.main()
