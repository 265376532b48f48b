"use strict";
// Charts with two axes as SVG: the roofline, and the memory over the equations. They use what `charts.js` shares.
(() => {
  const { make, shape, words, canvas, tipped, widthOf, colour, short } = costax;

  const logarithmic = (low, high) => ({
    place: (x) => Math.log(x / low) / Math.log(high / low),
    // A tick for each power of ten; every second, third ... where there are many.
    ticks: (most) => {
      const [first, last] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))];
      const every = Math.max(1, Math.ceil((last - first + 1) / most));
      return Array.from({ length: Math.max(0, Math.floor((last - first) / every) + 1) }, (_, i) => 10 ** (first + i * every));
    },
  });
  const linear = (high) => ({
    place: (x) => x / (high || 1),
    ticks: (most) => {
      const rough = Math.max(high / most, 1);
      const power = 10 ** Math.floor(Math.log10(rough));
      const size = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
      return Array.from({ length: Math.floor(high / size) + 1 }, (_, i) => i * size);
    },
  });

  // The axes with their ticks and titles; the title of the vertical one stands above it, so that it needs no room beside.
  const framed = (box, { height, across, up }) => {
    const width = box.clientWidth;
    const upTicks = up.ticks || up.scale.ticks(5);
    const left = 12 + Math.max(...upTicks.map((x) => widthOf(up.text(x))), 20);
    const [right, top, bottom] = [width - 14, 30, height - 46];
    const atX = (x) => left + (right - left) * across.scale.place(x);
    const atY = (y) => bottom - (bottom - top) * up.scale.place(y);
    const grid = (more) => shape("line", { stroke: colour("--line"), "stroke-width": 1, ...more });
    const dim = { fill: colour("--dim") };
    const frame = [
      ...across.scale.ticks(Math.max(2, Math.floor((right - left) / 90))).flatMap((x) => [
        grid({ x1: atX(x), x2: atX(x), y1: top, y2: bottom }),
        words(across.text(x), atX(x), bottom + 17, { ...dim, "text-anchor": "middle" }),
      ]),
      ...upTicks.flatMap((y) => [
        grid({ x1: left, x2: right, y1: atY(y), y2: atY(y) }),
        words(up.text(y), left - 6, atY(y) + 4, { ...dim, "text-anchor": "end" }),
      ]),
      words(up.title, 4, 16, dim),
      words(across.title, (left + right) / 2, height - 8, { ...dim, "text-anchor": "middle" }),
    ];
    return { width, left, right, top, bottom, atX, atY, frame };
  };

  const marks = {
    circle: (x, y, r) => shape("circle", { cx: x, cy: y, r }),
    diamond: (x, y, r) => shape("path", { d: `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z` }),
    square: (x, y, r) => shape("rect", { x: x - 0.85 * r, y: y - 0.85 * r, width: 1.7 * r, height: 1.7 * r }),
    triangle: (x, y, r) => shape("path", { d: `M${x} ${y - r}L${x + r} ${y + r}L${x - r} ${y + r}Z` }),
  };

  // Points and lines over two logarithmic axes. One point is a stop of Tab; arrow keys move between them, from left to
  // right. points: {x, y, radius, fill, mark, lines}; lines: {points, dash}.
  const scatter = (box, { label, x, y, points, lines, height = 420 }) => {
    const axes = framed(box, {
      height, across: { title: x.title, text: short, scale: logarithmic(...x.range) }, up: { title: y.title, text: short, scale: logarithmic(...y.range) },
    });
    const within = (value, low, high) => Math.min(Math.max(value, low), high);
    const drawn = new Map();
    const ordered = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
    const onkeydown = (event) => {
      const at = ordered.findIndex((point) => drawn.get(point) === event.target);
      const to = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1, Home: 0, End: ordered.length - 1 }[event.key];
      if (to == null || at < 0 || !ordered[to]) return;
      event.preventDefault();
      event.target.setAttribute("tabindex", -1);
      drawn.get(ordered[to]).setAttribute("tabindex", 0);
      drawn.get(ordered[to]).focus();
    };
    box.replaceChildren(canvas(axes.width, height, { role: "group", "aria-label": `${label}; arrow keys move between the marks`, onkeydown }, ...axes.frame,
      ...lines.map((line) => shape("polyline", {
        points: line.points.map(([a, b]) => `${within(axes.atX(a), axes.left, axes.right)},${within(axes.atY(b), axes.top, axes.bottom)}`).join(" "),
        fill: "none", stroke: colour("--text"), "stroke-width": 2, "stroke-dasharray": line.dash || null,
      })),
      // Large marks first, so that none hides a small one.
      ...[...points].sort((a, b) => b.radius - a.radius).map((point) => {
        const mark = marks[point.mark](axes.atX(point.x), axes.atY(point.y), point.radius);
        mark.setAttribute("fill", point.fill);
        mark.setAttribute("fill-opacity", 0.75);
        mark.setAttribute("stroke", colour("--back"));
        const tabindex = point === ordered[0] ? 0 : -1;
        const node = shape("g", { class: "point", role: "img", tabindex, "aria-label": point.lines.join(", ") }, mark);
        drawn.set(point, node);
        return tipped(node, () => point.lines);
      })));
  };

  // A quantity over the steps of a program: constant from one step to the next. steps: {x, y, lines}.
  const stairs = (box, { label, x, y, steps, fill, height = 320 }) => {
    const last = steps[steps.length - 1].x + 1;
    const axes = framed(box, {
      height, across: { title: x.title, text: String, scale: linear(last) }, up: { title: y.title, text: y.text, ticks: y.ticks, scale: linear(y.high) },
    });
    const path = [`M${axes.atX(steps[0].x)} ${axes.bottom}`];
    steps.forEach((step, i) => {
      const end = i + 1 < steps.length ? steps[i + 1].x : last;
      path.push(`V${axes.atY(step.y)}H${axes.atX(end)}`);
    });
    const cursor = shape("line", { y1: axes.top, y2: axes.bottom, stroke: colour("--text"), visibility: "hidden" });
    let at = 0;
    const surface = tipped(shape("rect", { x: axes.left, y: axes.top, width: Math.max(axes.right - axes.left, 0), height: axes.bottom - axes.top, fill: "transparent", tabindex: 0, role: "slider", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": steps.length - 1, "aria-valuenow": 0, "aria-valuetext": steps[0].lines.join(", ") }), () => steps[at].lines);
    const go = (to) => {
      at = Math.min(Math.max(to, 0), steps.length - 1);
      const middle = axes.atX(steps[at].x + 0.5);
      cursor.setAttribute("x1", middle);
      cursor.setAttribute("x2", middle);
      cursor.setAttribute("visibility", "visible");
      surface.setAttribute("aria-valuenow", at);
      surface.setAttribute("aria-valuetext", steps[at].lines.join(", "));
      surface.dispatchEvent(new Event("mouseenter"));
    };
    surface.addEventListener("mousemove", (event) => {
      const share = (event.clientX - surface.getBoundingClientRect().left) / Math.max(axes.right - axes.left, 1);
      const found = steps.findIndex((step) => step.x > share * last);
      go(found < 0 ? steps.length - 1 : found - 1);
    });
    surface.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: steps.length - 1 }[event.key];
      if (to == null) return;
      event.preventDefault();
      go(to);
    });
    box.replaceChildren(canvas(axes.width, height, { role: "group", "aria-label": label }, ...axes.frame,
      shape("path", { d: `${path.join("")}V${axes.bottom}Z`, fill, "fill-opacity": 0.5, stroke: fill }), cursor, surface));
  };

  Object.assign(costax, { scatter, stairs });
})();
