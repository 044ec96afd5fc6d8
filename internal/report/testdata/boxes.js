// Writes into #found what a reader would see cut or standing upon something else, "nothing" where all is well.
window.addEventListener("load", () => {
  const faults = [], wide = document.documentElement.clientWidth;
  const box = e => e.getBoundingClientRect(), seen = e => getComputedStyle(e).display !== "none";
  const meet = (a, b) => a.left < b.right - .5 && b.left < a.right - .5 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  if (document.documentElement.scrollWidth > wide) faults.push("the page is wider than its window");
  for (const chart of [...document.querySelectorAll("svg")].filter(seen)) {
    const field = box(chart), labels = [...chart.querySelectorAll("text")], dots = [...chart.querySelectorAll("circle")];
    labels.forEach((label, i) => {
      const b = box(label), name = label.textContent;
      if (b.left < field.left - 1 || b.right > field.right + 1 || b.top < field.top - 1 || b.bottom > field.bottom + 1)
        faults.push(name + " is cut");
      for (const other of labels.slice(0, i)) if (meet(b, box(other))) faults.push(name + " stands upon " + other.textContent);
      for (const dot of dots) if (meet(b, box(dot))) faults.push(name + " stands upon a dot");
    });
  }
  for (const e of document.querySelectorAll("h1, h2, p, dt, dd, th, td, .l, .v, summary, button")) {
    if (!e.offsetParent || e.closest("#icicle, .skip") || e.closest("thead") && wide < 640) continue;
    if (box(e).right > wide + 1 || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline")
      faults.push("cut: " + e.textContent.slice(0, 40));
  }
  for (const row of document.querySelectorAll(".row")) {
    const [label, track, value] = [".l", ".track", ".v"].map(c => box(row.querySelector(c)));
    if (meet(label, track) || meet(track, value) || meet(label, value)) faults.push("overlaps: " + row.textContent);
  }
  const found = document.createElement("pre");
  found.id = "found";
  found.textContent = faults.join("; ") || "nothing";
  document.body.append(found);
});
