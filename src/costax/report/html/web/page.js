"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value != null) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  };

  // Numbers with three significant digits and a prefix.
  const scaled = (x, base, prefixes, unit) => {
    if (x === 0) return `0${unit ? " " + unit : ""}`;
    let power = 0;
    let value = Math.abs(x);
    while (Number(value.toPrecision(3)) >= base && power < prefixes.length - 1) { value /= base; power += 1; }
    const text = power === 0 && Number.isInteger(x) ? String(value) : String(Number(value.toPrecision(3)));
    return `${x < 0 ? "-" : ""}${text} ${prefixes[power]}${unit}`.trim();
  };
  const short = (x) => scaled(x, 1000, ["", "k", "M", "G", "T", "P", "E", "Z", "Y"], "");
  const bytes = (x) => scaled(x, 1024, ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"], "B");
  const seconds = (x) => {
    if (!x) return "0 s";
    const [factor, unit] = x >= 1 ? [1, "s"] : x >= 1e-3 ? [1e3, "ms"] : x >= 1e-6 ? [1e6, "us"] : [1e9, "ns"];
    return `${Number((x * factor).toPrecision(3))} ${unit}`;
  };
  const formats = { count: short, bytes, seconds };
  const exactly = (x) => (Number.isSafeInteger(x) ? x.toLocaleString("en-US") : short(x));

  // Formulas: integers, fractions, names, functions, + - * ^, as costax writes them.
  const known = {};
  const point = Object.fromEntries((data.symbols || []).map((symbol) => [symbol.name, symbol.value]));
  const functions = {
    floordiv: (a, b) => Math.floor(a / b), max: Math.max, min: Math.min,
    ceil_log2: (a) => Math.ceil(Math.log2(a)), ceil_log2_of_power: (a, b) => Math.ceil(b * Math.log2(a)),
  };
  const compiled = (text) => {
    if (known[text]) return known[text];
    const tokens = text.match(/\d+\/\d+|\d+|[A-Za-z_][\w/]*|`[^`]*`|'[^']*'|[-+*^(),]/g) || [];
    let at = 0;
    const sum = () => {
      let left = tokens[at] === "-" ? (at += 1, negated(product())) : product();
      while (tokens[at] === "+" || tokens[at] === "-") {
        const minus = tokens[at++] === "-";
        const [a, b] = [left, product()];
        left = minus ? () => a() - b() : () => a() + b();
      }
      return left;
    };
    const negated = (a) => () => -a();
    const product = () => {
      let left = power();
      while (tokens[at] === "*") { at += 1; const [a, b] = [left, power()]; left = () => a() * b(); }
      return left;
    };
    const power = () => {
      const base = atom();
      if (tokens[at] !== "^") return base;
      const exponent = Number(tokens[at + 1]);
      at += 2;
      return () => base() ** exponent;
    };
    const atom = () => {
      const token = tokens[at++];
      if (token === "(") { const inner = sum(); at += 1; return inner; }
      if (/^\d/.test(token)) { const [a, b = 1] = token.split("/").map(Number); return () => a / b; }
      if (tokens[at] === "(") {
        at += 1;
        const operands = [sum()];
        while (tokens[at] === ",") { at += 1; operands.push(sum()); }
        at += 1;
        return () => functions[token](...operands.map((operand) => operand()));
      }
      const name = token.replace(/^[`']|[`']$/g, "");
      return () => point[name];
    };
    return (known[text] = sum());
  };
  const value = (x) => (typeof x === "string" ? compiled(x)() : x);

  // Theme: that of the system, until the user selects one.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const drawings = [];
  const setTheme = (dark) => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    $("theme").textContent = dark ? "Light" : "Dark";
    drawings.forEach((draw) => draw());
  };
  const layout = (more) => ({
    paper_bgcolor: colour("--back"), plot_bgcolor: colour("--back"), font: { color: colour("--text"), size: 13 },
    margin: { l: 70, r: 20, t: 20, b: 60 }, hoverlabel: { align: "left" }, ...more,
  });
  const axis = (title, more) => ({
    title: { text: title }, gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line"),
    automargin: true, ...more,
  });
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["sendDataToCloud"] };
  // The palette of Okabe and Ito, which colour-blind readers can distinguish.
  const palette = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999"];
  const draw = (id, traces, more) => Plotly.react($(id), traces, layout(more), config);
  const announce = (text) => { $("status").textContent = text; };

  // Layers: the tree, merged or not, as nodes with parents.
  let whole = [];
  let merged = true;
  const flatten = () => {
    const nodes = [];
    const visit = (node, parent, path) => {
      const id = String(nodes.length);
      const entry = { id, parent, name: node.n, path, raw: node.t, children: [], depth: parent ? parent.depth + 1 : 0 };
      nodes.push(entry);
      if (parent) parent.children.push(entry);
      (node.c || []).forEach((child) => visit(child, entry, path ? `${path}/${child.n}` : child.n));
    };
    visit(merged ? data.trees.merged : data.trees.full, null, "");
    return nodes;
  };
  const timed = data.columns.findIndex((column) => column.device);
  const machine = () => (data.devices ? Object.keys(data.devices).indexOf($("device").value) : 0);
  const amount = (node, column) => value(node.raw[column === timed ? timed + machine() : column]);

  // Cards.
  const drawCards = () => {
    $("cards").replaceChildren(...data.cards.map((card) => {
      const number = card.amount == null ? null : value(card.amount);
      const shown = number == null ? card.value : formats[card.format](number);
      const formula = typeof card.amount === "string" ? card.amount : "";
      const exact = formula ? `${exactly(number)} = ${formula}` : card.exact || (number == null ? "" : exactly(number));
      return make("div", { class: "card" }, make("div", { class: "label" }, card.label),
        make("div", { class: "value" }, shown), make("div", { class: "exact" }, exact));
    }));
  };

  // Icicle.
  let root = "0";
  const weight = () => Number($("weight").value);
  const drawIcicle = () => {
    const column = weight();
    const format = formats[data.columns[column].format];
    const total = amount(whole[0], column) || 1;
    draw("icicle", [{
      type: "icicle", branchvalues: "total", level: root,
      ids: whole.map((node) => node.id), labels: whole.map((node) => node.name),
      parents: whole.map((node) => (node.parent ? node.parent.id : "")),
      values: whole.map((node) => amount(node, column)),
      text: whole.map((node) => `${format(amount(node, column))}, ${((100 * amount(node, column)) / total).toFixed(1)} %`),
      customdata: whole.map((node) => node.path || node.name), textinfo: "label+text",
      hovertemplate: "%{customdata}<br>%{text}<extra></extra>", tiling: { orientation: "v" },
      marker: { colors: whole.map((node) => palette[hue(node)]), line: { width: 1, color: colour("--back") } },
      pathbar: { visible: true, thickness: 26 },
    }], { margin: { l: 5, r: 5, t: 30, b: 5 } });
    $("icicle").setAttribute("aria-label",
      `Icicle of ${data.columns[column].name} by layer; the table of layers holds the same numbers.`);
  };
  const hue = (node) => {
    let top = node;
    while (top.parent && top.parent.parent && top.depth > 2) top = top.parent;
    return top.parent ? top.parent.children.indexOf(top) % palette.length : 7;
  };
  const zoom = (id) => {
    root = id;
    drawIcicle();
    announce(`Icicle shows ${whole[Number(id)].path || whole[0].name}`);
  };

  // Table of layers.
  const open = new Set();
  let order = { column: -1, descending: true };
  const sorted = (nodes) => {
    if (order.column < 0) return order.descending ? nodes : [...nodes].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    const sign = order.descending ? -1 : 1;
    return [...nodes].sort((a, b) => sign * (amount(a, order.column) - amount(b, order.column)));
  };
  const drawLayers = () => {
    const query = $("search").value.trim().toLowerCase();
    const hits = new Set();
    const kept = new Set();
    if (query) {
      whole.forEach((node) => {
        if (!node.parent || !`${node.path}`.toLowerCase().includes(query)) return;
        if (node.name.toLowerCase().includes(query) || !node.parent.path.toLowerCase().includes(query)) hits.add(node);
        for (let up = node; up; up = up.parent) kept.add(up);
      });
    }
    const column = weight();
    const total = amount(whole[0], column) || 1;
    const rows = [];
    const visit = (node) => {
      sorted(node.children).forEach((child) => {
        if (query && !kept.has(child)) return;
        const unfolded = query ? child.children.some((below) => kept.has(below)) : open.has(child.path);
        rows.push(row(child, unfolded, hits.has(child), column, total));
        if (unfolded) visit(child);
      });
    };
    visit(whole[0]);
    $("layers").tBodies[0].replaceChildren(...rows);
    $("share").textContent = `% ${data.columns[column].name}`;
    $("matches").textContent = query ? `${hits.size} match${hits.size === 1 ? "" : "es"}` : "";
    $("layers").tFoot.replaceChildren(make("tr", {}, make("td", {}, "total"),
      ...data.columns.map((c, i) => make("td", {}, formats[c.format](amount(whole[0], i)))), make("td", {}, "100.0")));
    [...$("layers").tHead.rows[0].cells].forEach((cell, i) => {
      const active = i - 1 === order.column && (i > 0 || !order.descending);
      cell.setAttribute("aria-sort", active ? (order.descending ? "descending" : "ascending") : "none");
    });
  };
  const row = (node, unfolded, hit, column, total) => {
    const twist = node.children.length
      ? make("button", { class: "twist", "aria-expanded": String(unfolded), "aria-label": `${unfolded ? "fold" : "unfold"} ${node.path}`,
        onclick: () => { toggle(node); } }, unfolded ? "\u25be" : "\u25b8")
      : make("span", { class: "twist" });
    const name = make("button", { title: "Show in the icicle", onclick: () => zoom(node.id) }, node.name);
    const first = make("td", { style: `padding-left:${0.5 + 1.2 * (node.depth - 1)}rem` }, twist, name);
    const share = (100 * amount(node, column)) / total;
    return make("tr", { class: hit ? "hit" : null, "data-path": node.path }, first,
      ...data.columns.map((c, i) => make("td", { title: exactly(amount(node, i)) }, formats[c.format](amount(node, i)))),
      make("td", {}, share.toFixed(1), make("span", { class: "share", style: `width:${Math.max(0, share) * 0.6}px` })));
  };
  const toggle = (node) => {
    if (open.has(node.path)) open.delete(node.path); else open.add(node.path);
    drawLayers();
    const again = $("layers").querySelector(`tr[data-path="${CSS.escape(node.path)}"] .twist`);
    if (again) again.focus();
  };
  const startLayers = () => {
    const heading = (name, column) => make("th", { scope: "col" }, make("button", {
      onclick: () => {
        const same = order.column === column;
        order = { column, descending: same ? !order.descending : column >= 0 };
        drawLayers();
      },
    }, name));
    $("layers").tHead.replaceChildren(make("tr", {}, heading("layer", -1),
      ...data.columns.map((column, i) => heading(column.name, i)), make("th", { scope: "col", id: "share" }, "%")));
    $("search").addEventListener("input", drawLayers);
    $("unfold").addEventListener("click", () => { whole.forEach((node) => node.children.length && open.add(node.path)); drawLayers(); });
    $("fold").addEventListener("click", () => { open.clear(); drawLayers(); });
  };
  // Unfold the costliest layers until the table has 12 lines.
  const unfoldSome = () => {
    let shown = [...whole[0].children];
    while (shown.length && shown.length < 12) {
      const next = shown.filter((node) => node.children.length && !open.has(node.path))
        .sort((a, b) => amount(b, 0) - amount(a, 0))[0];
      if (!next) break;
      open.add(next.path);
      shown = shown.concat(next.children);
    }
  };
  const load = () => {
    whole = flatten();
    root = "0";
    unfoldSome();
    drawIcicle();
    drawLayers();
  };

  // Other tables.
  const startSimple = () => {
    const shown = () => data.tables[$("by").value];
    const drawTable = () => {
      const total = value(data.trees.full.t[weight()]) || 1;
      $("others").tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, $("by").value),
        ...data.columns.filter((c) => c.everywhere).map((c) => make("th", { scope: "col" }, c.name)), make("th", { scope: "col" }, "%")));
      const column = data.columns[weight()].everywhere ? weight() : 0;
      $("others").tBodies[0].replaceChildren(...shown().map((entry) => make("tr", {}, make("td", {}, entry.n),
        ...entry.t.map((x, i) => make("td", { title: exactly(value(x)) }, formats[data.columns[i].format](value(x)))),
        make("td", {}, ((100 * value(entry.t[column])) / total).toFixed(1)))));
    };
    $("by").addEventListener("change", drawTable);
    return drawTable;
  };

  // Roofline.
  const drawRoofline = () => {
    const device = data.devices[$("device").value];
    const points = device.parts.filter((part) => part.flops > 0 && part.bytes > 0 && part.seconds > 0);
    const x = points.map((part) => part.flops / part.bytes);
    const y = points.map((part) => (part.flops * part.times) / part.seconds);
    const most = Math.max(...points.map((part) => part.seconds), 1e-12);
    const low = Math.min(...x, device.ridge || 1) / 2;
    const high = Math.max(...x, device.ridge || 1) * 4;
    const bounds = [...new Set(points.map((part) => part.bound))].sort();
    const traces = bounds.map((bound, i) => {
      const chosen = points.map((_, j) => j).filter((j) => points[j].bound === bound);
      return {
        type: "scatter", mode: "markers", name: `bound by ${bound}`, x: chosen.map((j) => x[j]), y: chosen.map((j) => y[j]),
        marker: {
          color: palette[i], symbol: ["circle", "diamond", "square", "triangle-up"][i % 4], opacity: 0.75,
          size: chosen.map((j) => 5 + 25 * Math.sqrt(points[j].seconds / most)), line: { width: 1, color: colour("--back") },
        },
        text: chosen.map((j) => `${points[j].name}<br>${points[j].scope || "(no scope)"}<br>${seconds(points[j].seconds)} in ${points[j].times} run${points[j].times === 1 ? "" : "s"}`),
        hovertemplate: "%{text}<br>%{x:.3s} FLOP/B, %{y:.3s}FLOP/s<extra></extra>",
      };
    });
    if (device.bandwidth && device.peak) {
      const line = (name, xs, ys, dash) => ({ type: "scatter", mode: "lines", name, x: xs, y: ys, hoverinfo: "name", line: { color: colour("--text"), width: 2, dash } });
      traces.push(line(`memory, ${short(device.bandwidth)}B/s`, [low, device.ridge], [low * device.bandwidth, device.peak], "dot"));
      traces.push(line(`${device.unit}, ${short(device.peak)}FLOP/s`, [device.ridge, Math.max(high, device.ridge * 4)], [device.peak, device.peak], "solid"));
    }
    draw("roofline", traces, {
       legend: { orientation: "h", y: -0.22 },
      xaxis: axis("FLOPs per byte", { type: "log", exponentformat: "power" }), yaxis: axis("FLOP/s, predicted", { type: "log", exponentformat: "SI" }),
    });
    const [best, expected, worst] = device.range.map(seconds);
    $("predicted").replaceChildren(`${device.name}: ${expected} per call, between ${best} and ${worst}. `,
      device.mfu == null ? "" : `MFU ${(100 * device.mfu).toFixed(1)} % of the ${device.unit} peak. `,
      make("span", { class: "dim" }, device.assumptions.join(" ")));
  };

  // Waterfall.
  const drawWaterfall = () => {
    const field = $("quantity").value;
    const steps = data.waterfall;
    const running = [];
    let sum = 0;
    steps.forEach((step) => { sum = step.sum ? step[field] : sum + step[field]; running.push(sum); });
    const low = Math.min(...running);
    const high = Math.max(...running);
    const pad = (high - low) * 0.15 || Math.max(high * 0.1, 1);
    draw("waterfall", [{
      type: "waterfall", x: steps.map((_, i) => i), y: steps.map((step) => step[field]),
      measure: steps.map((step, i) => (i === 0 ? "absolute" : step.sum ? "total" : "relative")),
      customdata: steps.map((step) => [step.label, `${step.sum ? "" : step[field] >= 0 ? "+" : ""}${exactly(step[field])}`]),
      hovertemplate: "%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
      textposition: "outside", cliponaxis: false,
      text: steps.map((step) => `${step.sum ? "" : step[field] > 0 ? "+" : ""}${short(step[field])}`),
      increasing: { marker: { color: palette[1] } }, decreasing: { marker: { color: palette[0] } },
      totals: { marker: { color: colour("--dim") } }, connector: { line: { color: colour("--line") } },
    }], {
      showlegend: false,
      xaxis: axis("", { tickvals: steps.map((_, i) => i), ticktext: steps.map((step) => step.label), tickangle: 30 }),
      yaxis: axis(field === "flops" ? "FLOPs" : "transcendentals", { range: [Math.max(0, low - pad), high + pad], exponentformat: "SI" }),
    });
  };
  const showDeltas = (number) => {
    const step = data.waterfall[number];
    $("step").value = String(number);
    $("deltas").tBodies[0].replaceChildren(...(step.deltas || []).map((delta) => make("tr", {},
      make("td", {}, delta.count > 1 ? `${delta.equation} x ${delta.count}` : delta.equation), make("td", { title: exactly(delta.flops) }, short(delta.flops)),
      make("td", { title: exactly(delta.transcendentals) }, short(delta.transcendentals)),
      make("td", { class: "text" }, delta.scope), make("td", { class: "text" }, delta.source), make("td", { class: "text" }, delta.evidence))));
    $("behind").textContent = step.more ? `${step.more} more are in the JSON record.` : "";
    announce(`${(step.deltas || []).length} kinds of difference: ${step.label}`);
  };

  // Memory.
  const drawMemory = () => {
    const chosen = data.memory[$("account").value];
    draw("memory-chart", [{
      type: "scatter", mode: "lines", x: chosen.timeline.map((moment) => moment[0]), y: chosen.timeline.map((moment) => moment[1]),
      line: { shape: "hv", width: 1, color: palette[0] }, fill: "tozeroy",
      text: chosen.timeline.map((moment) => `${moment[3]}<br>${moment[2] || "(no scope)"}<br>${bytes(moment[1])}`),
      hovertemplate: "step %{x}<br>%{text}<extra></extra>",
    }], { xaxis: axis("equation, in program order"), yaxis: axis("live bytes", { tickformat: ".3s", ticksuffix: "B", rangemode: "tozero" }) });
    $("peak").textContent = `Peak ${bytes(chosen.peak)} (${exactly(chosen.peak)} B). Arrays alive at the peak, largest first:`;
    $("alive").tBodies[0].replaceChildren(...chosen.alive.map((buffer) => make("tr", {}, make("td", {}, `${buffer.dtype}[${buffer.shape.join(",")}]`),
      make("td", { title: exactly(buffer.nbytes) }, bytes(buffer.nbytes)), make("td", { class: "text" }, buffer.primitive),
      make("td", { class: "text" }, buffer.scope), make("td", { class: "text" }, buffer.why))));
  };

  // Sliders.
  const startSliders = (redraw) => {
    data.symbols.forEach((symbol) => {
      const low = Math.max(1, symbol.least);
      const top = Math.max(symbol.value * 16, low * 1024, 4096);
      const log = (x) => Math.log2(x);
      const range = make("input", { type: "range", min: log(low), max: log(top), step: 0.01, value: log(symbol.value), id: `slide-${symbol.name}`, "aria-label": symbol.name });
      const number = make("input", { type: "number", min: low, value: symbol.value, id: `number-${symbol.name}`, "aria-label": `${symbol.name}, exactly` });
      const set = (x) => { point[symbol.name] = Math.max(low, Math.round(x)); redraw(); };
      range.addEventListener("input", () => { set(2 ** Number(range.value)); number.value = point[symbol.name]; });
      number.addEventListener("change", () => { set(Number(number.value) || low); number.value = point[symbol.name]; range.value = log(point[symbol.name]); });
      $("sliders").append(make("div", { class: "slider" }, make("label", { for: range.id }, symbol.name), range, number));
    });
    const drawFormulas = () => $("formulas").tBodies[0].replaceChildren(...data.formulas.map((entry) => make("tr", {},
      make("td", {}, entry.name), make("td", {}, formats[entry.format](value(entry.formula))), make("td", { class: "text" }, make("code", {}, String(entry.formula))))));
    drawings.push(drawFormulas);
    drawFormulas();
  };

  // Start.
  data.columns.forEach((column, i) => $("weight").append(make("option", { value: i }, column.name)));
  startLayers();
  const drawTable = startSimple();
  drawings.push(drawCards, drawIcicle, drawLayers, drawTable);
  $("weight").addEventListener("change", () => { drawIcicle(); drawLayers(); drawTable(); announce(`Weight: ${data.columns[weight()].name}`); });
  $("merge").addEventListener("change", () => { merged = $("merge").checked; load(); });
  $("out").addEventListener("click", () => zoom(whole[Number(root)].parent ? whole[Number(root)].parent.id : "0"));
  if (data.devices) { drawings.push(drawRoofline); $("device").addEventListener("change", () => drawings.forEach((again) => again())); }
  if (data.memory) { drawings.push(drawMemory); $("account").addEventListener("change", drawMemory); }
  if (data.waterfall) { drawings.push(drawWaterfall); $("quantity").addEventListener("change", drawWaterfall); $("step").addEventListener("change", () => showDeltas(Number($("step").value))); }
  if (data.symbols) startSliders(() => drawings.forEach((again) => again()));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));
  dark.addEventListener("change", () => setTheme(dark.matches));
  whole = flatten();
  unfoldSome();
  setTheme(dark.matches);
  $("icicle").on("plotly_icicleclick", (event) => {
    const next = event.nextLevel == null ? "0" : String(event.nextLevel);
    root = next === "" ? "0" : next;
    announce(`Icicle shows ${whole[Number(root)].path || whole[0].name}`);
  });
  if (data.waterfall) {
    const first = data.waterfall.findIndex((step) => !step.sum);
    data.waterfall.forEach((step, i) => { if (!step.sum) $("step").append(make("option", { value: i }, `${step.label} (${step.stage})`)); });
    $("waterfall").on("plotly_click", (event) => { const i = event.points[0].x; if (!data.waterfall[i].sum) showDeltas(i); });
    if (first >= 0) showDeltas(first);
  }
  document.documentElement.dataset.ready = "true";
})();
