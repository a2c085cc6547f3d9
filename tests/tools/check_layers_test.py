"""The layering check must find what it is there to find."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = "0 base spdlog\n1 tensor\n2 kernels\n2 text\n7 server boost\n8 cli CLI\n"


def violations(files):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "tools").mkdir()
        (root / "tools" / "layers.txt").write_text(RULES)
        for name, text in files.items():
            path = root / "src" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        done = subprocess.run([sys.executable, ROOT / "tools" / "check_layers.py", folder], capture_output=True, text=True)
        return done.returncode, done.stdout


class CheckLayers(unittest.TestCase):
    def refuses(self, files, words):
        code, output = violations(files)
        self.assertEqual(code, 1, output)
        self.assertIn(words, output)

    def test_allows_downward(self):
        code, output = violations({"tensor/a.h": '#include "base/b.h"\n#include <vector>\n', "base/b.h": ""})
        self.assertEqual(code, 0, output)

    def test_refuses_upward(self):
        self.refuses({"base/a.h": '#include "tensor/b.h"\n', "tensor/b.h": ""}, "includes tensor/b.h")

    def test_refuses_sideways(self):
        self.refuses({"text/a.h": '#include "kernels/b.h"\n'}, "includes kernels/b.h")

    def test_refuses_leaked_libraries(self):
        self.refuses({"text/a.cpp": "#include <boost/asio.hpp>\n"}, "only server may")
        self.refuses({"server/api/a.cpp": "#include <boost/asio.hpp>\n"}, "only server/http")
        self.refuses({"text/a.cpp": "#include <spdlog/spdlog.h>\n"}, "only base may")

    def test_refuses_long_files_and_banned_words(self):
        self.refuses({"base/a.cpp": "\n" * 700}, "700 lines")
        self.refuses({"base/a.cpp": "#include <regex>\n"}, "std::regex")

    def test_refuses_unknown_rooms(self):
        self.refuses({"misc/a.cpp": ""}, "not in tools/layers.txt")


if __name__ == "__main__":
    unittest.main()
