// Pointing at a plot reads its curves there. Everything is legible without it.
"use strict";
for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.firstElementChild;
  const [xLow, xHigh, yLow, yHigh, log] = svg.dataset.axes.split(" ").map(Number);
  const cursor = svg.querySelector(".cursor");
  const reading = plot.parentElement.querySelector(".reading");
  let curves = null;
  const read = () => [...svg.querySelectorAll("path")].map((path) => ({
    path,
    name: path.dataset.name,
    points: [...path.getAttribute("d").matchAll(/[ML]([-\d.]+) ([-\d.]+)/g)].map((found) => [+found[1], +found[2]]),
  }));
  const nearest = (points, x) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] <= x) low = middle; else high = middle;
    }
    return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? points[low] : points[high];
  };
  const value = (y) => {
    const share = 1 - y / 1000;
    return log ? 10 ** (Math.log10(yLow) + share * (Math.log10(yHigh) - Math.log10(yLow))) : yLow + share * (yHigh - yLow);
  };
  plot.addEventListener("pointermove", (event) => {
    curves ??= read();
    const box = svg.getBoundingClientRect();
    const x = Math.min(1000, Math.max(0, (1000 * (event.clientX - box.left)) / box.width));
    const shown = curves.filter((one) => one.points.length && getComputedStyle(one.path).display !== "none");
    if (!shown.length) return;
    const at = nearest(shown[0].points, x)[0];
    const step = xLow + (at / 1000) * (xHigh - xLow);
    const words = shown.map((one) => `${one.name} ${Number(value(nearest(one.points, at)[1]).toPrecision(3))}`);
    cursor.setAttribute("x1", `${at / 10}%`);
    cursor.setAttribute("x2", `${at / 10}%`);
    cursor.style.visibility = "visible";
    reading.textContent = `${svg.dataset.x} ${Number(step.toPrecision(6)).toLocaleString("en")}:  ${words.join("   ")}`;
  });
  plot.addEventListener("pointerleave", () => {
    cursor.style.visibility = "hidden";
    reading.textContent = "";
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
