// Plots of the console: a figure's `data-plot` holds the values; its caption and the table beside it say the same.
"use strict";
(() => {
  const drawn = new WeakMap();
  const light = ["#174ea6", "#b3261e", "#116229", "#8a5300", "#6b3fa0", "#006a6a", "#9c2b6e", "#5b5f66"];
  const dark = ["#9dc0ff", "#ffb3ab", "#93dbab", "#f3cf85", "#d3b6ff", "#80d8d8", "#f5a8d2", "#b9bdc5"];
  const colours = () => (matchMedia("(prefers-color-scheme: dark)").matches ? dark : light);
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = (label, more) => ({
    label, stroke: style("--muted"), grid: { stroke: style("--grid") }, ticks: { stroke: style("--grid") }, labelSize: 22,
    ...more,
  });

  function lines(spec, stepped) {
    const palette = colours();
    const paths = stepped ? uPlot.paths.stepped({ align: 1 }) : undefined;
    return {
      data: [spec.x, ...spec.series.map((one) => one.y)],
      options: {
        scales: { x: { range: (_, low, high) => [Math.min(low, high - 300), high] }, y: { range: (_, low, high) => [Math.min(low ?? 0, 0), Math.max(high ?? 1, 1)] } },
        axes: [axis("", { label: undefined }), axis(spec.unit, stepped ? { size: 60, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500] } : { size: 60 })],
        series: [{}, ...spec.series.map((one, at) => ({
          label: one.name, stroke: palette[at % palette.length], width: 2, paths, points: { show: spec.x.length < 30 },
        }))],
        hooks: spec.marks ? { draw: [(plot) => marks(plot, spec.marks)] } : {},
      },
    };
  }

  // Half of a colour on the panel: opaque, since areas cover those behind them.
  function soft(colour) {
    const parts = (text) => (text.length === 4 ? [...text.slice(1)].map((one) => one + one) : text.slice(1).match(/../g)).map((one) => parseInt(one, 16));
    const [own, panel] = [parts(colour), parts(style("--panel"))];
    return `rgb(${own.map((value, at) => Math.round((value + panel[at]) / 2)).join(" ")})`;
  }

  // Areas above one another; series whose name begins with "workers" are lines.
  function stacked(spec) {
    const palette = colours();
    const total = spec.x.map(() => 0);
    const areas = [];
    const rest = [];
    spec.series.forEach((one, at) => {
      const colour = palette[at % palette.length];
      const own = { label: one.name, stroke: colour, width: 2, paths: uPlot.paths.stepped({ align: 1 }), points: { show: spec.x.length < 2 } };
      if (one.name.startsWith("workers")) rest.push([one.y, { ...own, dash: [8, 4], width: 3 }]);
      else {
        one.y.forEach((count, index) => { total[index] += count; });
        areas.unshift([[...total], { ...own, width: 1, fill: soft(colour), value: (_, __, ___, index) => (index === null ? "--" : one.y[index]) }]);
      }
    });
    const plan = lines({ ...spec, series: [] }, true);
    const all = [...areas, ...rest];
    return {
      data: [spec.x, ...all.map((one) => one[0])],
      options: { ...plan.options, series: [{}, ...all.map((one) => one[1])] },
    };
  }

  function marks(plot, times) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = style("--muted");
    ctx.setLineDash([2, 4]);
    for (const at of times) {
      const x = plot.valToPos(at, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
    }
    ctx.restore();
  }

  function frontier(spec) {
    const palette = colours();
    const wide = Math.max(...spec.x) / Math.max(Math.min(...spec.x), 1e-6) > 10;
    return {
      data: [spec.x, spec.y],
      options: {
        scales: {
          x: { time: false, distr: wide ? 3 : 1, range: wide ? undefined : (_, low, high) => [low - 0.1 * (high - low || low), high + 0.1 * (high - low || low)] },
          y: { range: (_, low, high) => [Math.max(low - 0.02, 0), Math.min(high + 0.02, 1)] },
        },
        axes: [axis("ms", { space: 90, values: (_, splits) => splits.map((one) => (one === null ? "" : String(Number(one.toPrecision(3))))), ...(wide ? { filter: (_, splits) => splits } : {}) }), axis("accuracy", { size: 60 })],
        series: [
          { label: "ms" },
          { label: "accuracy", stroke: palette[0], paths: () => null, points: { show: false } },
        ],
        hooks: { draw: [(plot) => points(plot, spec, palette)] },
      },
    };
  }

  function points(plot, spec, palette) {
    const { ctx } = plot;
    const size = devicePixelRatio || 1;
    const [least, most] = [Math.min(...spec.cost), Math.max(...spec.cost)];
    const rank = (cost) => (most > least && least > 0 ? Math.log(cost / least) / Math.log(most / least) : 0.5);
    ctx.save();
    ctx.font = `${11 * size}px system-ui, sans-serif`;
    spec.x.forEach((_, at) => {
      const x = plot.valToPos(spec.x[at], "x", true);
      const y = plot.valToPos(spec.y[at], "y", true);
      const radius = (4 + 2 * Math.sqrt(spec.share[at])) * size;
      ctx.beginPath(); ctx.arc(x, y, radius, 0, 2 * Math.PI);
      ctx.fillStyle = palette[0];
      ctx.globalAlpha = 0.15 + 0.75 * rank(spec.cost[at]); ctx.fill(); ctx.globalAlpha = 1;
      if (spec.best[at]) { ctx.strokeStyle = palette[1]; ctx.lineWidth = 2 * size; ctx.stroke(); }
      if (spec.share[at] || (spec.best[at] && spec.x.length < 30)) {
        ctx.fillStyle = style("--text");
        const text = spec.share[at] ? `${spec.names[at]} ${spec.share[at]} %` : spec.names[at];
        const half = ctx.measureText(text).width / 2;
        const left = plot.bbox.left;
        ctx.textAlign = x - half < left ? "left" : x + half > left + plot.bbox.width ? "right" : "center";
        ctx.fillText(text, x, y - radius - 5 * size);
      }
    });
    ctx.restore();
  }

  function draw(figure) {
    const text = figure.dataset.plot;
    const before = drawn.get(figure);
    if (before?.text === text) return;
    before?.plot.destroy();
    const spec = JSON.parse(text);
    const place = figure.querySelector(".plot");
    const { data, options } = spec.kind === "frontier" ? frontier(spec) : spec.kind === "stacked" ? stacked(spec) : lines(spec, false);
    const width = Math.max(place.clientWidth - 16, 240);
    const plot = new uPlot({ width, height: 260, cursor: { y: false }, ...options }, data, place);
    drawn.set(figure, { text, plot });
  }

  function drawAll() { document.querySelectorAll("figure[data-plot]").forEach(draw); }
  function redrawAll() {
    document.querySelectorAll("figure[data-plot]").forEach((figure) => {
      drawn.get(figure)?.plot.destroy();
      drawn.delete(figure);
      draw(figure);
    });
  }
  let waiting;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(redrawAll, 200); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  window.infaasPlots = { draw, drawAll };
  document.addEventListener("DOMContentLoaded", drawAll);
})();
