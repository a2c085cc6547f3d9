byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (chat.abort) return;
  const text = byId("prompt").value;
  byId("prompt").value = "";
  chat.send(text);
});
byId("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});
byId("stop").addEventListener("click", () => chat.abort && chat.abort.abort());
byId("clear").addEventListener("click", () => chat.clear());
for (const chip of document.querySelectorAll(".chip")) {
  chip.addEventListener("click", () => chat.send(chip.textContent));
}
live.start();
