"use strict";
(() => {
  const page = JSON.parse(document.getElementById("numbers").textContent);
  const media = JSON.parse(document.getElementById("media-data").textContent);
  const sweeps = page.sweeps;
  const many = sweeps.length > 1;
  const LETTERS = ["A", "B"];
  const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#777777"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const MARKERS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon"];
  const NAMES = { elbo: "ELBO", distortion: "distortion", rate: "rate", negative_elbo: "−ELBO" };
  const IN_NATS = (metric) => /^(elbo|distortion|rate|negative_elbo)$|^rate\./.test(metric);
  const TROUBLES = {
    failed: "failed", diverged: "diverged, and are on no curve", missing: "have not been started",
    running: "have not ended", saturated: "could not reach their target: open on the curves",
    unsettled: "ended before their rate control had settled: open on the curves; train longer",
    missed: "missed their target on the training data",
  };
  const state = { log: 1, per: "datum", against: "rate" };

  // --- words and numbers

  const $ = (id) => document.getElementById(id);
  function make(tag, text, attributes = {}) {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }
  const factor = () => state.log / (state.per === "datum" ? 1 : sweeps[0].units[state.per]);
  const unit = () => `${state.log === 1 ? "nats" : "bits"} per ${state.per}`;
  const scaled = (value) => (value === null || value === undefined ? null : value * factor());
  function show(value, digits = 4) {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number") return String(value);
    return Number(value.toPrecision(digits)).toString().replace("-", "−");
  }
  const signed = (value, digits = 3) => (value > 0 ? "+" : "") + show(value, digits);
  const nats = (value, digits = 4) => show(scaled(value), digits);
  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  const label = (sweep, number) => (many ? `${LETTERS[number]}: ` : "");
  const settings = (values) => Object.entries(values).map(([key, value]) => `${key}=${value}`).join(" ");

  // --- tables

  function table(columns, rows, caption) {
    const element = make("table");
    element.append(make("caption", caption, { class: "note" }));
    const head = element.createTHead().insertRow();
    const body = element.createTBody();
    const numeric = columns.map((_, i) => rows.some((row) => typeof row[i] === "object" && row[i] !== null && "number" in row[i]));
    columns.forEach((name, i) => {
      const cell = make("th", null, { scope: "col" });
      if (numeric[i]) cell.className = "number";
      const button = make("button", name, { type: "button" });
      let up = false;
      button.addEventListener("click", () => {
        up = !up;
        const sign = up ? 1 : -1;
        const key = (row) => { const value = row[i]; return value && value.number !== undefined ? value.number : value && value.text !== undefined ? value.text : value; };
        const sorted = [...rows].sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === null || x === undefined) return 1;
          if (y === null || y === undefined) return -1;
          return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
        });
        for (const other of head.cells) other.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", up ? "ascending" : "descending");
        fill(sorted);
      });
      cell.append(button);
      head.append(cell);
    });
    function fill(all) {
      body.replaceChildren(...all.map((row) => {
        const line = make("tr");
        row.forEach((value, i) => {
          const cell = make("td");
          if (numeric[i]) cell.className = "number";
          if (value && value.act) {
            const button = make("button", value.text, { type: "button" });
            button.addEventListener("click", value.act);
            cell.append(button);
          } else cell.textContent = value && value.number !== undefined ? value.shown : show(value);
          line.append(cell);
        });
        return line;
      }));
    }
    fill(rows);
    return element;
  }
  const figure = (value, digits = 4) => ({ number: value, shown: show(value, digits) });
  const inNats = (value, digits = 4) => figure(scaled(value), digits);
  const inUnits = (metric, value, digits) => (IN_NATS(metric) ? inNats(value, digits) : figure(value, digits));

  // --- head, answers, troubles

  function drawHead() {
    const titles = sweeps.map((sweep, i) => `${label(sweep, i)}${sweep.sweep.name}, preset ${sweep.sweep.preset}`);
    $("title").textContent = titles.join(" — ");
    $("about").textContent = sweeps.map((sweep, i) => {
      const { cells, ended, outcomes } = sweep.progress;
      const state_ = ended < cells ? `${ended} of ${cells} cells have ended` : plural(cells, "cell");
      const seeds = new Set(sweep.cells.map((cell) => cell.seed)).size;
      return `${label(sweep, i)}${state_} (${settings(outcomes)}), ${plural(seeds, "seed")}, data ${sweep.sweep.data.spec || "not named"}, ` +
        `family ${sweep.sweep.family}; drawn ${sweep.drawn.replace("T", " ").replace("+00:00", " UTC")}`;
    }).join(" ");
  }

  function answerOf(answer) {
    const item = make("li");
    const name = NAMES[answer.metric];
    item.append(make("span", `${answer.role}: ${answer.domain}`, { class: "where" }));
    item.append(make("b", `${nats(answer.value)} ${unit()}`));
    const best = answer.metric === "elbo" ? "highest" : "lowest";
    const interval = answer.low === null ? "one seed, so no interval" : `95 % ${nats(answer.low)} to ${nats(answer.high)}, ${plural(answer.seeds, "seed")}`;
    const span = answer.rate_low === null ? "" : `, ${answer.chosen_on ? "by seed" : "seeds' own optima"} ${nats(answer.rate_low, 3)} to ${nats(answer.rate_high, 3)}`;
    const at = `at a rate of ${nats(answer.rate, 3)}${span}`;
    item.append(make("span", answer.chosen_on
      ? `${name} (${interval}) ${at}: of the cells whose ${name} is ${best} on ${answer.chosen_on}.`
      : `${best} ${name} (${interval}) ${at}.`));
    if (answer.chosen_on) item.append(make("span", ` ${best[0].toUpperCase() + best.slice(1)} on its own curve: ${nats(answer.own.value)} at ${nats(answer.own.rate, 3)}.`, { class: "where" }));
    const reach = `Rates from ${nats(answer.reaches[0], 3)} to ${nats(answer.reaches[1], 3)} were looked at`;
    const edge = answer.at_edge ? ": this is the edge, and it may go on beyond." : ".";
    item.append(make("span", ` ${reach}${edge}`, { class: answer.at_edge ? "edge" : "where" }));
    return item;
  }

  function drawAnswers() {
    const section = $("answers");
    section.querySelectorAll("ul, p").forEach((one) => one.remove());
    sweeps.forEach((sweep, i) => {
      const roles = sweep.answers.some((answer) => answer.role === "test" || answer.role === "unseen") ? ["test", "unseen"] : ["valid", "train"];
      const chosen = sweep.answers.filter((answer) => roles.includes(answer.role));
      if (many) section.append(make("p", `${LETTERS[i]}: ${sweep.sweep.name} ${sweep.sweep.preset}`));
      if (!chosen.length) section.append(make("p", "No cell has finished yet."));
      const list = make("ul", null, { class: "answers" });
      list.append(...chosen.map(answerOf));
      section.append(list);
    });
  }

  function drawTroubles() {
    const lists = sweeps.flatMap((sweep, i) => sweep.troubles.map((trouble) => {
      const item = make("li");
      const details = make("details");
      details.append(make("summary", `${label(sweep, i)}${plural(trouble.cells.length, "cell")} ${TROUBLES[trouble.kind] || trouble.kind}`));
      const list = make("ul");
      trouble.cells.forEach(({ cell, why }) => {
        const line = make("li");
        const button = make("button", cell, { type: "button" });
        button.addEventListener("click", () => choose(i, cell));
        line.append(button, why ? ` ${why}` : "");
        list.append(line);
      });
      details.append(list);
      item.append(details);
      return item;
    }));
    if (!lists.length) { $("troubles").hidden = true; return; }
    const list = make("ul");
    list.append(...lists);
    $("troubles").append(list);
  }

  // --- curves

  const domains = [...new Set(sweeps.flatMap((sweep) => sweep.domains.map((domain) => domain.name)))];
  const roleOf = Object.fromEntries(sweeps.flatMap((sweep) => sweep.domains.map((domain) => [domain.name, domain.role])));
  const isShown = (domain) => roleOf[domain] === "test" || roleOf[domain] === "unseen" || domains.length === 1;

  function placeOf(cell, domain) {
    return state.against === "target" ? cell.target : cell.on[domain] && cell.on[domain].rate;
  }

  function tracesOf(metric) {
    const traces = [];
    sweeps.forEach((sweep, s) => domains.forEach((domain, d) => {
      const look = many ? s * 4 + (d % 4) : d;
      const colour = COLOURS[look % COLOURS.length];
      const group = `${s} ${domain}`;
      const name = `${label(sweep, s)}${domain}`;
      const visible = isShown(domain) ? true : "legendonly";
      const line = sweep.curve.filter((row) => row.kind === "curve" && row.domain === domain);
      if (state.against === "rate" && line.length) {
        const x = line.map((row) => scaled(row.rate));
        const low = line.map((row) => scaled(row[`${metric}_low`]));
        const high = line.map((row) => scaled(row[`${metric}_high`]));
        if (low.some((value) => value !== null)) {
          const common = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", legendgroup: group, showlegend: false, visible };
          traces.push({ ...common, y: low }, { ...common, y: high, fill: "tonexty", fillcolor: colour + "26" });
        }
        traces.push({ x, y: line.map((row) => scaled(row[metric])), mode: "lines", name, legendgroup: group, visible, hoverinfo: "skip",
          line: { color: colour, width: 2.5, dash: DASHES[s % DASHES.length] } });
      }
      const points = sweep.cells.filter((cell) => cell.on_curve && cell.on[domain] && placeOf(cell, domain) !== null);
      if (!points.length) return;
      traces.push({
        x: points.map((cell) => scaled(placeOf(cell, domain))), y: points.map((cell) => scaled(cell.on[domain][metric])), mode: "markers",
        name, legendgroup: group, showlegend: state.against === "target" || !line.length, visible,
        marker: { color: colour, size: 8, opacity: 0.85, line: { width: 1.5, color: colour },
          symbol: points.map((cell) => MARKERS[look % MARKERS.length] + (cell.open ? "-open" : "")) },
        customdata: points.map((cell) => [s, cell.cell]), text: points.map((cell) => hoverOf(sweep, cell, domain)), hoverinfo: "text",
      });
    }));
    return traces;
  }

  function hoverOf(sweep, cell, domain) {
    const on = cell.on[domain];
    const betas = Object.entries(cell.beta).filter(([, value]) => value !== null).map(([name, value]) => `β(${name}) ${show(value, 3)}`);
    const lines = [`<b>${escape(domain)}</b>`, `seed ${show(cell.seed)}${cell.target === null ? "" : `, target ${nats(cell.target, 3)}`}`,
      `rate ${nats(on.rate)}, distortion ${nats(on.distortion)}, ELBO ${nats(on.elbo)}`, ...betas, escape(settings(cell.axes)), `cell ${cell.cell}`, `run ${cell.run}`];
    return lines.filter(Boolean).join("<br>");
  }
  const escape = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");

  function layout(title, x, y) {
    const style = getComputedStyle(document.documentElement);
    const [ink, grid, line] = ["--ink", "--grid", "--line"].map((name) => style.getPropertyValue(name).trim());
    const axis = { gridcolor: grid, zerolinecolor: line, linecolor: line, automargin: true, ticks: "outside", tickcolor: line };
    return {
      title: { text: title, font: { size: 15 }, x: 0, xanchor: "left", xref: "paper" }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, size: 13, family: getComputedStyle(document.body).fontFamily }, margin: { l: 10, r: 10, t: 44, b: 10 },
      xaxis: { ...axis, title: { text: x } }, yaxis: { ...axis, title: { text: y } }, hovermode: "closest", hoverlabel: { align: "left" },
      legend: { orientation: "h", y: innerWidth < 700 ? -0.42 : -0.28, yanchor: "top" }, dragmode: "pan", modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: ink },
    };
  }
  const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"], scrollZoom: false };

  function drawCurves() {
    const x = `${state.against === "rate" ? "achieved rate" : "target rate"}, ${unit()}`;
    for (const metric of ["distortion", "elbo"]) {
      const element = $(metric);
      const before = element.data ? Object.fromEntries(element.data.map((trace) => [trace.legendgroup, trace.visible])) : {};
      const traces = tracesOf(metric).map((trace) => ({ ...trace, visible: before[trace.legendgroup] ?? trace.visible }));
      const title = metric === "elbo" ? "ELBO" : "Distortion";
      element.setAttribute("aria-label", `${title} against ${x}: the numbers are in the tables below`);
      Plotly.react(element, traces, layout(title, x, unit()), CONFIG).then((graph) => {
        graph.removeAllListeners("plotly_click");
        graph.on("plotly_click", (event) => { const [s, cell] = event.points[0].customdata || []; if (cell) choose(s, cell); });
      });
    }
    const rows = sweeps.flatMap((sweep, s) => sweep.curve.filter((row) => row.kind === "curve").map((row) => [
      `${label(sweep, s)}${row.domain}`, inNats(row.rate), inNats(row.distortion), inNats(row.distortion_low), inNats(row.distortion_high),
      inNats(row.elbo), inNats(row.elbo_low), inNats(row.elbo_high), figure(row.n_cells), figure(row.n_seeds)]));
    const columns = ["domain", "rate", "distortion", "low", "high", "ELBO", "low", "high", "cells", "seeds"];
    $("curve-table").replaceChildren(table(columns, rows, `Curves, in ${unit()}`));
    const optima = sweeps.flatMap((sweep, s) => sweep.answers.map((one) => [
      `${label(sweep, s)}${one.domain}`, one.role, NAMES[one.metric], inNats(one.value), inNats(one.low), inNats(one.high), inNats(one.rate),
      inNats(one.rate_low), inNats(one.rate_high), one.at_edge ? "at the edge" : "", figure(one.seeds)]));
    const of = ["domain", "role", "metric", "optimum", "low", "high", "at rate", "seeds from", "to", "", "seeds"];
    $("optima-table").replaceChildren(table(of, optima, `Optima, in ${unit()}`));
  }

  // --- a cell that was chosen

  function choose(s, name) {
    const sweep = sweeps[s];
    const cell = sweep.cells.find((one) => one.cell === name);
    const card = $("chosen");
    card.replaceChildren(make("h3", `${label(sweep, s)}cell ${name}`));
    const list = make("dl");
    const add = (term, text, code) => { list.append(make("dt", term)); const value = make("dd"); value.append(code ? make("code", text) : text); list.append(value); };
    add("outcome", cell.outcome);
    add("settings", [`seed ${show(cell.seed)}`, cell.target === null ? "" : `target ${nats(cell.target)} ${unit()}`, settings(cell.axes)].filter(Boolean).join(", "));
    for (const [rate, beta] of Object.entries(cell.beta)) if (beta !== null) add(`β of ${rate} at the end`, show(beta));
    for (const [domain, on] of Object.entries(cell.on))
      add(domain, Object.entries(on).map(([metric, value]) => `${NAMES[metric] || metric} ${nats(value, 5)}`).join(", ") + ` ${unit()}`);
    if (cell.run) {
      add("run in MLflow", cell.run, true);
      add("its page, with `vaesweep ui`", `http://127.0.0.1:5000/#/experiments/${sweep.sweep.experiment}/runs/${cell.run}`, true);
      if (cell.outcome === "finished") add("its model, in Python", `vaesweep.load("${name}")`, true);
    }
    card.append(list);
    card.hidden = false;
    card.scrollIntoView({ block: "nearest" });
  }

  // --- gaps, effects, differences

  function drawGaps() {
    const traces = [];
    sweeps.forEach((sweep, s) => {
      const rows = sweep.gaps.filter((row) => row.metric === "negative_elbo" && row.target_rate !== null);
      const pairs = new Map();
      rows.forEach((row) => {
        const own = settings(Object.fromEntries(sweep.gap_axes.map((axis) => [axis, row[axis]])));
        const key = `${label(sweep, s)}${row.from} → ${row.to}${own ? `, ${own}` : ""}`;
        pairs.set(key, [...(pairs.get(key) || []), row]);
      });
      for (const [key, of] of pairs) {
        const colour = COLOURS[traces.length % COLOURS.length];
        of.sort((a, b) => a.target_rate - b.target_rate);
        const known = of.some((row) => row.low !== null);
        traces.push({ x: of.map((row) => scaled(row.target_rate)), y: of.map((row) => scaled(row.gap)), name: key, mode: "lines+markers",
          line: { color: colour, width: 2, dash: DASHES[s] }, marker: { color: colour, symbol: MARKERS[traces.length % MARKERS.length], size: 7 },
          error_y: known ? { type: "data", array: of.map((row) => (row.high === null ? 0 : scaled(row.high - row.gap))), color: colour, thickness: 1.2, width: 3 } : undefined,
          text: of.map((row) => `${escape(key)}<br>${nats(row.gap)} ${unit()}<br>${row.low === null ? "one seed" : `95 % ${nats(row.low)} to ${nats(row.high)}, ${plural(row.n_seeds, "seed")}`}`), hoverinfo: "text" });
      }
    });
    const element = $("gap-plot");
    element.hidden = !traces.length;
    element.setAttribute("aria-label", "Gaps of −ELBO by target rate: the numbers are in the table below");
    if (traces.length) Plotly.react(element, traces, layout("Gap of −ELBO", `target rate, ${unit()}`, unit()), CONFIG);
    const rows = sweeps.flatMap((sweep, s) => sweep.gaps.filter((row) => row.target_rate === null && sweep.gap_axes.every((axis) => row[axis] === null)).map((row) => [
      `${label(sweep, s)}${row.from} → ${row.to}`, NAMES[row.metric] || row.metric, inUnits(row.metric, row.gap), inUnits(row.metric, row.low), inUnits(row.metric, row.high), figure(row.n_seeds)]));
    $("gap-table").replaceChildren(table(["gap", "metric", "mean", "low", "high", "seeds"], rows, `Rates, distortions and ELBOs in ${unit()}, others in their own units`));
    $("gaps").hidden = !rows.length && !traces.length;
  }

  function drawEffects() {
    const rows = sweeps.flatMap((sweep, s) => sweep.effects.map((row) => [
      `${label(sweep, s)}${row.axis}`, `${row.value} against ${row.against}`, row.domain, NAMES[row.metric], inNats(row.difference), inNats(row.low), inNats(row.high),
      row.low === null ? "one seed" : row.low > 0 ? "higher" : row.high < 0 ? "lower" : "undecided", figure(row.n_seeds), figure(row.n_pairs)]));
    if (!rows.length) return;
    $("effects").hidden = false;
    $("effects-table").replaceChildren(table(["setting", "values", "domain", "metric", "difference", "low", "high", "", "seeds", "pairs"], rows, `In ${unit()}`));
  }

  function drawDifferences() {
    if (!many) return;
    const section = $("compared");
    section.hidden = false;
    section.querySelectorAll("p, div").forEach((one) => one.remove());
    section.append(make("p", page.settings.length ? `They differ in ${page.settings.join(", ")}.` : "All settings that are common to a sweep's cells are the same."));
    if (!page.differences.length) { section.append(make("p", "They have no target rate with seeds in common, so cells cannot be compared pair by pair.")); return; }
    const rows = page.differences.map((row) => [row.domain, NAMES[row.metric], inNats(row.difference), inNats(row.low), inNats(row.high),
      row.low === null ? "one seed" : row.low > 0 ? "A higher" : row.high < 0 ? "B higher" : "undecided", figure(row.n_seeds), figure(row.n_targets)]);
    const holder = make("div", null, { class: "scroll" });
    holder.append(table(["domain", "metric", "A − B", "low", "high", "", "seeds", "targets"], rows, `Over common targets and seeds, in ${unit()}`));
    section.append(holder);
  }

  // --- cells, media, how

  function drawCells() {
    const domain = $("cells-domain").value;
    const axes = [...new Set(sweeps.flatMap((sweep) => sweep.gap_axes))];
    const rows = sweeps.flatMap((sweep, s) => sweep.cells.map((cell) => {
      const on = cell.on[domain] || {};
      return [{ text: `${label(sweep, s)}${cell.cell}`, act: () => choose(s, cell.cell) }, figure(cell.seed), inNats(cell.target), ...axes.map((axis) => cell.axes[axis] ?? null),
        inNats(on.rate), inNats(on.distortion), inNats(on.elbo), cell.outcome + (cell.open ? ", open" : "")];
    }));
    $("cells-table").replaceChildren(table(["cell", "seed", "target", ...axes, "rate", "distortion", "ELBO", "outcome"], rows, `On ${domain}, in ${unit()}`));
  }

  function drawMedia() {
    if (!media.length) return;
    $("media").hidden = false;
    const grid = make("div", null, { class: "figures" });
    const left = media.filter((one) => !one.data).map((one) => one.name);
    media.filter((one) => one.data).forEach((one) => {
      const holder = make("figure");
      const source = `data:${one.kind};base64,${one.data}`;
      if (one.kind.startsWith("image/")) holder.append(make("img", null, { src: source, alt: one.name, loading: "lazy" }));
      else holder.append(make("audio", null, { src: source, controls: "", preload: "none", "aria-label": one.name }));
      holder.append(make("figcaption", one.name));
      grid.append(holder);
    });
    $("media").append(grid);
    if (left.length) $("media").append(make("p", `Too large for this page, and beside it in the folder of the report: ${left.join(", ")}.`, { class: "note" }));
  }

  function drawHow() {
    const holder = $("how");
    sweeps.forEach((sweep, s) => {
      const of = sweep.sweep;
      const list = make("dl");
      const add = (term, text, code) => { if (!text) return; list.append(make("dt", term)); const value = make("dd"); value.append(code ? make("code", text) : text); list.append(value); };
      if (many) holder.append(make("h3", `${LETTERS[s]}: ${of.name} ${of.preset}`));
      add("again", `python ${of.command}`, true);
      add("vaesweep", [...of.code].join("; ") || sweep.vaesweep);
      add("data", of.data.summary.join("; ") || of.data.spec);
      add("fingerprint of the data", of.data.fingerprint, true);
      add("axes", Object.entries(of.axes).map(([axis, values]) => `${axis}: ${values.join(", ")}`).join("; "));
      add("last command began", of.began.replace("T", " ").replace("+00:00", " UTC"));
      add("sweep", of.identity, true);
      add("run of the sweep in MLflow", of.run, true);
      holder.append(list);
      const details = make("details");
      details.append(make("summary", "Settings that all cells share"), make("pre", Object.entries(of.settings).map(([key, value]) => `${key} = ${value}`).join("\n")));
      holder.append(details);
    });
    $("foot").textContent = `vaesweep ${sweeps[0].vaesweep}. report.json beside this page has the same numbers, in nats per datum.`;
  }

  // --- all of it

  function draw() {
    drawAnswers(); drawCurves(); drawGaps(); drawEffects(); drawDifferences(); drawCells();
  }
  const units = Object.keys(sweeps[0].units).filter((name) => sweeps.every((sweep) => sweep.units[name] === sweeps[0].units[name]));
  for (const name of ["datum", ...units]) $("per").append(make("option", name, { value: name }));
  for (const name of domains) $("cells-domain").append(make("option", name, { value: name }));
  const first = domains.find((name) => roleOf[name] === "test");
  if (first) $("cells-domain").value = first;
  if (!sweeps.some((sweep) => sweep.cells.some((cell) => cell.target !== null))) $("against").parentElement.hidden = true;
  $("log").addEventListener("change", (event) => { state.log = Number(event.target.value); draw(); });
  $("per").addEventListener("change", (event) => { state.per = event.target.value; draw(); });
  $("against").addEventListener("change", (event) => { state.against = event.target.value; drawCurves(); });
  $("cells-domain").addEventListener("change", drawCells);
  const root = document.documentElement;
  root.classList.toggle("dark", matchMedia("(prefers-color-scheme: dark)").matches);
  $("theme").addEventListener("click", () => { root.classList.toggle("dark"); drawCurves(); drawGaps(); });
  addEventListener("beforeprint", () => {
    root.classList.remove("dark");
    document.querySelectorAll("main details").forEach((one) => { one.open = true; });
    drawCurves(); drawGaps();
  });
  drawHead(); drawTroubles(); draw(); drawMedia(); drawHow();
  root.dataset.ready = "yes";
})();
