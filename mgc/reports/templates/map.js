// The map of tracks: a mark a track, its shape and colour by genre, hollow where the ensemble abstained.
const GENRES_MARKED = 11;
const NEAR = 14; // pixels from the pointer
const OTHER = GENRES_MARKED;
const SHAPES = ["circle", "square", "triangle", "diamond", "plus", "fall", "cross", "hexagon", "bar", "star", "pillar", "dot"];

const polygon = (points) => (path, x, y, r) => {
  points.forEach(([dx, dy], number) => (number ? path.lineTo(x + dx * r, y + dy * r) : path.moveTo(x + dx * r, y + dy * r)));
  path.closePath();
};
const around = (n, turn, radii = [1.1]) => Array.from({ length: n }, (_, k) => {
  const angle = turn + (2 * Math.PI * k) / n;
  return [radii[k % radii.length] * Math.cos(angle), radii[k % radii.length] * Math.sin(angle)];
});
const CROSS = [[-0.35, -1], [0.35, -1], [0.35, -0.35], [1, -0.35], [1, 0.35], [0.35, 0.35], [0.35, 1], [-0.35, 1], [-0.35, 0.35], [-1, 0.35], [-1, -0.35], [-0.35, -0.35]];
const turned = (points) => points.map(([x, y]) => [(x - y) * 0.75, (x + y) * 0.75]);
const DRAW = {
  circle: (path, x, y, r) => { path.moveTo(x + r, y); path.arc(x, y, r, 0, 2 * Math.PI); },
  square: polygon([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]),
  triangle: polygon(around(3, -Math.PI / 2, [1.25])),
  diamond: polygon(around(4, 0, [1.25])),
  plus: polygon(CROSS),
  fall: polygon(around(3, Math.PI / 2, [1.25])),
  cross: polygon(turned(CROSS)),
  hexagon: polygon(around(6, 0)),
  bar: polygon([[-1.2, -0.45], [1.2, -0.45], [1.2, 0.45], [-1.2, 0.45]]),
  star: polygon(around(10, -Math.PI / 2, [1.35, 0.6])),
  pillar: polygon([[-0.45, -1.2], [0.45, -1.2], [0.45, 1.2], [-0.45, 1.2]]),
  dot: (path, x, y, r) => { path.moveTo(x + 0.5 * r, y); path.arc(x, y, 0.5 * r, 0, 2 * Math.PI); },
};

class TrackMap {
  constructor(part, tracks) {
    Object.assign(this, { part, tracks, at: null, hidden: new Set() });
    this.canvas = part.querySelector("canvas");
    this.tip = part.querySelector("[data-tip]");
    this.status = part.querySelector("[data-status]");
    this.points = tracks.map.row.map((row, number) => ({ row, u: tracks.map.x[number] / 4000, v: 1 - tracks.map.y[number] / 4000 }));
    this.place = new Map(this.points.map((point, number) => [point.row, number]));
    this.rankGenres();
    this.legend();
    this.bindEvents();
    this.resize();
  }

  has(row) { return this.place.has(row); }

  rankGenres() {
    const counts = new Map();
    for (const { row } of this.points) counts.set(this.tracks.genre(row), (counts.get(this.tracks.genre(row)) || 0) + 1);
    const names = [...counts].filter(([genre]) => genre >= 0).sort(([a, n], [b, m]) => m - n || a - b);
    // By name, so that a genre keeps its mark when another one becomes the commonest.
    const called = ([genre]) => this.tracks.genreNames[genre];
    this.marks = names.slice(0, GENRES_MARKED).sort((one, two) => (called(one) < called(two) ? -1 : 1));
    const kind = new Map(this.marks.map(([genre], number) => [genre, number]));
    for (const point of this.points) point.kind = kind.get(this.tracks.genre(point.row)) ?? OTHER;
    this.others = this.points.filter((point) => point.kind === OTHER).length;
  }

  legend() {
    const list = this.part.querySelector("[data-legend]");
    const names = this.marks.map(([genre, count]) => [this.tracks.genreNames[genre], count]);
    if (this.others) names.push(["other genres", this.others]);
    names.forEach(([name, count], number) => {
      const kind = number < this.marks.length ? number : OTHER;
      const button = make("button", { type: "button", "aria-pressed": "true" });
      const mark = make("canvas", { width: 32, height: 32, "aria-hidden": "true" });
      button.append(mark, make("bdi", {}, name), make("span", { class: "ends" }, counted(count)));
      button.addEventListener("click", () => {
        const off = button.getAttribute("aria-pressed") === "true";
        button.setAttribute("aria-pressed", String(!off));
        off ? this.hidden.add(kind) : this.hidden.delete(kind);
        this.draw();
      });
      list.append(make("li", {}, button));
      (this.keys ??= []).push([mark, kind]);
    });
  }

