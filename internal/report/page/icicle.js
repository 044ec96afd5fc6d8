"use strict";
// drawIcicle lays a tree of {n: name, v: bytes, c: children} into #icicle. Names are set as text, never as markup.
function drawIcicle(root) {
  const box = document.getElementById("icicle"), path = document.getElementById("path");
  const back = document.getElementById("back"), height = 22, history = [];
  const link = (node, parent) => { node.p = parent; (node.c || []).forEach(child => link(child, node)); };
  link(root, null);
  const bytes = n => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let i = 0;
    while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
    return (i ? n.toFixed(1).replace(/\.0$/, "") : n) + " " + units[i];
  };
  const color = name => {
    let sum = 0;
    for (const c of name) sum = (sum * 31 + c.codePointAt(0)) >>> 0;
    return "var(--n" + (1 + sum % 5) + ")";
  };
  let zoomed = root;
  const say = node => {
    const names = [];
    for (let at = node; at && at.p; at = at.p) names.push(at.n);
    path.textContent = bytes(node.v) + ", " + (100 * node.v / root.v).toFixed(1) + " %: " + (names.reverse().join(" › ") || root.n);
  };
  function draw(focused) {
    box.replaceChildren();
    let depth = 0;
    const add = (node, left, width, row) => {
      if (width < 0.15) return;
      depth = Math.max(depth, row + 1);
      const b = document.createElement("button");
      b.type = "button";
      b.textContent = width > 2 ? node.n : "";
      b.title = node.n + ", " + bytes(node.v);
      b.setAttribute("aria-label", node.n + ", " + bytes(node.v));
      b.style.left = left + "%";
      b.style.width = width + "%";
      b.style.top = row * height + "px";
      b.style.background = color(node.n);
      b.tabIndex = row === 0 ? 0 : -1;
      b.node = node;
      b.addEventListener("click", () => zoom(node));
      b.addEventListener("focus", () => say(node));
      b.addEventListener("mouseenter", () => say(node));
      box.append(b);
      let at = left;
      for (const child of node.c || []) {
        const share = width * child.v / node.v;
        add(child, at, share, row + 1);
        at += share;
      }
    };
    add(zoomed, 0, 100, 0);
    box.style.height = depth * height + "px";
    back.disabled = history.length === 0;
    say(zoomed);
    if (focused) (drawn(focused) || box.firstChild).focus();
  }
  const drawn = node => [...box.children].find(b => b.node === node); // the narrowest are not
  function zoom(node) {
    if (node === zoomed) return;
    history.push(zoomed);
    zoomed = node;
    draw(node);
  }
  function out() {
    if (history.length === 0) return;
    const left = zoomed;
    zoomed = history.pop();
    draw(left);
  }
  back.addEventListener("click", out);
  box.addEventListener("keydown", event => {
    const node = event.target.node;
    if (!node) return;
    const siblings = node.p && node !== zoomed ? node.p.c : [node];
    const at = siblings.indexOf(node);
    const ways = { ArrowDown: node.c || [], ArrowUp: node === zoomed ? [] : [node.p], ArrowRight: siblings.slice(at + 1),
      ArrowLeft: siblings.slice(0, at).reverse() }[event.key];
    if (event.key === "Escape") out();
    else if (ways) ways.map(drawn).find(b => b)?.focus();
    else return;
    event.preventDefault();
  });
  draw(null);
}
