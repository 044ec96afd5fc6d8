// Draws the plots of each timeline: memory over time with phases and pressure bands, and live bytes stacked by pool.
const MiB = 1048576;
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const palette = ["#0969da", "#bf8700", "#8250df", "#1a7f37", "#cf222e", "#57606a"];
const size = (u, v) => v == null ? "" : v.toFixed(v < 10 ? 2 : 1) + " MiB";
const axes = () => [
  {stroke: style("--soft"), grid: {stroke: style("--line"), width: 1}, label: "operation"},
  {stroke: style("--soft"), grid: {stroke: style("--line"), width: 1}, size: 70, values: (u, list) => list.map(v => v + " MiB")},
];

// before is drawn behind the lines: bands of pressure where there is a limit, a mark at the begin of each phase.
function before(t) {
  return u => {
    const {ctx} = u, {left, top, width, height} = u.bbox, y = v => u.valToPos(v, "y", true), clip = v => Math.min(Math.max(v, top), top + height);
    ctx.save();
    if (t.limit) {
      const low = clip(y(.3 * t.limit / MiB)), high = clip(y(.8 * t.limit / MiB));
      ctx.fillStyle = style("--low"); ctx.fillRect(left, low, width, top + height - low);
      ctx.fillStyle = style("--high"); ctx.fillRect(left, top, width, high - top);
    }
    ctx.strokeStyle = ctx.fillStyle = style("--soft"); ctx.setLineDash([3, 3]); ctx.font = 11 * devicePixelRatio + "px system-ui";
    let free = left;
    for (const p of t.phases || []) {
      const x = u.valToPos(p.operation, "x", true);
      ctx.beginPath(); ctx.moveTo(x, top); ctx.lineTo(x, top + height); ctx.stroke();
      if (x >= free) { ctx.fillText(p.name, x + 3, top + 11 * devicePixelRatio); free = x + ctx.measureText(p.name).width + 8; }
    }
    ctx.restore();
  };
}

function plot(id, t, series, data, bands) {
  const at = document.getElementById(id);
  const chart = new uPlot({width: at.clientWidth, height: 280, axes: axes(), bands, scales: {x: {time: false}, y: {range: (u, min, max) => [0, max * 1.05]}},
    series: [{label: "operation"}, ...series], hooks: {drawClear: [before(t)]}}, data, at);
  new ResizeObserver(() => chart.setSize({width: at.clientWidth, height: 280})).observe(at);
}

timelines.forEach((t, i) => {
  const x = t.points.map(p => p.operation), line = (label, stroke, more) => ({label, stroke, width: 1.5, value: size, ...more});
  const series = [line("live", style("--live"), {fill: style("--bar")}), line("reserved", "#cf222e")], data = [x, t.points.map(p => p.live / MiB), t.points.map(p => p.reserved / MiB)];
  if (t.limit) { series.push(line("limit", style("--soft"), {dash: [6, 4]})); data.push(x.map(() => t.limit / MiB)); }
  plot("plot-time" + i, t, series, data);
  const sums = t.points.map(() => 0), stacked = t.pools.map((_, k) => t.points.map((p, j) => (sums[j] += p.pools[k] / MiB)));
  const pools = t.pools.map((name, k) => line(name, palette[k % palette.length], {fill: palette[k % palette.length] + "55", value: (u, v, s, j) => j == null ? "" : size(u, t.points[j].pools[k] / MiB)}));
  plot("plot-pools" + i, {phases: t.phases}, pools.reverse(), [x, ...stacked.reverse()], t.pools.slice(1).map((_, k) => ({series: [k + 1, k + 2]})));
});
