"use strict";
(() => {
  const { $, make, announce, short, bytes, seconds, exactly, palette, neutral, colour, legend, more, fewer } = costax;
  const data = JSON.parse($("data").textContent);
  const formats = { count: short, bytes, seconds };

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

  // The pictures and numbers to draw again when the theme, the width, a symbol or a selection changes.
  const drawings = [];
  const redraw = () => drawings.forEach((draw) => draw());

  // Layers: the tree, merged or not, as nodes with parents.
  let whole = [];
  const flatten = () => {
    const nodes = [];
    const visit = (node, parent, path) => {
      const entry = { ...node, parent, name: node.n, path, children: [], depth: parent ? parent.depth + 1 : 0 };
      nodes.push(entry);
      if (parent) parent.children.push(entry);
      (node.c || []).forEach((child) => visit(child, entry, path ? `${path}/${child.n}` : child.n));
    };
    visit($("merge").checked ? data.trees.merged : data.trees.full, null, "");
    return nodes;
  };
  const timed = data.columns.findIndex((column) => column.device);
  const machine = () => (data.devices ? Object.keys(data.devices).indexOf($("device").value) : 0);
  const amount = (node, column) => value(node.t[column === timed ? timed + machine() : column]);
  const weight = () => Number($("weight").value);

  // An account of memory without a peak holds formulas, and its peak depends on the symbols.
  const peakOf = ({ peak, timeline }) => (peak == null ? timeline.reduce((most, moment) => Math.max(most, value(moment[1])), 0) : peak);

  // Cards.
  const drawCards = () => {
    $("cards").replaceChildren(...data.cards.map((card) => {
      const device = card.device && data.devices[$("device").value];
      const number = device ? device.range[1] : card.account ? peakOf(data.memory[card.account]) : card.amount == null ? null : value(card.amount);
      const shown = number == null ? card.value : formats[card.format](number);
      const formula = typeof card.amount === "string" ? card.amount : "";
      const exact = formula ? `${exactly(number)} = ${formula}` : device ? `on ${device.name}` : card.exact || (number == null ? "" : exactly(number));
      return make("div", { class: "card" }, make("div", { class: "label" }, card.label),
        make("div", { class: "value" }, shown), make("div", { class: "exact" }, exact));
    }));
  };

  // Icicle. Its colour says what bounds most of the time of a layer, or the direction of most of its operations.
  // What bounds a kernel has the same colour on every page.
  const hue = (names, i) => palette[(names === data.bounds ? data.hues[i] : i) % palette.length];
  const hues = (names) => names.map((name, i) => [name, hue(names, i)]);
  const dominant = (node) => {
    if ($("colour").value === "bound") return node.b[machine()];
    if (!data.directions) return null;
    const each = node.d.map(value);
    const sum = each.reduce((a, b) => a + b, 0);
    const most = each.indexOf(Math.max(...each));
    return sum > 0 ? [most, Math.round((100 * each[most]) / sum)] : null;
  };
  let root = null;
  const drawIcicle = () => {
    const column = weight();
    const format = formats[data.columns[column].format];
    const total = amount(whole[0], column) || 1;
    const bound = $("colour").value === "bound";
    const names = (bound ? data.bounds : data.directions) || [];
    const fill = (node) => { const most = dominant(node); return most ? hue(names, most[0]) : neutral; };
    const detail = (node) => `${format(amount(node, column))}, ${((100 * amount(node, column)) / total).toFixed(1)} %`;
    const reason = (node) => {
      const most = dominant(node);
      return most && (bound ? `${most[1]} % of its time bound by ${names[most[0]]}` : `${most[1]} % of its operations ${names[most[0]]}`);
    };
    costax.icicle($("icicle"), {
      root, weight: (node) => Math.max(0, amount(node, column)), fill, zoom, detail: (node) => [detail(node), format(amount(node, column))],
      describe: (node) => [node.path || node.name, `${data.columns[column].name}: ${detail(node)}`, reason(node)],
    });
    const drawn = whole.filter((node) => amount(node, column) > 0).map(dominant);
    const used = new Set(drawn.filter(Boolean).map((most) => most[0]));
    legend("icicle-key", [...hues(names).filter((_, i) => used.has(i)), ...(drawn.every(Boolean) ? [] : [[bound ? "takes no time" : "no operations", neutral]])]);
  };
  const zoom = (node) => {
    root = node;
    drawIcicle();
    keep();
    announce(`Icicle shows ${node.path || node.name}`);
  };

  // Table of layers. A narrow screen shows only the column of the weight.
  const extra = (column) => (column === weight() ? "" : data.columns[column].minor ? "extra minor" : "extra");
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
      ...data.columns.map((c, i) => make("td", { class: extra(i) }, formats[c.format](amount(whole[0], i)))), make("td", {}, "100.0")));
    [...$("layers").tHead.rows[0].cells].forEach((cell, i) => {
      cell.className = i > 0 && i <= data.columns.length ? extra(i - 1) : "";
      const active = i - 1 === order.column && (i > 0 || !order.descending);
      cell.setAttribute("aria-sort", active ? (order.descending ? "descending" : "ascending") : "none");
    });
  };
  const row = (node, unfolded, hit, column, total) => {
    const twist = node.children.length
      ? make("button", { class: "twist", "aria-expanded": String(unfolded), "aria-label": `${unfolded ? "fold" : "unfold"} ${node.path}`,
        onclick: () => { toggle(node); } }, unfolded ? "\u25be" : "\u25b8")
      : make("span", { class: "twist" });
    const name = make("button", { title: "Show in the icicle", onclick: () => zoom(node) }, node.name);
    const first = make("td", { style: `--depth:${node.depth - 1}` }, make("div", { class: "name" }, twist, name));
    const share = (100 * amount(node, column)) / total;
    return make("tr", { class: hit ? "hit" : null, "data-path": node.path }, first,
      ...data.columns.map((c, i) => make("td", { class: extra(i), title: exactly(amount(node, i)) }, formats[c.format](amount(node, i)))),
      make("td", {}, share.toFixed(1), make("span", { class: "share", style: `width:${Math.max(0, share) * 0.5}px` })));
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
        .sort((a, b) => amount(b, weight()) - amount(a, weight()))[0];
      if (!next) break;
      open.add(next.path);
      shown = shown.concat(next.children);
    }
  };
  const load = () => {
    const path = root ? root.path : "";
    whole = flatten();
    root = whole.find((node) => node.path === path) || whole[0];
    unfoldSome();
  };

  // Other tables.
  const drawTable = () => {
    const everywhere = data.columns.filter((c) => c.everywhere);
    const column = data.columns[weight()].everywhere ? weight() : 0;
    const total = value(data.trees.full.t[column]) || 1;
    const hidden = (i) => (i === column ? "" : data.columns[i].minor ? "extra minor" : "extra");
    $("others").tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, $("by").value),
      ...everywhere.map((c, i) => make("th", { scope: "col", class: hidden(i) }, c.name)), make("th", { scope: "col" }, `% ${data.columns[column].name}`)));
    $("others").tBodies[0].replaceChildren(...data.tables[$("by").value].map((entry) => make("tr", {}, make("td", {}, entry.n),
      ...entry.t.map((x, i) => make("td", { class: hidden(i), title: exactly(value(x)) }, formats[data.columns[i].format](value(x)))),
      make("td", {}, ((100 * value(entry.t[column])) / total).toFixed(1)))));
  };

  // Roofline.
  const drawRoofline = () => {
    const device = data.devices[$("device").value];
    const points = device.parts.filter((part) => part.flops > 0 && part.bytes > 0 && part.seconds > 0);
    const x = points.map((part) => part.flops / part.bytes);
    const y = points.map((part) => (part.flops * part.times) / part.seconds);
    const most = Math.max(...points.map((part) => part.seconds), 1e-12);
    const low = Math.min(...x, device.ridge || Infinity) / 2;
    const high = Math.max(...x, device.ridge || 0) * 4;
    const shapes = ["circle", "diamond", "square", "triangle"];
    const kinds = hues(data.bounds);
    const roofs = device.bandwidth && device.peak ? [
      { name: `memory, ${short(device.bandwidth)}B/s`, points: [[low, low * device.bandwidth], [device.ridge, device.peak]], dash: "2 4" },
      { name: `${device.unit}, ${short(device.peak)}FLOP/s`, points: [[device.ridge, device.peak], [high, device.peak]] },
    ] : [];
    $("roofline-picture").hidden = !points.length;
    if (points.length) {
      costax.scatter($("roofline"), {
        label: "Roofline: FLOP/s over FLOPs per byte, one mark for each kernel",
        x: { title: "FLOPs per byte", range: [low, high] },
        y: { title: "FLOP/s, predicted", range: [Math.min(...y) / 2, 2 * Math.max(...y, device.peak || 0)] },
        lines: roofs,
        points: points.map((part, i) => {
          const kind = Math.max(0, data.bounds.indexOf(part.bound));
          return {
            x: x[i], y: y[i], radius: 3 + 12 * Math.sqrt(part.seconds / most), fill: kinds[kind][1], mark: shapes[data.hues[kind] % shapes.length],
            lines: [part.name, part.scope || "(no scope)", `bound by ${part.bound}`, `${seconds(part.seconds)} in ${part.times} run${part.times === 1 ? "" : "s"}`, `${short(x[i])} FLOP/B, ${short(y[i])}FLOP/s`],
          };
        }),
      });
      const present = kinds.filter(([bound]) => points.some((part) => part.bound === bound));
      legend("roofline-key", present.map(([bound, fill]) => [`bound by ${bound}`, fill]));
      $("roofline-key").append(...roofs.map((roof) => make("span", { class: "key" }, `${roof.dash ? "\u00b7\u00b7\u00b7" : "\u2014"} ${roof.name}`)));
    }
    const [best, expected, worst] = device.range.map(seconds);
    $("predicted").replaceChildren(`${device.name}: ${expected} per call, between ${best} and ${worst}.`,
      device.mfu ? ` MFU ${Number((100 * device.mfu).toPrecision(3))} % of the ${device.unit} peak.` : "");
    $("assumptions").replaceChildren(...device.assumptions.map((line) => make("p", {}, line)));
  };

  // Waterfall.
  let step = -1;
  const drawWaterfall = () => {
    const field = $("quantity").value;
    const unit = field === "flops" ? "FLOPs" : field;
    costax.waterfall($("waterfall"), {
      rows: data.waterfall.map((row) => ({ label: row.label, sum: row.sum, value: row[field] })), unit, chosen: step, choose: showDeltas,
    });
    legend("waterfall-key", [[`more ${unit}`, more], [`fewer ${unit}`, fewer], [`${unit} at this point of the chain`, colour("--text")]]);
  };
  const showDeltas = (number) => {
    step = number;
    const { label, deltas, more } = data.waterfall[number];
    $("step").value = String(number);
    $("deltas").tBodies[0].replaceChildren(...deltas.map((delta) => make("tr", {},
      make("td", {}, delta.count > 1 ? `${delta.equation} x ${delta.count}` : delta.equation), make("td", { title: exactly(delta.flops), "data-label": "FLOPs" }, short(delta.flops)),
      make("td", { title: exactly(delta.transcendentals), "data-label": "transc." }, short(delta.transcendentals)),
      make("td", { class: "text" }, delta.scope), make("td", { class: "text" }, delta.source), make("td", { class: "text" }, delta.evidence))));
    $("behind").textContent = more ? `${more} more are in the JSON record.` : "";
    drawWaterfall();
    announce(`${deltas.length} kinds of difference: ${label}`);
  };

  // Memory. Texts that differ only in their numbers share a line: "block_0" and "block_11" make "block_0..11".
  const joined = (texts) => {
    const numbers = texts.map((text) => text.match(/\d+/g) || []);
    let at = -1;
    return texts[0].replace(/\d+/g, (first) => {
      at += 1;
      const each = numbers.map((own) => Number(own[at]));
      const [low, high] = [Math.min(...each), Math.max(...each)];
      return low === high ? first : `${low}..${high}`;
    });
  };
  const grouped = (buffers) => {
    const groups = new Map();
    buffers.forEach((buffer) => {
      const key = [buffer.array, buffer.primitive, buffer.scope, buffer.why].join("\n").replace(/(?<=\n.*)\d+/gs, "#");
      groups.set(key, [...(groups.get(key) || []), buffer]);
    });
    return [...groups.values()].map((members) => ({
      array: members[0].array, count: members.length, nbytes: members.reduce((sum, { nbytes }) => sum + nbytes, 0),
      primitive: members[0].primitive, scope: joined(members.map(({ scope }) => scope)), why: joined(members.map(({ why }) => why)),
    })).sort((a, b) => b.nbytes - a.nbytes);
  };
  const ALIVE = 20;
  const ticks = (high) => {
    const unit = 1024 ** Math.max(0, Math.floor(Math.log2(Math.max(high, 1)) / 10));
    const rough = high / unit / 5;
    const power = 10 ** Math.floor(Math.log10(rough));
    const size = unit * power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    return Array.from({ length: Math.floor(high / size) + 1 }, (_, i) => i * size);
  };
  const drawMemory = () => {
    const chosen = data.memory[$("account").value];
    const sizes = chosen.timeline.map((moment) => value(moment[1]));
    const peak = peakOf(chosen);
    const moment = chosen.timeline[sizes.indexOf(peak)];
    const alive = chosen.alive.filter((buffer) => buffer.from == null || (moment && buffer.from <= moment[0] && moment[0] <= buffer.to))
      .map((buffer) => ({ ...buffer, array: `${buffer.dtype}[${buffer.shape.map(value).join(",")}]`, nbytes: value(buffer.nbytes) }));
    const at = ticks(sizes.reduce((a, b) => Math.max(a, b), peak));
    $("memory-picture").hidden = sizes.length < 2;
    if (sizes.length > 1) costax.stairs($("memory-chart"), {
      label: "Bytes alive at each equation; the table below lists the arrays alive at the peak",
      x: { title: "equation, in program order" }, y: { title: "bytes alive", text: bytes, ticks: at, high: 1.05 * Math.max(...at, peak) },
      fill: palette[0],
      steps: chosen.timeline.map((each, i) => ({ x: each[0], y: sizes[i], lines: [`step ${each[0]}: ${each[3]}`, each[2] || "(no scope)", bytes(sizes[i])] })),
    });
    const lines = grouped(alive);
    const hidden = lines.slice(ALIVE);
    const rest = hidden.length ? [{ array: `${hidden.length} others`, count: 1, nbytes: hidden.reduce((sum, { nbytes }) => sum + nbytes, 0), primitive: "", scope: "", why: "" }] : [];
    $("peak").textContent = `Peak ${bytes(peak)} (${exactly(peak)} B). Arrays alive at the peak, largest first; equal ones share a line:`;
    $("alive").tBodies[0].replaceChildren(...[...lines.slice(0, ALIVE), ...rest].map((line) => make("tr", {},
      make("td", {}, line.count > 1 ? `${line.array} x ${line.count}` : line.array),
      make("td", { title: exactly(line.nbytes) }, bytes(line.nbytes)), ...[line.primitive, line.scope, line.why].map((text) => make("td", { class: "text" }, text)))));
  };

  // Sliders.
  const sliders = {};
  const startSliders = () => {
    data.symbols.forEach((symbol) => {
      const low = Math.max(1, symbol.least);
      const top = Math.max(symbol.value * 16, low * 1024, 4096);
      const range = make("input", { type: "range", min: Math.log2(low), max: Math.log2(top), step: 0.01, id: `slide-${symbol.name}`, "aria-label": symbol.name });
      const number = make("input", { type: "number", min: low, id: `number-${symbol.name}`, "aria-label": `${symbol.name}, exactly` });
      const set = (x) => {
        point[symbol.name] = Math.max(low, Math.round(x) || low);
        number.value = point[symbol.name];
        if (Math.round(2 ** Number(range.value)) !== point[symbol.name]) range.value = Math.log2(point[symbol.name]);
      };
      const moved = (x) => { set(x); redraw(); keep(); };
      range.addEventListener("input", () => moved(2 ** Number(range.value)));
      number.addEventListener("change", () => moved(Number(number.value)));
      set(symbol.value);
      sliders[symbol.name] = set;
      $("sliders").append(make("div", { class: "slider" }, make("label", { for: range.id }, symbol.name), range, number));
    });
    drawings.push(() => $("formulas").tBodies[0].replaceChildren(...data.formulas.map((entry) => make("tr", {},
      make("td", {}, entry.name), make("td", {}, formats[entry.format](value(entry.formula))), make("td", { class: "text" }, make("code", {}, String(entry.formula)))))));
  };

  // The selections of the page stand in its address, so that a link shows the same: `#weight=MACs&zoom=net/attention`.
  const keep = () => {
    const state = new URLSearchParams();
    if (root !== whole[0]) state.set("zoom", root.path);
    if (weight() !== first) state.set("weight", data.columns[weight()].name);
    if (!$("merge").checked) state.set("merge", "no");
    ["colour", "device", "account", "quantity", "by"].forEach((id) => { if ($(id) && $(id).selectedIndex > 0) state.set(id, $(id).value); });
    (data.symbols || []).forEach(({ name, value }) => { if (point[name] !== value) state.set(`at.${name}`, point[name]); });
    history.replaceState(null, "", `#${state}`);
  };
  const restore = () => {
    const state = new URLSearchParams(location.hash.slice(1));
    const column = data.columns.findIndex(({ name }) => name === state.get("weight"));
    $("weight").value = String(column < 0 ? first : column);
    $("merge").checked = state.get("merge") !== "no";
    ["colour", "device", "account", "quantity", "by"].forEach((id) => {
      if ($(id)) $(id).selectedIndex = Math.max(0, [...$(id).options].findIndex((option) => option.value === state.get(id)));
    });
    (data.symbols || []).forEach(({ name, value }) => sliders[name](Number(state.get(`at.${name}`)) || value));
    load();
    const path = state.get("zoom");
    root = whole.find((node) => node.path === path) || whole[0];
  };

  // Start. The first weight is the first count that is not zero.
  data.columns.forEach((column, i) => $("weight").append(make("option", { value: i }, column.name)));
  if (data.bounds) $("colour").append(make("option", { value: "bound" }, "what bounds it"));
  if (data.directions) $("colour").append(make("option", { value: "direction" }, "direction"));
  startLayers();
  drawings.push(drawCards, drawIcicle, drawLayers, drawTable);
  if (data.symbols) startSliders();
  const first = Math.max(0, data.columns.findIndex((_, i) => value(data.trees.full.t[i]) > 0));
  const on = (id, event, ...actions) => { if ($(id)) $(id).addEventListener(event, () => { actions.forEach((act) => act()); keep(); }); };
  on("weight", "change", drawIcicle, drawLayers, drawTable, () => announce(`Weight: ${data.columns[weight()].name}`));
  on("merge", "change", load, drawIcicle, drawLayers);
  on("colour", "change", drawIcicle);
  on("by", "change", drawTable);
  on("device", "change", redraw);
  on("account", "change", drawMemory);
  $("out").addEventListener("click", () => zoom(root.parent || root));
  if (data.devices) drawings.push(drawRoofline);
  if (data.memory) drawings.push(drawMemory);
  if (data.waterfall) {
    drawings.push(drawWaterfall);
    on("quantity", "change", drawWaterfall);
    on("step", "change", () => showDeltas(Number($("step").value)));
    data.waterfall.forEach((row, i) => { if (!row.sum) $("step").append(make("option", { value: i }, `${row.label} (${row.stage})`)); });
  }
  // A link to a section must not replace the selections in the address.
  document.querySelectorAll("nav a").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    document.querySelector(link.getAttribute("href")).scrollIntoView();
  }));
  window.addEventListener("hashchange", () => { restore(); redraw(); });
  restore();
  costax.start(redraw);
  if (data.waterfall) {
    const size = (row) => (row.sum ? -1 : Math.abs(row.flops) + Math.abs(row.transcendentals));
    const largest = data.waterfall.reduce((best, row, i) => (size(row) > size(data.waterfall[best]) ? i : best), 0);
    if (!data.waterfall[largest].sum) showDeltas(largest);
  }
  document.documentElement.dataset.ready = "true";
})();
