"""The page in a real browser: headless Chromium talks to a real server."""
import os
import pathlib
import sys
import unittest

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from serving import Server  # noqa: E402

SCREENSHOTS = pathlib.Path(os.environ.get("BIFOCAL_SCREENSHOTS", "."))

# Notes how long the latest answer was each time it changed.
WATCH = """
window.lengths = [];
new MutationObserver(() => {
  const answers = document.querySelectorAll(".message.assistant .text");
  if (answers.length) window.lengths.push(answers[answers.length - 1].textContent.length);
}).observe(document.getElementById("messages"), {subtree: true, childList: true, characterData: true});
"""


class Page(unittest.TestCase):
    flags = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--max-total-tokens", "4096", *cls.flags)
        cls.addClassCleanup(cls.server.__exit__)
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1440,1000"):
            options.add_argument(argument)
        options.binary_location = os.environ["CHROMIUM"]
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        cls.browser = webdriver.Chrome(options=options)
        cls.addClassCleanup(cls.browser.quit)

    def setUp(self):
        self.browser.get(f"http://127.0.0.1:{self.server.port}/")

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, condition, message=""):
        return WebDriverWait(self.browser, 60, poll_frequency=0.05).until(lambda _: condition(), message)

    def wait_ready(self):
        self.wait(lambda: self.find("#state").text == "ready", "the page never said ready")

    def ask(self, text):
        self.find("#prompt").send_keys(text + Keys.ENTER)

    def wait_answers(self, count):
        self.wait(lambda: len(self.all(".message.assistant .figures")) == count, "no answer ended")

    def set_color_scheme(self, scheme):
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def screenshot(self, name):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.browser.save_screenshot(str(SCREENSHOTS / f"{name}.png"))

    def console_errors(self, expected=()):
        log = [entry for entry in self.browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        return [entry for entry in log if not any(text in entry["message"] for text in expected)]


class OpenPage(Page):
    flags = ("--reasoning-parser", "qwen3")

    def value(self, card, name):
        """The number in a card's legend."""
        for article in self.all(".plot"):
            if article.find_element(By.TAG_NAME, "h2").text.startswith(card):
                for item in article.find_elements(By.TAG_NAME, "li"):
                    if item.text.startswith(name + " "):
                        return item.find_element(By.TAG_NAME, "b").text
        return None

    def test_an_answer_streams_in_and_the_plots_move(self):
        self.wait_ready()
        before = self.browser.execute_script("return Array.from(document.querySelectorAll('.plot path'), p => p.getAttribute('d'))")
        self.browser.execute_script(WATCH)
        self.ask("What is 17 + 25?")
        self.wait_answers(1)
        self.assertIn("42", self.find(".message.assistant").text)
        self.assertEqual(len(self.all(".message.assistant .reasoning")), 1)
        # Slow enough to see it come, however quick the model is.
        self.browser.set_network_conditions(latency=0, download_throughput=20_000, upload_throughput=20_000)
        self.ask("Write a short story about a boat.")
        self.wait_answers(2)
        self.browser.delete_network_conditions()
        lengths = self.browser.execute_script("return window.lengths")
        grew = sum(1 for a, b in zip(lengths, lengths[1:]) if b > a)
        self.assertGreater(grew, 5, f"the text came in pieces: {lengths}")

        self.wait(lambda: self.value("Time to first token", "p50") not in (None, "–"))
        self.wait(lambda: self.value("Time between tokens", "p99") not in (None, "–"))
        self.wait(lambda: any(self.value("Steps per second", name) for name in ("decode streaming", "decode tiled", "decode unified")))
        after = self.browser.execute_script("return Array.from(document.querySelectorAll('.plot path'), p => p.getAttribute('d'))")
        self.assertNotEqual(before, after)
        drawn = self.browser.execute_script(
            "return live.plots.tokens.series.get('out').values.some(v => v > 0) && live.plots.tokens.series.get('in').values.some(v => v > 0)")
        self.assertTrue(drawn, "tokens per second rose above 0")
        rows = [row.text for row in self.all("#router tr")]
        self.assertTrue(any("prefill" in row for row in rows) and any("decode" in row for row in rows), rows)
        for width, scheme, name in ((1440, "light", "page-light"), (1440, "dark", "page-dark"), (420, "dark", "page-narrow")):
            self.browser.set_window_size(width, 1000)
            self.set_color_scheme(scheme)
            self.screenshot(name)
            overflow = self.browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
            self.assertLessEqual(overflow, 0, f"{name}: wider than the window")
        self.browser.set_window_size(1440, 1000)
        self.assertEqual(self.console_errors(), [])

    def test_everything_comes_from_this_server(self):
        self.wait_ready()
        names = self.browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        self.assertTrue(names)
        for name in names:
            self.assertTrue(name.startswith(f"http://127.0.0.1:{self.server.port}/"), name)
        self.assertEqual(self.console_errors(), [])

    def test_stop_ends_an_answer(self):
        self.wait_ready()
        self.find(".settings summary").click()
        for name, value in (("max_tokens", "4000"), ("temperature", "2")):
            self.find("#" + name).clear()
            self.find("#" + name).send_keys(value)
        self.ask("Write a long story. Tell it again and again.")
        self.wait(lambda: self.all(".message.assistant .text") and self.all(".message.assistant .text")[-1].text)
        if self.find("#stop").is_displayed():  # else the model was quicker
            self.browser.execute_script("document.getElementById('stop').click()")
        self.wait_answers(1)
        self.assertFalse(self.find("#stop").is_displayed())
        self.assertTrue(self.find("#send").is_enabled())
        self.wait(lambda: self.value("Requests", "running") == "0", "the engine goes on")

    def test_a_refusal_is_shown(self):
        self.wait_ready()
        self.browser.execute_script("document.getElementById('prompt').value = 'word '.repeat(20000)")
        self.find("#prompt").send_keys(Keys.ENTER)
        error = self.wait(lambda: next(iter(self.all(".message .error")), None))
        self.assertIn("context", error.text)
        self.assertTrue(self.find("#send").is_enabled())
        self.assertEqual(self.console_errors(expected=("400",)), [])


class LockedPage(Page):
    flags = ("--api-key", "open sesame")

    def test_it_asks_for_the_key(self):
        dialog = self.find("#key-dialog")
        self.wait(dialog.is_displayed, "no key was asked for")
        self.find("#key-input").send_keys("wrong" + Keys.ENTER)
        self.wait(lambda: self.find("#key-error").is_displayed() and dialog.is_displayed())
        self.assertIn("not accepted", self.find("#key-error").text)
        self.screenshot("page-key")
        self.find("#key-input").clear()
        self.find("#key-input").send_keys("open sesame" + Keys.ENTER)
        self.wait_ready()
        self.assertFalse(dialog.is_displayed())
        self.ask("What is 2 + 3?")
        self.wait_answers(1)
        self.assertIn("5", self.find(".message.assistant").text)
        # Without a reasoning parser the tags come with the answer; the page shows reasoning apart all the same.
        self.assertIn("<think>", self.browser.execute_script("return chat.messages[1].content"))
        self.assertEqual(len(self.all(".message.assistant .reasoning")), 1)
        self.assertNotIn("think>", self.find(".message.assistant").get_property("textContent"))
        self.assertEqual(self.console_errors(expected=("401",)), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
