"use strict";
// Takes the list over from its first rows: all associations from the page's data, to choose from, sort and open.
(() => {
  const data = JSON.parse(document.getElementById("list-data").textContent);
  const table = document.getElementById("list"), more = document.getElementById("list-more");
  const status = document.getElementById("list-status"), controls = document.getElementById("list-controls");
  const STEP = 25, WORDS = ["text", "choice"];
  const heads = [["link", "Association", "link"], ...data.columns];
  let by = heads.findIndex(([key]) => key === data.sorted), down = true, limit = STEP, chosen = data.rows;
  const filters = [];
  // What is folded is made when it is opened, and printed too.
  let toPrint = [];
  addEventListener("beforeprint", () => toPrint.forEach((fill) => fill()));

  const make = (tag, values = {}, ...inside) => {
    const element = Object.assign(document.createElement(tag), values);
    element.append(...inside);
    return element;
  };
  const minus = (text) => text.replace("-", "−");
  const whole = (value) => minus(value.toLocaleString("en", { maximumFractionDigits: 1 }));
  const text = (kind, value) => {
    if (value === null) return "–";
    if (kind === "part") return `${whole(value[0])} of ${whole(value[1])}`;
    if (WORDS.includes(kind)) return value;
    if (kind === "share") return `${value}%`;
    if (kind === "number") return minus(value.toFixed(2));
    return (kind === "change" && value > 0 ? "+" : "") + whole(value);
  };
  const cell = (kind, value) => {
    const td = make("td", {}, make("bdi", { textContent: text(kind, value) }));
    if (WORDS.includes(kind)) td.className = "words";
    if (kind === "part" && value !== null && value[1]) {
      td.className = "part";
      td.style.setProperty("--part", (value[0] / value[1]).toFixed(3));
    }
    return td;
  };
  const words = ([link]) => link.slice(0, 4).join(" ").toLowerCase();
  const key = (row) => {
    if (by === 0) return words(row);
    const value = row[1][by - 1];
    return Array.isArray(value) ? value[0] / value[1] + value[1] * 1e-9 : value;
  };

  const evidence = (row) => {
    const [, , opens, notes, rows] = row;
    const summary = make("summary", { textContent: opens }), details = make("details", { className: "stay" }, summary);
    const fill = () => {
      if (details.childElementCount > 1) return;
      details.append(...notes.map((note) => make("p", { textContent: note })));
      if (!rows.length) return;
      const head = make("tr", {}, ...data.asked.map(([name, kind]) =>
        make("th", { scope: "col", textContent: name, className: WORDS.includes(kind) ? "words" : "" })));
      const body = rows.map((each) => make("tr", {}, ...each.map((value, place) => cell(data.asked[place][1], value))));
      const label = summary.textContent;
      details.append(make("table", { ariaLabel: label }, make("thead", {}, head), make("tbody", {}, ...body)));
    };
    details.addEventListener("toggle", fill);
    toPrint.push(fill);
    return make("tr", { className: "evidence" }, make("td", { colSpan: heads.length }, details));
  };
  const body = (row) => {
    const [given, answer, then, implied, wanted] = row[0];
    const link = make("th", { scope: "row" },
      make("bdi", { className: "from" }, make("span", { textContent: given }), ` ${answer}`), " ",
      make("bdi", { className: "to" }, make("span", { textContent: `→ ${then}` }), ` ${implied}`));
    const cells = row[1].map((value, place) => cell(data.columns[place][2], value));
    const rows = [make("tr", {}, link, ...cells), ...(row.length > 2 ? [evidence(row)] : [])];
    return make("tbody", { className: wanted ? "wanted" : "unwanted" }, ...rows);
  };

  const draw = () => {
    const shown = chosen.slice(0, limit), left = chosen.length - shown.length;
    toPrint = [];
    [...table.tBodies].forEach((each) => each.remove());
    table.append(...shown.map(body));
    const all = data.rows.length.toLocaleString("en"), found = chosen.length.toLocaleString("en");
    status.textContent = (chosen.length < data.rows.length ? `${found} of ${all} associations` : `${all} associations`) +
      (left ? `, the first ${shown.length.toLocaleString("en")} shown` : "");
    more.hidden = !left;
    more.textContent = `Show ${Math.min(STEP, left)} more`;
  };
  const choose = () => {
    chosen = data.rows.filter((row) => filters.every((keeps) => keeps(row)));
    const sign = down ? -1 : 1;
    // Rows without a value come last either way; equal ones keep the order they came in.
    chosen = chosen.map((row) => [key(row), row]).sort(([a], [b]) => (a === null) - (b === null) ||
      sign * (a < b ? -1 : a > b ? 1 : 0)).map(([, row]) => row);
    limit = STEP;
    draw();
  };
  const select = (name, options, keeps) => {
    const list = make("select", {}, make("option", { value: "", textContent: "all" }),
      ...options.map((each) => make("option", { value: each, textContent: each })));
    filters.push((row) => !list.value || keeps(row) === list.value);
    list.addEventListener("change", choose);
    controls.append(make("label", {}, `${name} `, list));
  };

  const search = make("input", { type: "search", autocomplete: "off", size: 24, placeholder: "an answer, or part of one" });
  filters.push((row) => search.value.toLowerCase().split(/\s+/).every((part) => words(row).includes(part)));
  search.addEventListener("input", choose);
  controls.append(make("label", {}, "Find ", search));
  const implication = (row) => `${row[0][0]} → ${row[0][2]}`;
  const each = (of) => [...new Set(data.rows.map(of))];
  if (each(implication).length > 1) select("Link", each(implication), implication);
  data.columns.forEach(([, name, kind], place) => {
    const of = (row) => row[1][place];
    if (kind === "choice" && each(of).length > 1) select(name, each(of), of);
  });

  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = make("button", { type: "button", textContent: head.textContent });
    button.addEventListener("click", () => {
      down = by === place ? !down : place > 0 && !WORDS.includes(heads[place][2]);
      by = place;
      [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      choose();
    });
    head.replaceChildren(button);
  });
  more.addEventListener("click", () => {
    const first = limit;
    limit += STEP;
    draw();
    // Keyboard and screen reader go on where the new rows begin.
    const next = table.tBodies[first]?.querySelector("summary");
    if (next) next.focus();
  });
  controls.hidden = false;
  draw();
})();
