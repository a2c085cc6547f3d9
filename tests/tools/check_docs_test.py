import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import check_docs


class CheckDocs(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name).resolve()
        self.write("README.md", "# A\n")
        self.write("docs/page.md", "# Page\n\n## What `it` does, [really](page.md)\n\n```\n# no heading\n```\n")
        self.write("src/room/kernel.h", "")
        self.write("src/room/kernel.cu", "")

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def errors(self, text):
        self.write("docs/other.md", text)
        return check_docs.check_page(self.root / "docs/other.md", self.root)

    def test_what_is_there(self):
        self.assertEqual(self.errors("[a](page.md) [b](page.md#what-it-does-really) [c](#here) [d](https://x.y/z)\n# Here\n"), [])
        self.assertEqual(self.errors("`src/room/kernel.{h,cu}`, src/room/kernel, src/room/*.h and src/room/.\n"), [])

    def test_missing_files_and_headings(self):
        self.assertIn("there is no gone.md", self.errors("[a](gone.md)")[0])
        self.assertIn("no such heading", self.errors("[a](page.md#gone)")[0])
        self.assertIn("no such heading", self.errors("[a](page.md#no-heading)")[0])
        self.assertIn("no such heading", self.errors("[a](#gone)")[0])

    def test_missing_sources(self):
        self.assertIn("src/room/gone.h", self.errors("see src/room/gone.h.")[0])
        self.assertIn("src/room/kernel.cpp", self.errors("see `src/room/kernel.{h,cpp}`")[0])
        self.assertIn("src/room/gone*", self.errors("see src/room/gone*")[0])

    def test_other_words_are_no_paths(self):
        self.assertEqual(self.errors("org/src/x, build/tools/y and /docs/z, https://a.b/src/none"), [])


if __name__ == "__main__":
    unittest.main()
