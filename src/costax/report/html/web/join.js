"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (tag, text, style) => {
    const node = document.createElement(tag);
    node.textContent = text;
    if (style) node.setAttribute("style", style);
    return node;
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Icicle. A box without a colour has no work that the device could do faster.
  let root = "0";
  const draw = () => {
    const boxes = data.boxes;
    if (!boxes.length) return;
    const known = boxes.map((box) => box.colour).filter((value) => value != null);
    const most = data.share ? 1 : Math.max(...known, 1);
    Plotly.react($("icicle"), [{
      type: "icicle", branchvalues: "total", level: root,
      ids: boxes.map((box) => box.id), labels: boxes.map((box) => box.name), parents: boxes.map((box) => box.parent),
      values: boxes.map((box) => box.seconds), text: boxes.map((box) => box.text),
      customdata: boxes.map((box) => box.path), textinfo: "label+text",
      hovertemplate: "%{label}<br>%{customdata}<br>%{text}<extra></extra>", tiling: { orientation: "v" }, sort: false,
      marker: {
        colors: boxes.map((box) => (box.colour == null ? 0 : Math.min(box.colour, most))), cmin: 0, cmax: most,
        // From orange (far below the roofline) to blue (on it), which colour-blind readers can distinguish.
        colorscale: [[0, "#D55E00"], [0.25, "#E69F00"], [0.5, "#F5E6B8"], [0.75, "#56B4E9"], [1, "#0072B2"]],
        showscale: true, line: { width: 1, color: colour("--back") },
        colorbar: { title: { text: data.colour, side: "right" }, tickformat: data.share ? ".0%" : ".2s", thickness: 14 },
      },
      pathbar: { visible: true, thickness: 26 },
    }], {
      paper_bgcolor: colour("--back"), font: { color: colour("--text"), size: 13 }, margin: { l: 5, r: 5, t: 30, b: 5 },
      hoverlabel: { align: "left" },
    }, { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["sendDataToCloud"] });
  };
  const zoom = (id) => {
    root = id;
    draw();
    $("status").textContent = `Icicle shows ${data.boxes[Number(id)].path}`;
  };

  const drawTable = () => {
    const table = data.tables[$("by").value];
    const head = document.createElement("tr");
    [table.heading, ...table.columns].forEach((name) => {
      const cell = make("th", name);
      cell.scope = "col";
      head.append(cell);
    });
    $("table").tHead.replaceChildren(head);
    $("table").tBodies[0].replaceChildren(...table.lines.map(([depth, label, ...cells]) => {
      const line = document.createElement("tr");
      line.append(make("td", label, `padding-left:${0.75 + 1.2 * depth}rem`), ...cells.map((cell) => make("td", cell)));
      return line;
    }));
  };

  const setTheme = (dark) => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    $("theme").textContent = dark ? "Light" : "Dark";
    draw();
  };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));
  $("by").addEventListener("change", drawTable);
  $("out").addEventListener("click", () => zoom("0"));
  drawTable();
  setTheme(dark.matches);
  if (data.boxes.length) {
    $("icicle").on("plotly_icicleclick", (event) => {
      root = event.nextLevel ? String(event.nextLevel) : "0";
      $("status").textContent = `Icicle shows ${data.boxes[Number(root)].path}`;
    });
  }
  document.documentElement.dataset.ready = "true";
})();
