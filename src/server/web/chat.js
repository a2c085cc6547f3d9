// The conversation. It lives here alone: each request carries all of it.
const chat = {
  messages: [],  // {role, content}
  abort: null,   // of the answer under way

  settings() {
    const body = {};
    for (const name of ["temperature", "top_p", "top_k", "max_tokens", "seed"]) {
      const input = byId(name);
      if (input.value !== "" && input.checkValidity()) body[name] = Number(input.value);
    }
    return body;
  },

  // Path and body of a request for the next answer.
  request() {
    const body = { model: live.info.model, stream: true, stream_options: { include_usage: true }, ...this.settings() };
    if (!live.info.chat) {  // no template: the text is continued
      return ["/v1/completions", { ...body, prompt: this.messages.map((m) => m.content).join("\n") }];
    }
    const system = byId("system").value.trim();
    const messages = system ? [{ role: "system", content: system }, ...this.messages] : this.messages;
    if (!byId("thinking").checked) body.chat_template_kwargs = { enable_thinking: false };
    return ["/v1/chat/completions", { ...body, messages }];
  },

  async send(text) {
    if (this.abort || !text.trim() || !live.info) return;
    byId("welcome").hidden = true;
    this.messages.push({ role: "user", content: text });
    this.show("user", "You").text.textContent = text;
    const answer = this.show("assistant", live.info.model);
    const follow = new AutoScroll(byId("messages"));
    this.busy(new AbortController());
    const began = performance.now();
    let first = 0;
    let usage = null;
    let finish = "";
    try {
      const [path, body] = this.request();
      await api.stream(path, body, (event) => {
        usage = event.usage || usage;
        const choice = event.choices && event.choices[0];
        if (!choice) return;
        finish = choice.finish_reason || finish;
        const delta = choice.delta || { content: choice.text };
        if (!first && (delta.content || delta.reasoning_content)) first = performance.now();
        if (delta.reasoning_content) answer.reason(delta.reasoning_content);
        if (delta.content) answer.write(delta.content);
        follow.scroll();
      }, this.abort.signal);
    } catch (error) {
      if (error.name === "AbortError") {
        finish = "stopped";
      } else {
        answer.fail(error.status === 401 ? "An API key is needed." : error.message);
        if (error.status === 401) askForKey("");
      }
    }
    answer.end(figures(began, first, performance.now(), usage, finish));
    follow.scroll();
    const content = answer.content;
    if (content) this.messages.push({ role: "assistant", content });
    else this.messages.pop();  // what got no answer is not repeated
    this.busy(null);
    byId("prompt").focus();
  },

  busy(abort) {
    this.abort = abort;
    byId("send").disabled = abort !== null;
    byId("stop").hidden = abort === null;
  },

  show(role, name) {
    const message = new Message(role, name);
    byId("messages").append(message.element);
    message.element.scrollIntoView({ block: "end" });
    return message;
  },

  clear() {
    if (this.abort) this.abort.abort();
    this.messages = [];
    for (const message of document.querySelectorAll(".message")) message.remove();
    byId("welcome").hidden = false;
  },
};

class Message {
  constructor(role, name) {
    this.element = make("div", "message " + role + (role === "assistant" ? " waiting" : ""));
    this.text = make("div", "text");
    this.content = "";  // as it came
    this.thoughtText = "";
    this.element.append(make("h3", "", name), this.text);
  }
  // Without --reasoning-parser the server sends reasoning as the model wrote it, in front.
  write(text) {
    this.content += text;
    const [, thoughts, end, rest] = /^\s*<think>([^]*?)(<\/think>\s*|$)([^]*)$/.exec(this.content) || [];
    if (thoughts === undefined) {
      this.text.textContent = this.content;
    } else {
      this.thoughtText = thoughts.trimStart();
      this.text.textContent = rest;
    }
    this.showThoughts(thoughts !== undefined && !end);
  }
  reason(text) {
    this.thoughtText += text;
    this.showThoughts(true);
  }
  showThoughts(open) {
    if (!this.thoughtText.trim()) return;  // some models only say that they don't
    if (!this.thoughts) {
      this.thoughts = make("details", "reasoning");
      this.thoughts.append(make("summary", "", "Reasoning"), make("div", "text"));
      this.text.before(this.thoughts);
    }
    if (this.reasoning !== open) this.thoughts.open = this.reasoning = open;  // else as the reader left it
    this.thoughts.lastChild.textContent = this.thoughtText;
  }
  fail(message) {
    const error = make("p", "error", message);
    error.setAttribute("role", "alert");
    this.element.append(error);
  }
  end(line) {
    this.element.classList.remove("waiting");
    if (line) this.element.append(make("div", "figures", line));
  }
}

// Keeps the end in view unless the reader has scrolled up.
class AutoScroll {
  constructor(box) {
    this.box = box;
    this.following = true;
    box.onscroll = () => { this.following = box.scrollHeight - box.scrollTop - box.clientHeight < 40; };
  }
  scroll() {
    if (this.following) this.box.scrollTop = this.box.scrollHeight;
  }
}

function figures(began, first, ended, usage, finish) {
  const parts = [];
  if (usage) parts.push(`${usage.prompt_tokens} + ${usage.completion_tokens} tokens`);
  if (first) parts.push("first after " + formats.seconds((first - began) / 1000));
  if (usage && first && usage.completion_tokens > 1 && ended > first) {
    parts.push(formats.count(((usage.completion_tokens - 1) * 1000) / (ended - first)) + " tokens/s");
  }
  if (finish && finish !== "stop") parts.push(finish === "length" ? "cut at max tokens" : finish);
  return parts.join(" · ");
}
