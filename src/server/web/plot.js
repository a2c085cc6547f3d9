// A card with lines over the last two minutes. Pointing at the plot shows that moment's values.
const PLOT_POINTS = 121;

class Plot {
  // Lines come with their first value.
  constructor(parent, title, format) {
    this.title = title;
    this.format = format;
    this.series = new Map();  // name -> {values, path, value: the element in the legend}
    this.length = 0;
    this.pointed = -1;
    const card = make("article", "card plot");
    card.append(make("h2", "", title));
    this.max = make("span", "max");
    this.svg = this.element("svg", { viewBox: "0 0 120 40", preserveAspectRatio: "none", role: "img" });
    for (const y of [0.5, 20, 39.5]) this.svg.append(this.element("line", { x1: 0, x2: 120, y1: y, y2: y }));
    this.cursor = this.element("line", { y1: 0, y2: 40, class: "cursor", visibility: "hidden" });
    this.svg.append(this.cursor);
    this.legend = make("ul", "legend");
    card.append(this.max, this.svg, this.legend);
    parent.append(card);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.point(null));
  }

  element(tag, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  line(name) {
    let line = this.series.get(name);
    if (line) return line;
    const color = "s" + (this.series.size % 5);
    line = { values: new Array(this.length).fill(null), path: this.element("path", { class: color }) };
    this.svg.append(line.path);
    const item = make("li");
    line.value = make("b");
    item.append(make("i", color), name + " ", line.value);
    this.legend.append(item);
    this.series.set(name, line);
    return line;
  }

  // values: {name: number, or null where there is none}
  add(values) {
    for (const name of Object.keys(values)) this.line(name);
    this.length = Math.min(this.length + 1, PLOT_POINTS);
    for (const [name, line] of this.series) {
      line.values.push(values[name] ?? null);
      if (line.values.length > this.length) line.values.shift();
    }
    this.draw();
  }

  draw() {
    let most = 0;
    for (const { values } of this.series.values()) most = Math.max(most, ...values.map((v) => v ?? 0));
    const top = roundUp(most);
    this.max.textContent = most > 0 ? this.format(top) : "";
    const spoken = [];
    for (const [name, line] of this.series) {
      let d = "";
      let pen = "M";
      line.values.forEach((value, i) => {
        if (value === null) {
          pen = "M";
          return;
        }
        const x = 120 - (line.values.length - 1 - i);
        d += `${pen}${x} ${(39.2 - 38.4 * (top > 0 ? value / top : 0)).toFixed(2)}`;
        pen = "L";
      });
      line.path.setAttribute("d", d);
      spoken.push(`${name} ${this.show(line)}`);
    }
    this.svg.setAttribute("aria-label", `${this.title}: ${spoken.join(", ")}`);
  }

  // Writes the pointed or the latest value into the legend.
  show(line) {
    const at = this.pointed < 0 ? line.values.length - 1 : this.pointed - (PLOT_POINTS - line.values.length);
    const value = line.values[at] ?? null;
    line.value.textContent = value === null ? "–" : this.format(value);
    return line.value.textContent;
  }

  point(event) {
    this.pointed = -1;
    if (event) {
      const box = this.svg.getBoundingClientRect();
      this.pointed = Math.round(((event.clientX - box.left) / box.width) * (PLOT_POINTS - 1));
      this.cursor.setAttribute("x1", this.pointed);
      this.cursor.setAttribute("x2", this.pointed);
    }
    this.cursor.setAttribute("visibility", event ? "visible" : "hidden");
    for (const line of this.series.values()) this.show(line);
  }
}

// The next 1, 2 or 5 times a power of ten.
function roundUp(value) {
  if (!(value > 0)) return 0;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((m) => m * power).find((m) => m >= value * 0.9999);
}

const formats = {
  count: (v) => (v >= 1e6 ? (v / 1e6).toFixed(2) + "M" : v >= 1e4 ? (v / 1e3).toFixed(1) + "k" : v >= 100 || Number.isInteger(v) ? v.toFixed(0) : v.toFixed(1)),
  percent: (v) => (100 * v).toFixed(v > 0 && v < 0.1 ? 1 : 0) + " %",
  seconds: (v) => (v < 0.001 ? (v * 1e6).toFixed(0) + " µs" : v < 1 ? (v * 1e3).toFixed(v < 0.1 ? 1 : 0) + " ms" : v.toFixed(2) + " s"),
};
