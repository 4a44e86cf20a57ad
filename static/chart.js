// The overview's chart: calls and minutes by day, one below the other, so that each has its scale.
"use strict";

(() => {
  const HEIGHT = 160;
  const HALF_A_DAY = 12 * 3600;
  const host = document.getElementById("chart");
  const { days, calls, minutes } = JSON.parse(host.dataset.chart);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
  const short = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });
  const round = new Intl.NumberFormat("en", { notation: "compact" });
  const exact = new Intl.NumberFormat("en");
  const dayOf = (seconds) => short.format(new Date(seconds * 1000));
  let charts = [];

  function axis(options) {
    return {
      stroke: color("--quiet"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: color("--line"), width: 1 },
      ticks: { show: false },
      ...options,
    };
  }

  function chart(label, values) {
    const options = {
      width: host.clientWidth,
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: {
        x: { range: (_, first, last) => [first - HALF_A_DAY, last + HALF_A_DAY] },
        y: { range: (_, least, most) => [0, Math.max(most * 1.1, 1)] },
      },
      axes: [
        axis({ grid: { show: false }, size: 28, space: 60, incrs: [1, 2, 7, 14].map((n) => n * 24 * 3600),
          values: (_, splits) => splits.map(dayOf) }),
        axis({ size: 52, space: 32, incrs: [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6, 7]
          .map((power) => n * 10 ** power)).sort((a, b) => a - b),
          values: (_, splits) => splits.map((value) => round.format(value)) }),
      ],
      series: [
        { label: "Day", value: (_, value) => value == null ? "–" : dayOf(value) },
        {
          label,
          fill: color("--accent"),
          stroke: color("--accent"),
          width: 0,
          points: { show: false },
          paths: uPlot.paths.bars({ size: [0.7, 28] }),
          value: (_, value) => value == null ? "–" : exact.format(value),
        },
      ],
      cursor: { y: false, points: { show: false }, drag: { x: false }, sync: { key: "days" } },
      legend: { markers: { show: false } },
    };
    return new uPlot(options, [days, values], host);
  }

  function draw() {
    for (const each of charts) each.destroy();
    charts = [chart("Calls", calls), chart("Minutes", minutes)];
  }

  draw();
  new ResizeObserver(() => {
    for (const each of charts) each.setSize({ width: host.clientWidth, height: HEIGHT });
  }).observe(host);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
