// The table of all tracks: packed columns in, a page of rows out; search, filters, order, and one track opened.
const mgc = {};
const FEW_BARS = 3;
const FEW_TAGS = 8;
const [TAGGED, ABSTAINED, FAILED] = [0, 1, 2];

const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null) continue;
    key === "class" ? (element.className = value) : element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
};
const percent = (permille) => `${Math.round(permille / 10)} %`;
const clock = (seconds) => {
  if (seconds === null) return "–";
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};
const counted = (value) => value.toLocaleString("en-US").replaceAll(",", "\u202f");
const barOf = (permille) => {
  const filled = make("i");
  filled.style.width = `${permille / 10}%`;
  return make("span", { class: "bar", "aria-hidden": "true" }, filled);
};

async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

class Tracks {
  constructor(columns) {
    Object.assign(this, columns);
    this.size = this.name.length;
    this.width = 2 * this.genresATrack;
    this.tagStart = new Uint32Array(this.size + 1);
    for (let row = 0; row < this.size; row += 1) this.tagStart[row + 1] = this.tagStart[row] + 2 * this.tagCounts[row];
    this.failed = new Map(this.failures.map(([row, code, message]) => [row, { code, message }]));
    this.texts = new Array(this.size);
    // Genres and tags in the order of their names, so that rows compare by number.
    this.genreRank = ranks(this.genreNames);
  }

  genre(row) { return this.genres[row * this.width]; }
  sureness(row) { return this.genre(row) < 0 ? null : this.genres[row * this.width + 1]; }
  uri(row) { return this.folders[this.folder[row]] + this.name[row]; }

  pairsOf(row, flat, names, start, stop) {
    const found = [];
    for (let at = start; at < stop && flat[at] >= 0; at += 2) found.push([names[flat[at]], flat[at + 1]]);
    return found;
  }
  genresOf(row) {
    return this.pairsOf(row, this.genres, this.genreNames, row * this.width, (row + 1) * this.width);
  }
  tagsOf(row) { return this.pairsOf(row, this.tags, this.tagNames, this.tagStart[row], this.tagStart[row + 1]); }
  hasTag(row, tag) {
    for (let at = this.tagStart[row]; at < this.tagStart[row + 1]; at += 2) if (this.tags[at] === tag) return true;
    return false;
  }
  text(row) {
    if (this.texts[row] === undefined) {
      const failure = this.failed.get(row);
      const genre = this.genre(row);
      const words = failure ? [failure.code, failure.message] : this.tagsOf(row).map(([name]) => name);
      if (genre >= 0) words.push(this.genreNames[genre]);
      this.texts[row] = `${this.uri(row)} ${words.join(" ")}`.toLowerCase();
    }
    return this.texts[row];
  }
}

function ranks(names) {
  const order = names.map((name, number) => [name, number])
    .sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true, sensitivity: "base" }));
  const rank = new Array(names.length);
  order.forEach(([, number], place) => { rank[number] = place; });
  return rank;
}

class TrackTable {
  constructor(part, tracks) {
    this.part = part;
    this.tracks = tracks;
    this.body = part.querySelector("tbody");
    this.find = (name) => part.querySelector(`[data-${name}]`);
    this.order = { by: "uri", falling: false };
    this.first = 0;
    this.found = [];
    this.fillChoices();
    this.bindEvents();
    this.refresh();
  }

  fillChoices() {
    const { tracks } = this;
    const sorted = (names) => names.map((name, number) => [name, number]).sort(([a], [b]) => a.localeCompare(b));
    const likeliest = new Set();
    for (let row = 0; row < tracks.size; row += 1) likeliest.add(tracks.genre(row));
    for (const [name, number] of sorted(tracks.genreNames)) {
      if (likeliest.has(number)) this.find("genre").append(make("option", { value: number }, name));
    }
    for (const [name, number] of sorted(tracks.tagNames)) this.find("tag").append(make("option", { value: number }, name));
  }

