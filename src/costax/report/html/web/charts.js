"use strict";
// What the pages share: elements, numbers, colours, the icicle and the waterfall as SVG, pictures as files, the theme.
const costax = (() => {
  const $ = (id) => document.getElementById(id);
  const set = (node, attributes) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value != null) node.setAttribute(name, value);
    }
    return node;
  };
  const make = (tag, attributes = {}, ...children) => {
    const node = set(document.createElement(tag), attributes);
    node.append(...children);
    return node;
  };
  const shape = (tag, attributes = {}, ...children) => {
    const node = set(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes);
    node.append(...children);
    return node;
  };
  const announce = (text) => { $("status").textContent = text; };

  // Numbers with three significant digits and a prefix.
  const scaled = (x, base, prefixes, unit) => {
    if (x === 0) return `0${unit ? " " + unit : ""}`;
    let power = 0;
    let value = Math.abs(x);
    while (Number(value.toPrecision(3)) >= 1000 && power < prefixes.length - 1) { value /= base; power += 1; }
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
  const exactly = (x) => (Number.isSafeInteger(x) ? x.toLocaleString("en-US") : short(x));
  const signed = (text, x) => (x > 0 ? `+${text}` : text);

  // Colours. The palette of Okabe and Ito, which colour-blind readers can distinguish; what stands on a colour is black
  // or white, whichever differs more, so that the contrast is at least 4.58:1.
  const palette = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"];
  const neutral = "#999999";
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const luminance = (hex) => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => {
    const part = parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16) / 255;
    return sum + share * (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  }, 0);
  const inkOn = (hex) => (luminance(hex) > 0.179 ? "#000000" : "#ffffff");
  const legend = (id, entries) => $(id).replaceChildren(...entries.map(([text, fill]) => make("span", { class: "key" },
    make("span", { class: "swatch", style: `background:${fill}` }), text)));

  // Text: its width, the part of it that fits, and the lines that it needs.
  const pen = document.createElement("canvas").getContext("2d");
  const widthOf = (text, bold) => {
    pen.font = `${bold ? "600 " : ""}13px system-ui, sans-serif`;
    return pen.measureText(text).width;
  };
  const fitted = (text, width) => {
    if (widthOf(text, true) <= width) return text;
    let end = text.length;
    while (end >= 4 && widthOf(`${text.slice(0, end)}\u2026`, true) > width) end -= 1;
    return end >= 4 ? `${text.slice(0, end)}\u2026` : "";
  };
  const wrapped = (text, width, bold) => text.split(" ").reduce((lines, word) => {
    const longer = lines.length ? `${lines[lines.length - 1]} ${word}` : word;
    if (lines.length && widthOf(longer, bold) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
    return lines;
  }, []).flatMap((line) => {
    // A word that is wider than the line is broken.
    const most = Math.max(4, Math.floor((line.length * width) / Math.max(widthOf(line, bold), 1)));
    return widthOf(line, bold) <= width ? [line] : line.match(new RegExp(`.{1,${most}}`, "gu"));
  });
  const words = (text, x, y, more = {}) => shape("text", { x, y, "font-size": 13, ...more }, text);
  const canvas = (width, height, more, ...children) => shape("svg", {
    class: "picture", width, height, viewBox: `0 0 ${width} ${height}`, "font-family": "system-ui, sans-serif", ...more,
  }, ...children);

  const tip = make("div", { id: "tip", role: "tooltip", hidden: true });
  document.body.append(tip);
  const tipped = (node, lines) => {
    const show = () => {
      tip.replaceChildren(...lines().filter(Boolean).map((line) => make("div", {}, line)));
      tip.hidden = false;
      const box = node.getBoundingClientRect();
      const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
      const below = box.bottom + 6 + tip.offsetHeight < window.innerHeight;
      tip.style.left = `${Math.max(4, left)}px`;
      tip.style.top = `${Math.max(4, below ? box.bottom + 6 : box.top - tip.offsetHeight - 6)}px`;
    };
    const hide = () => { tip.hidden = true; };
    return set(node, { onmouseenter: show, onfocus: show, onmouseleave: hide, onblur: hide });
  };

  // Icicle: the zoomed layer as wide as the page, the layers in it below, each as wide as its weight. Arrow keys move
  // between boxes, Enter zooms; the layers around the zoomed one stand above, as buttons.
  const icicle = (box, { root, weight, name = (node) => node.name, detail, describe, fill, zoom }) => {
    const width = box.clientWidth;
    const placed = [];
    const place = (node, x, extent, depth) => {
      const slice = { node, x, extent, depth, inside: [] };
      placed.push(slice);
      const whole = Math.max(weight(node), node.children.reduce((sum, child) => sum + weight(child), 0));
      let at = x;
      node.children.forEach((child) => {
        const part = whole ? (extent * weight(child)) / whole : 0;
        if (part >= 1.5) {
          const below = place(child, at, part, depth + 1);
          below.above = slice;
          slice.inside.push(below);
        }
        at += part;
      });
      return slice;
    };
    place(root, 0, width, 0);
    const deepest = Math.max(...placed.map((slice) => slice.depth));
    const row = deepest > 10 ? 26 : 44;
    const focused = box.contains(document.activeElement);
    placed.forEach((slice, i) => {
      const ink = fill(slice.node);
      const room = slice.extent - 9;
      // A number is shown whole or not at all.
      const number = row > 40 && detail(slice.node).find((text) => widthOf(text) <= room);
      const lines = [fitted(name(slice.node), room), number || ""];
      slice.drawn = tipped(shape("g", {
        class: "slice", role: "button", tabindex: i ? -1 : 0, "aria-label": describe(slice.node).join(", "),
        onclick: () => zoom(slice.node),
      }, shape("rect", { x: slice.x, y: slice.depth * row, width: slice.extent, height: row, fill: ink, stroke: colour("--back"), "stroke-width": 1.5 }),
      ...lines.map((line, j) => words(line, slice.x + 5, slice.depth * row + 17 + 17 * j, { fill: inkOn(ink), "font-weight": j ? 400 : 600 }))
        .filter((line) => line.textContent)), () => describe(slice.node));
    });
    const steps = {
      ArrowDown: (slice) => slice.inside[0], ArrowUp: (slice) => slice.above,
      ArrowLeft: (slice) => slice.above && slice.above.inside[slice.above.inside.indexOf(slice) - 1],
      ArrowRight: (slice) => slice.above && slice.above.inside[slice.above.inside.indexOf(slice) + 1],
    };
    const onkeydown = (event) => {
      const slice = placed.find((each) => each.drawn === event.target);
      if (!slice) return;
      const next = steps[event.key] && steps[event.key](slice);
      if (next) {
        slice.drawn.setAttribute("tabindex", -1);
        next.drawn.setAttribute("tabindex", 0);
        next.drawn.focus();
      }
      if (event.key === "Enter" || event.key === " ") zoom(slice.node);
      if (next || event.key === "Enter" || event.key === " ") event.preventDefault();
    };
    const around = [];
    for (let up = root.parent; up; up = up.parent) around.unshift(up);
    tip.hidden = true;
    box.replaceChildren(
      make("div", { class: "around" }, ...around.flatMap((node) => [make("button", { type: "button", onclick: () => zoom(node) }, name(node)), " \u203a "]), make("b", {}, name(root))),
      canvas(width, (deepest + 1) * row, { role: "group", "aria-label": "Icicle of layers; arrow keys move, Enter zooms", onkeydown }, ...placed.map((slice) => slice.drawn)),
    );
    if (focused) placed[0].drawn.focus();
  };

  // Waterfall: a row for each step. A bar reaches from the count before the step to the count after it, as differences
  // from the first count, so that nothing is drawn from an axis that does not start at 0; a count is a mark.
  const more = palette[5];
  const fewer = palette[0];
  const waterfall = (box, { rows, unit, chosen, choose }) => {
    const width = box.clientWidth;
    const wide = width >= 640;
    const numbers = 150;
    const names = wide ? Math.min(0.42 * width, 480) : width - 12;
    const from = wide ? names + 12 : 8;
    const bars = width - from - numbers - 8;
    let running = 0;
    const steps = rows.map((row, i) => {
      const before = running;
      running = row.sum ? row.value - rows[0].value : running + row.value;
      return { ...row, number: i, before, after: running, lines: wrapped(row.label, names - (row.sum ? 0 : 14), row.sum) };
    });
    const low = Math.min(...steps.map((step) => step.after));
    const high = Math.max(...steps.map((step) => step.after));
    const at = (x) => from + (bars * (x - low)) / (high - low || 1);
    let y = 26;
    const drawn = [words(`${unit}; bars: what a step adds or removes`, 6, 16, { fill: colour("--dim") })];
    steps.forEach((step, i) => {
      const text = 18 * step.lines.length;
      const height = (wide ? text : text + 20) + 8;
      const middle = wide ? y + height / 2 : y + text + 13;
      const fill = step.sum ? colour("--text") : step.value > 0 ? more : fewer;
      const size = Math.max(Math.abs(at(step.after) - at(step.before)), 3);
      const label = step.sum ? exactly(step.value) : signed(short(step.value), step.value);
      const weight = step.sum ? 600 : 400;
      drawn.push(set(shape("g", { class: step.sum ? "point" : "point step" },
        shape("rect", { x: 0, y, width, height, fill: colour(i === chosen ? "--chosen" : step.sum ? "--card" : "--back") }),
        ...step.lines.map((line, j) => words(line, step.sum ? 6 : 20, y + 18 + 18 * j, { fill: colour("--text"), "font-weight": weight })),
        i && wide ? shape("line", { x1: at(step.before), x2: at(step.before), y1: y - 8, y2: middle, stroke: colour("--dim"), "stroke-dasharray": "2 2" }) : "",
        step.sum ? shape("rect", { x: at(step.after) - 2, y: middle - 8, width: 4, height: 16, fill })
          : shape("rect", { x: Math.min(at(step.before), at(step.after)), y: middle - 7, width: size, height: 14, fill }),
        words(label, width - 8, middle + 5, { "text-anchor": "end", fill: colour("--text"), "font-weight": weight })),
      step.sum ? {} : {
        role: "button", tabindex: 0, "aria-pressed": String(i === chosen), "aria-label": `${step.label}: ${label}`, onclick: () => choose(i),
        onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(i); } },
      }));
      y += height;
    });
    const focused = box.contains(document.activeElement);
    box.replaceChildren(canvas(width, y + 4, { role: "group", "aria-label": "Waterfall, one row a step" }, ...drawn));
    if (focused && chosen >= 0) box.querySelectorAll(".point")[chosen].focus();
  };

  // Save a picture as a file: SVG as it is, PNG with two pixels for each point.
  const pictured = (box) => {
    const svg = box.querySelector("svg.picture").cloneNode(true);
    svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    svg.prepend(shape("rect", { width: "100%", height: "100%", fill: colour("--back") }));
    return `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(svg))}`;
  };
  const asPng = (url, width, height) => new Promise((done) => {
    const image = new Image();
    image.onload = () => {
      const paper = set(document.createElement("canvas"), { width: 2 * width, height: 2 * height });
      paper.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
      done(paper.toDataURL("image/png"));
    };
    image.src = url;
  });
  const savePicture = async (id, format) => {
    const box = $(id);
    const vector = pictured(box);
    const size = ["width", "height"].map((name) => Number(box.querySelector("svg.picture").getAttribute(name)));
    const file = `${document.title.replace(/[^\w.]+/g, "-")}-${id}.${format}`;
    make("a", { href: format === "svg" ? vector : await asPng(vector, ...size), download: file }).click();
    announce(`Saved ${file}`);
  };
  document.querySelectorAll("button[data-picture]").forEach((button) => button.addEventListener(
    "click", () => savePicture(button.dataset.picture, button.dataset.format)));

  // Theme: that of the system, until the user selects one. Pictures are drawn again for another theme or width.
  const start = (draw) => {
    const setTheme = (dark) => {
      document.documentElement.dataset.theme = dark ? "dark" : "light";
      $("theme").textContent = dark ? "Light" : "Dark";
      draw();
    };
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));
    dark.addEventListener("change", () => setTheme(dark.matches));
    let width = window.innerWidth;
    window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; draw(); } });
    setTheme(dark.matches);
  };

  return { $, make, shape, words, canvas, tipped, widthOf, announce, short, bytes, seconds, exactly, signed, palette, neutral, colour, legend, more, fewer, icicle, waterfall, start };
})();