  bindEvents() {
    const { canvas } = this;
    const near = (event) => {
      const box = canvas.getBoundingClientRect();
      return this.nearest(event.clientX - box.left, event.clientY - box.top);
    };
    canvas.addEventListener("pointermove", (event) => this.highlight(near(event)));
    canvas.addEventListener("pointerleave", () => { if (document.activeElement !== canvas) this.highlight(null); });
    canvas.addEventListener("click", (event) => { const found = near(event); if (found !== null) mgc.open(this.points[found].row); });
    canvas.addEventListener("focus", () => { if (this.at === null && canvas.matches(":focus-visible")) this.highlight(this.middle(), true); });
    canvas.addEventListener("blur", () => this.highlight(null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  key(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (ways[event.key]) {
      event.preventDefault();
      this.highlight(this.at === null ? this.middle() : this.towards(...ways[event.key]), true);
    } else if ((event.key === "Enter" || event.key === " ") && this.at !== null) {
      event.preventDefault();
      mgc.open(this.points[this.at].row);
    } else if (event.key === "Escape") this.highlight(null);
  }

  seen(point) { return !this.hidden.has(point.kind); }
  nearest(x, y, limit = NEAR) {
    let best = null, least = limit ** 2;
    this.points.forEach((point, number) => {
      const far = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (far < least && this.seen(point)) [best, least] = [number, far];
    });
    return best;
  }
  middle() { return this.nearest(this.width / 2, this.height / 2, Infinity); }
  towards(dx, dy) {
    const from = this.points[this.at];
    let best = this.at, least = Infinity;
    this.points.forEach((point, number) => {
      const [x, y] = [point.x - from.x, point.y - from.y];
      const along = x * dx + y * dy;
      const across = Math.abs(x * dy - y * dx);
      if (number !== this.at && along > 0.5 && across <= along && this.seen(point) && along + 2 * across < least) {
        [best, least] = [number, along + 2 * across];
      }
    });
    return best;
  }

  focusRow(row) {
    this.part.scrollIntoView({ block: "center" });
    this.canvas.focus({ preventScroll: true });
    this.highlight(this.place.get(row), true);
  }

  highlight(number, announce = false) {
    if (number === this.at) return;
    this.at = number;
    this.draw();
    this.tip.hidden = number === null;
    if (number === null) return;
    const { row, x, y } = this.points[number];
    const [genre, p] = this.tracks.genresOf(row)[0] ?? ["no genre", 0];
    const unsure = this.tracks.state[row] === ABSTAINED ? ", not sure" : "";
    const text = `${genre} ${percent(p)}${unsure}`;
    this.tip.replaceChildren(make("strong", {}, make("bdi", {}, this.tracks.name[row])), make("br"), text);
    if (announce) this.status.textContent = `${this.tracks.name[row]}: ${text}`;
    const box = this.tip.getBoundingClientRect();
    this.tip.style.left = `${Math.max(0, Math.min(this.width - box.width, x - box.width / 2))}px`;
    this.tip.style.top = `${y > box.height + 18 ? y - box.height - 14 : y + 16}px`;
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    if (!box.width || (box.width === this.width && box.height === this.height)) return;
    [this.width, this.height] = [box.width, box.height];
    const edge = 14;
    for (const point of this.points) {
      point.x = edge + point.u * (this.width - 2 * edge);
      point.y = edge + point.v * (this.height - 2 * edge);
    }
    const { at } = this;
    this.at = null;
    at === null ? this.draw() : this.highlight(at);
  }

  colours() {
    const style = getComputedStyle(this.part);
    return { ink: style.getPropertyValue("--ink"), surface: style.getPropertyValue("--surface"),
      marks: SHAPES.map((_, number) => style.getPropertyValue(`--mark-${number}`)) };
  }

  mark(pen, kind, x, y, r, colour, hollow) {
    pen.beginPath();
    DRAW[SHAPES[kind]](pen, x, y, r);
    pen.strokeStyle = hollow ? colour : this.shade.surface;
    pen.lineWidth = hollow ? 1.4 : 0.7;
    if (!hollow) { pen.fillStyle = colour; pen.fill(); }
    pen.stroke();
  }

  pen(canvas, width, height) {
    const scale = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    return pen;
  }

  draw() {
    this.shade = this.colours();
    const pen = this.pen(this.canvas, this.width, this.height);
    const radius = (this.points.length > 1500 ? 4.2 : 5.2) * (this.width < 600 ? 0.7 : 1);
    for (const point of this.points) {
      if (!this.seen(point)) continue;
      this.mark(pen, point.kind, point.x, point.y, radius, this.shade.marks[point.kind], this.tracks.state[point.row] === ABSTAINED);
    }
    for (const [canvas, kind] of this.keys) this.mark(this.pen(canvas, 16, 16), kind, 8, 8, 5.5, this.shade.marks[kind], false);
    if (this.at !== null) {
      const { x, y, kind } = this.points[this.at];
      this.mark(pen, kind, x, y, radius + 2, this.shade.marks[kind], false);
      pen.beginPath();
      pen.arc(x, y, radius + 7, 0, 2 * Math.PI);
      pen.strokeStyle = this.shade.ink;
      pen.lineWidth = 2;
      pen.stroke();
    }
  }
}
