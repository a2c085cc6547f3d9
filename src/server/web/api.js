// Requests to the server this page came from, with the key that the user gave, if one is needed.
const api = {
  key: sessionStorage.getItem("bifocal-key") || "",

  headers() {
    return this.key ? { Authorization: "Bearer " + this.key } : {};
  },

  async get(path) {
    const response = await fetch(path, { headers: this.headers() });
    if (!response.ok) throw await this.failure(response);
    return response.json();
  },

  // Calls onEvent with the object of each server-sent event.
  async stream(path, body, onEvent, signal) {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...this.headers() },
      body: JSON.stringify(body),
      signal,
    });
    if (!response.ok) throw await this.failure(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let pending = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (pending + value).split("\n");
      pending = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ")) continue;  // a ping, or the empty line after an event
        if (line === "data: [DONE]") return;
        const event = JSON.parse(line.slice(6));
        if (event.error) throw new Error(event.error.message || "the server reported an error");
        onEvent(event);
      }
    }
  },

  async failure(response) {
    let message = "the server answered " + response.status;
    try {
      const body = await response.json();
      if (body.error && body.error.message) message = body.error.message;
    } catch {
      // no JSON: the status has to do
    }
    const error = new Error(message);
    error.status = response.status;
    return error;
  },
};

const byId = (id) => document.getElementById(id);

// make("p", "class names", "text")
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// --- the key ---

function askForKey(message) {
  byId("key-button").hidden = false;
  byId("key-error").hidden = !message;
  byId("key-error").textContent = message || "";
  if (!byId("key-dialog").open) byId("key-dialog").showModal();
}

byId("key-button").addEventListener("click", () => askForKey(""));
byId("key-form").addEventListener("submit", () => {
  api.key = byId("key-input").value.trim();
  sessionStorage.setItem("bifocal-key", api.key);
  live.poll();
});
