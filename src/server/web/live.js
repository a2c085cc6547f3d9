// Polls /live and turns counters into what happened since the last time.
const POLL_MS = 1000;
const LATENCY_WINDOW_S = 30;
const LONGEST_GAP_S = 10;

const live = {
  samples: [],  // the latest answers, oldest first
  timer: 0,
  turn: 0,
  info: null,  // the latest

  start() {
    const cards = byId("cards");
    this.plots = {
      tokens: new Plot(cards, "Tokens per second", formats.count),
      requests: new Plot(cards, "Requests", formats.count),
      kv: new Plot(cards, "KV pages", formats.percent),
      hits: new Plot(cards, "Prompt tokens found in the prefix cache", formats.percent),
      ttft: new Plot(cards, "Time to first token, last 30 s", formats.seconds),
      itl: new Plot(cards, "Time between tokens, last 30 s", formats.seconds),
      steps: new Plot(cards, "Steps per second, by phase and backend", formats.count),
      seconds: new Plot(cards, "Share of time in attention", formats.percent),
    };
    this.poll();
  },

  async poll() {
    clearTimeout(this.timer);
    if (document.hidden) {  // who can't be seen doesn't ask
      document.addEventListener("visibilitychange", () => this.poll(), { once: true });
      return;
    }
    const turn = ++this.turn;  // a later call takes over
    try {
      const answer = await api.get("/live");
      if (turn !== this.turn) return;
      this.take(answer);
      showAlert("");
    } catch (error) {
      if (turn !== this.turn) return;
      if (error.status === 401) {
        this.state("locked", "failed");
        askForKey(api.key ? "This key is not accepted." : "");
        return;  // goes on when there is a key
      }
      this.state("unreachable", "failed");
      showAlert("No figures: " + (error.status ? error.message : "the server can't be reached; trying again."));
    }
    this.timer = setTimeout(() => this.poll(), POLL_MS);
  },

  state(text, className) {
    byId("state").textContent = text;
    byId("state").className = "state " + className;
  },

  take(now) {
    this.info = now;
    this.state(now.state, now.state);
    byId("model").textContent = now.model;
    byId("version").textContent = "version " + now.version;
    if (!now.engine) return;  // the model is still loading
    const before = this.samples[this.samples.length - 1];
    this.samples.push(now);
    if (this.samples.length > LATENCY_WINDOW_S + 1) this.samples.shift();
    const seconds = before ? (now.time_ms - before.time_ms) / 1000 : 0;
    if (before && (seconds <= 0 || seconds > LONGEST_GAP_S || now.engine.steps < before.engine.steps)) {
      this.samples = [now];  // nobody looked for a while, or another process answers now
      for (const plot of Object.values(this.plots)) plot.add({});
      return;
    }
    this.draw(now, before, seconds);
    this.drawRouter(now.attention);
    const r = now.engine;
    byId("totals").textContent =
      `${r.finished_requests} requests finished, ${r.aborted_requests} aborted, ${r.failed_requests} failed, ` +
      `${r.retracted_requests} retracted; ${formats.count(r.prompt_tokens)} prompt and ` +
      `${formats.count(r.generated_tokens)} generated tokens in ${formats.count(r.steps)} steps; ` +
      `context ${formats.count(now.context_length)} tokens, cache ${formats.count(now.max_total_tokens)} tokens`;
  },

  draw(now, before, seconds) {
    const rate = (pick) => (before ? (pick(now) - pick(before)) / seconds : null);
    const { plots } = this;
    plots.tokens.add({ in: rate((s) => s.engine.prompt_tokens), out: rate((s) => s.engine.generated_tokens) });
    plots.requests.add({ running: now.engine.running_requests, queued: now.engine.queued_requests });
    const pages = {};
    for (const pool of now.kv) {
      const prefix = now.kv.length > 1 ? pool.name + " " : "";
      pages[prefix + "in use"] = share(pool.pages - pool.free_pages - pool.cached_pages, pool.pages);
      pages[prefix + "cached"] = share(pool.cached_pages, pool.pages);
    }
    plots.kv.add(pages);
    const prompt = before ? now.engine.prompt_tokens - before.engine.prompt_tokens : 0;
    const cached = before ? now.engine.cached_prompt_tokens - before.engine.cached_prompt_tokens : 0;
    plots.hits.add({ now: prompt > 0 ? cached / prompt : null, overall: share(now.engine.cached_prompt_tokens, now.engine.prompt_tokens) });
    for (const name of ["ttft", "itl"]) {
      const counts = countsBetween(this.samples[0][name], now[name]);
      plots[name].add({ p50: percentile(now[name].bounds, counts, 0.5), p99: percentile(now[name].bounds, counts, 0.99) });
    }
    const steps = {};
    const times = {};
    for (const use of now.attention) {
      if (use.steps === 0) continue;
      const name = `${use.phase} ${use.backend}`;
      const old = before && before.attention.find((u) => u.attention_class === use.attention_class && u.phase === use.phase);
      // Classes of one step share its phase: the most is how many steps there were.
      steps[name] = Math.max(steps[name] || 0, old ? (use.steps - old.steps) / seconds : 0);
      times[name] = (times[name] || 0) + (old ? (use.seconds - old.seconds) / seconds : 0);
    }
    plots.steps.add(steps);
    plots.seconds.add(times);
  },

  drawRouter(uses) {
    const rows = uses.map((use) => {
      const row = make("tr", use.steps === 0 ? "unused" : "");
      row.append(make("td", "code", use.attention_class), make("td", "", use.phase), make("td", "code", use.backend), make("td", "why", use.reason));
      for (const value of [formats.count(use.steps), formats.count(use.rows), use.seconds.toFixed(2)]) row.append(make("td", "number", value));
      return row;
    });
    byId("router").replaceChildren(...rows);
  },
};

function share(part, whole) {
  return whole > 0 ? part / whole : 0;
}

function countsBetween(older, newer) {
  return newer.counts.map((count, i) => count - older.counts[i]);
}

// The q-th part of what a histogram counted, straight between a bucket's bounds; null when it is empty.
function percentile(bounds, counts, q) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  let below = 0;
  for (let i = 0; i < bounds.length; ++i) {
    if (below + counts[i] >= q * total) {
      const low = i > 0 ? bounds[i - 1] : 0;
      return low + (bounds[i] - low) * ((q * total - below) / counts[i]);
    }
    below += counts[i];
  }
  return bounds[bounds.length - 1];
}

function showAlert(message) {
  byId("alert").hidden = !message;
  byId("alert").textContent = message;
}
