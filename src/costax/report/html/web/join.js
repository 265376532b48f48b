"use strict";
(() => {
  const { $, make, announce, short, neutral, legend } = costax;
  const data = JSON.parse($("data").textContent);
  // From orange (far below the roofline) to blue (on it), which colour-blind readers can distinguish.
  const scale = ["#D55E00", "#E69F00", "#F5E6B8", "#56B4E9", "#0072B2"];

  // Icicle. A box without a colour has no work that the device could do faster.
  const boxes = data.boxes.map((box) => ({ ...box, children: [] }));
  boxes.forEach((box) => {
    box.parent = boxes[Number(box.parent)];
    if (box.id !== "0") box.parent.children.push(box);
    else box.parent = null;
  });
  const most = data.share ? 1 : Math.max(...boxes.map((box) => box.colour || 0), 1);
  const bin = (share) => Math.min(scale.length - 1, Math.floor((scale.length * share) / most));
  const bound = (i) => (data.share ? `${(100 * i) / scale.length} %` : short((most * i) / scale.length));
  let root = boxes[0];
  const draw = () => {
    if (!boxes.length) return;
    costax.icicle($("icicle"), {
      root, weight: (box) => box.seconds, fill: (box) => (box.colour == null ? neutral : scale[bin(box.colour)]), zoom,
      detail: (box) => [box.text, box.text.split(",")[0]], describe: (box) => [box.name, ...box.path.split("\n"), box.text],
    });
    legend("icicle-key", [...scale.map((fill, i) => [`${bound(i)} to ${bound(i + 1)}`, fill]), [`no ${data.colour}`, neutral]]);
  };
  const zoom = (box) => {
    root = box;
    draw();
    announce(`Icicle shows ${box.path.replace("\n", " ")}`);
  };

  const drawTable = () => {
    const table = data.tables[$("by").value];
    $("table").tHead.replaceChildren(make("tr", {}, ...[table.heading, ...table.columns].map((name) => make("th", { scope: "col" }, name))));
    $("table").tBodies[0].replaceChildren(...table.lines.map(([depth, label, ...cells]) => make("tr", {},
      make("td", { style: `padding-left:${0.75 + 1.2 * depth}rem` }, label), ...cells.map((cell) => make("td", {}, cell)))));
  };

  $("by").addEventListener("change", drawTable);
  $("out").addEventListener("click", () => zoom(root.parent || root));
  drawTable();
  costax.start(draw);
  document.documentElement.dataset.ready = "true";
})();
