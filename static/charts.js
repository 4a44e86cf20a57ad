// The overview's charts: each `.chart` draws its `data-chart`, days in the account's time zone.
"use strict";

(() => {
  const HEIGHT = 180;
  const HALF_A_DAY = 12 * 3600;
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
  const short = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });
  const round = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const exact = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
  const dayOf = (seconds) => short.format(new Date(seconds * 1000));
  const steps = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((power) => [1, 2, 5].map((n) => n * 10 ** power));

  function inUnit(unit) {
    if (unit === "%") return (value) => `${exact.format(value)}%`;
    if (unit === "ms") {
      return (value) => value < 1000 ? `${exact.format(value)} ms` : `${exact.format(value / 1000)} s`;
    }
    return (value) => value < 1e5 ? exact.format(value) : round.format(value);
  }

  function axis(options) {
    return {
      stroke: color("--quiet"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: color("--line"), width: 1 },
      ticks: { show: false },
      ...options,
    };
  }

  // Bars that stand on each other: the tallest is drawn first, so the last series is the lowest.
  function stacked(series) {
    const sums = series.map((_, at) => series[at].values.map(
      (_, day) => series.slice(0, at + 1).reduce((sum, each) => sum + each.values[day], 0)));
    return series.map((each, at) => ({ ...each, drawn: sums[at] })).reverse();
  }

  function chart(host) {
    const { days, unit, kind, series } = JSON.parse(host.dataset.chart);
    const isStack = kind === "stack";
    const shown = isStack ? stacked(series) : series.map((each) => ({ ...each, drawn: each.values }));
    const format = inUnit(unit);
    const options = {
      width: host.clientWidth,
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: {
        x: { range: (_, first, last) => [first - HALF_A_DAY, last + HALF_A_DAY] },
        y: { range: (_, least, most) => [0, Math.max((most ?? 0) * 1.1, unit === "%" ? 10 : 1)] },
      },
      axes: [
        axis({ grid: { show: false }, size: 28, space: 60, incrs: [1, 2, 7, 14].map((n) => n * 24 * 3600),
          values: (_, splits) => splits.map(dayOf) }),
        axis({ size: 60, space: 32, incrs: steps,
          values: (_, splits) => splits.map(format) }),
      ],
      series: [
        { label: "Day", value: (_, value) => value == null ? "–" : dayOf(value) },
        ...shown.map(({ label, color: name, values }) => ({
          label,
          stroke: color(name),
          ...(isStack
            ? { fill: color(name), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.7, 28] }) }
            : { width: 2, spanGaps: true, points: { show: true, size: 5, fill: color(name) } }),
          value: (_, value, __, at) => at == null || values[at] == null ? "–" : format(values[at]),
        })),
      ],
      cursor: { y: false, points: { show: false }, drag: { x: false }, sync: { key: "days" } },
      legend: { markers: { width: 0, fill: (_, at) => at ? color(shown[at - 1].color) : "transparent" } },
    };
    return new uPlot(options, [days, ...shown.map((each) => each.drawn)], host);
  }

  const drawn = new Map();
  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      drawn.get(target).setSize({ width: target.clientWidth, height: HEIGHT });
    }
  });

  function draw(host) {
    drawn.get(host)?.destroy();
    drawn.set(host, chart(host));
    resized.observe(host);
  }

  // Each in a task of its own: all at once would hold up a phone.
  for (const host of document.querySelectorAll(".chart")) setTimeout(() => draw(host));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const host of drawn.keys()) draw(host);
  });
})();