  bindEvents() {
    const again = () => { this.first = 0; this.refresh(); };
    let waiting = 0;
    this.find("words").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(again, 60); });
    for (const name of ["state", "genre", "tag", "rows"]) this.find(name).addEventListener("change", again);
    for (const header of this.part.querySelectorAll("th[data-by]")) {
      const button = make("button", { type: "button" });
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => this.sortBy(header));
    }
    const turn = (pages) => () => { this.first += pages * this.perPage; this.show(); };
    this.find("before").addEventListener("click", turn(-1));
    this.find("after").addEventListener("click", turn(1));
    this.find("page").addEventListener("change", (event) => {
      this.first = (Math.round(Number(event.target.value) || 1) - 1) * this.perPage;
      this.show();
    });
  }

  sortBy(header) {
    const { by } = header.dataset;
    const was = header.getAttribute("aria-sort");
    const falling = was ? was === "ascending" : header.classList.contains("num");
    for (const other of this.part.querySelectorAll("th[data-by]")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    this.order = { by, falling };
    this.first = 0;
    this.refresh();
  }

  keys() {
    const { tracks } = this;
    if (this.order.by === "seconds") return (row) => tracks.seconds[row];
    if (this.order.by === "sureness") return (row) => tracks.sureness(row);
    if (this.order.by === "genre") return (row) => (tracks.genre(row) < 0 ? null : tracks.genreRank[tracks.genre(row)]);
    return (row) => row; // rows come in the order of their URIs
  }

  refresh() {
    const { tracks } = this;
    const words = this.find("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = this.find("state").value;
    const genre = this.find("genre").value === "" ? null : Number(this.find("genre").value);
    const tag = this.find("tag").value === "" ? null : Number(this.find("tag").value);
    const fits = (row) => {
      if (state === "now" ? !tracks.now[row] : state !== "" && tracks.state[row] !== Number(state)) return false;
      if (genre !== null && tracks.genre(row) !== genre) return false;
      if (tag !== null && !tracks.hasTag(row, tag)) return false;
      if (!words.length) return true;
      const text = tracks.text(row);
      return words.every((word) => text.includes(word));
    };
    this.found = [];
    for (let row = 0; row < tracks.size; row += 1) if (fits(row)) this.found.push(row);
    this.sort();
    this.show();
  }

  sort() {
    const key = this.keys();
    const sign = this.order.falling ? -1 : 1;
    if (this.order.by === "uri") {
      if (this.order.falling) this.found.reverse();
      return;
    }
    const value = new Float64Array(this.tracks.size);
    const missing = sign * Infinity; // what is not known stays last
    for (const row of this.found) value[row] = key(row) ?? missing;
    this.found.sort((a, b) => (value[a] === value[b] ? a - b : sign * (value[a] - value[b])));
  }

  get perPage() { return Number(this.find("rows").value); }

  show() {
    const last = Math.max(0, Math.ceil(this.found.length / this.perPage) - 1);
    const page = Math.min(Math.max(0, Math.floor(this.first / this.perPage)), last);
    this.first = page * this.perPage;
    const rows = this.found.slice(this.first, this.first + this.perPage);
    this.body.replaceChildren(...rows.map((row) => this.line(row)));
    if (!rows.length) {
      this.body.append(make("tr", {}, make("td", { colspan: "5", class: "quiet" }, "No track fits. Try fewer words, or show all.")));
    }
    const from = rows.length ? this.first + 1 : 0;
    const of = this.found.length === this.tracks.size ? "" : ` that fit, of ${counted(this.tracks.size)}`;
    this.part.querySelector("output").textContent =
      `${counted(from)}–${counted(this.first + rows.length)} of ${counted(this.found.length)} tracks${of}`;
    this.find("page").value = page + 1;
    this.find("page").max = last + 1;
    this.find("pages").textContent = counted(last + 1);
    this.find("before").disabled = page === 0;
    this.find("after").disabled = page === last;
  }

  line(row) {
    const { tracks } = this;
    const folder = tracks.folders[tracks.folder[row]].replace(/\/$/, "").split("/").pop();
    const open = make("button", { type: "button", class: "open", "aria-haspopup": "dialog" }, make("bdi", {}, tracks.name[row] || tracks.uri(row)));
    open.addEventListener("click", () => mgc.open(row));
    const name = make("th", { scope: "row", class: "name-cell", title: tracks.uri(row) }, open);
    if (folder) name.append(make("br"), make("bdi", { class: "ends" }, folder));
    const cells = [name, make("td", { class: "num" }, clock(tracks.seconds[row]))];
    const failure = tracks.failed.get(row);
    if (failure) {
      const content = make("td", { colspan: "3" }, make("strong", {}, "failed: "), make("code", {}, failure.code), " ");
      content.append(make("span", { class: "quiet" }, failure.message));
      return make("tr", { "data-row": row }, ...cells, content);
    }
    const odds = make("div", { class: "odds" });
    for (const [genre, p] of tracks.genresOf(row).slice(0, FEW_BARS)) {
      odds.append(make("bdi", { title: genre }, genre), barOf(p), make("span", { class: "num" }, percent(p)));
    }
    const sure = tracks.sureness(row);
    const sureness = make("td", { class: "num" }, sure === null ? "–" : percent(sure));
    if (tracks.state[row] === ABSTAINED) sureness.append(make("br"), make("span", { class: "few" }, "not sure"));
    const tags = tracks.tagsOf(row);
    const listed = make("td", {}, ...tags.slice(0, FEW_TAGS).map(([tag, p]) => tagOf(tag, p)));
    if (tags.length > FEW_TAGS) listed.append(` and ${tags.length - FEW_TAGS} more`);
    return make("tr", { "data-row": row }, ...cells, make("td", {}, odds), sureness, listed);
  }
}

const tagOf = (tag, p) => make("span", { class: "tag" }, make("bdi", {}, tag), ` ${percent(p)}`);

class TrackDialog {
  constructor(dialog, tracks, table) {
    Object.assign(this, { dialog, tracks, table, row: null });
    this.find = (name) => dialog.querySelector(`[data-${name}]`);
    this.find("close").addEventListener("click", () => dialog.close());
    this.find("previous").addEventListener("click", () => this.step(-1));
    this.find("next").addEventListener("click", () => this.step(1));
    this.find("place").addEventListener("click", () => { dialog.close(); mgc.map.focusRow(this.row); });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }

  step(by) {
    const at = this.table.found.indexOf(this.row);
    const next = this.table.found[at + by];
    if (next !== undefined) this.open(next);
  }

  open(row) {
    const { tracks } = this;
    this.row = row;
    const failure = tracks.failed.get(row);
    const uri = tracks.uri(row);
    this.find("name").textContent = tracks.name[row] || uri;
    this.find("facts").textContent = [
      clock(tracks.seconds[row]) === "–" ? null : `${clock(tracks.seconds[row])} long`,
      failure ? "failed" : tracks.state[row] === ABSTAINED ? "not sure of the genre: the ensemble abstained" : "tagged",
      tracks.now[row] ? "in this run" : "in an earlier run",
    ].filter(Boolean).join(" · ");
    this.find("uri").textContent = uri;
    const play = this.find("play");
    play.hidden = !(location.protocol === "file:" && uri.startsWith("/"));
    if (!play.hidden) play.href = `file://${uri.split("/").map(encodeURIComponent).join("/")}`;
    this.find("answer").replaceChildren(...(failure ? this.failure(failure) : this.answer(row)));
    this.find("place").hidden = !mgc.map?.has(row);
    const at = this.table.found.indexOf(row);
    this.find("previous").disabled = at <= 0;
    this.find("next").disabled = at < 0 || at === this.table.found.length - 1;
    if (!this.dialog.open) this.dialog.showModal();
  }

  answer(row) {
    const { tracks } = this;
    const genres = make("ul", { class: "bars", "aria-label": "Genres" });
    for (const [genre, p] of tracks.genresOf(row)) {
      genres.append(make("li", {}, make("span", { class: "who", title: genre }, make("bdi", {}, genre)), barOf(p),
        make("span", { class: "num" }, `${(p / 10).toFixed(1)} %`)));
    }
    const tags = tracks.tagsOf(row);
    const listed = make("p", {}, ...tags.map(([tag, p]) => tagOf(tag, p)));
    if (!tags.length) listed.append("none at the threshold");
    return [make("h3", {}, "Genres"), genres, make("h3", {}, "Tags"), listed];
  }

  failure({ code, message }) {
    const meaning = document.getElementById(`code-${code}`);
    const content = [make("p", {}, make("code", {}, code), " ", message)];
    if (meaning) content.push(make("p", { class: "quiet" }, meaning.textContent));
    return content;
  }
}

async function openTracks() {
  const part = document.getElementById("tracks");
  const packed = document.getElementById("packed");
  if (!part || !packed) return;
  if (!("DecompressionStream" in window)) {
    part.querySelector("output").textContent = "This browser is too old to unpack all tracks: the first ones are shown.";
    return;
  }
  const tracks = new Tracks(await unpack(packed.content.textContent));
  packed.remove();
  mgc.tracks = tracks;
  mgc.table = new TrackTable(part, tracks);
  const dialog = new TrackDialog(document.getElementById("one-track"), tracks, mgc.table);
  mgc.open = (row) => dialog.open(row);
  const map = document.getElementById("map");
  if (map && tracks.map) mgc.map = new TrackMap(map, tracks);
  document.documentElement.classList.add("unpacked");
  performance.mark("mgc-unpacked");
}
openTracks();
