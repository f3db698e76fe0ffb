
// ---- single records that a row gets wrong: html_misses.py gives them, this follows html.js ----------------------
const misses = JSON.parse($("misses-data")?.textContent ?? '{"rows":{}}');
const missed = [...rows.values()].filter((row) => misses.rows[row.key]?.lists.length);
const listed = (row) => misses.rows[row.key].lists;
const spelt = (of, score) => of.probabilities ? score.toFixed(3) : String(score);
const what = ([label, num, of]) => label < 0 ? "largest loss" : `${misses.labels[label]}: missed positives (${num} of ${of})`;

if (missed.length) {
  $("misses-row").append(...options(missed, state.shown.find((row) => missed.includes(row))?.key));
  $("misses-row").addEventListener("change", () => offer(true));
  $("misses-what").addEventListener("change", () => list(true));
  more.push((row) => missed.includes(row) ? make("button", { type: "button", class: "to-misses", onclick: () => {
    $("misses-row").value = row.key;
    offer(true);
    $("misses-row").focus();
    $("misses-row").scrollIntoView({ block: "center" });
  } }, "Records that it gets wrong") : "");
  offer(false);
} else if ($("misses")) $("misses-note").textContent = "No row has predictions and labels from which records could be listed.";

/** Offer the lists of the chosen row; the kind of list stays. */
function offer(loud) {
  const row = rows.get($("misses-row").value), before = $("misses-what").value;
  $("misses-what").replaceChildren(...listed(row).map((each) => make("option", { value: each[0] }, what(each))));
  if (listed(row).some(([label]) => String(label) === before)) $("misses-what").value = before;
  list(loud);
}
function list(loud) {
  const row = rows.get($("misses-row").value), of = misses.rows[row.key];
  const chosen = listed(row).find(([label]) => String(label) === $("misses-what").value);
  const [label, num, all, entries] = chosen;
  const shown = `${entries.length} of ${num.toLocaleString("en")} records, the ${label < 0 ? "largest loss" : "lowest score"} first`;
  $("misses-note").textContent = `${shown}; the row's run of ${of.run}; ${of.words}. Bars: score from 0 to 1 with a tick at the `
    + "threshold. Loss: mean cross-entropy over the labels of the task.";
  $("misses").replaceChildren(...entries.map((entry) => record(of, label, entry)));
  if (loud) say(`${row.name}, ${what(chosen)}: ${shown}`);
}

function record(of, label, [place, loss, scores]) {
  const [name, person, statements, truths] = misses.records[place];
  const asked = scores.find(([column]) => column === label);
  const verdict = asked ? `${misses.labels[label]}: ${spelt(of, asked[1])} < ${spelt(of, of.thresholds[label])}` : `loss ${loss.toFixed(2)}`;
  return make("li", {},
    make("div", { class: "title-line" }, make("h3", {}, `ecg_id ${name}`), make("strong", {}, verdict)),
    make("p", {}, person), make("p", {}, statements),
    make("ul", { class: "scores" }, ...scores.map((score) => scored(of, truths, score))), ecg(place, name));
}
function scored(of, truths, [column, score, predicted]) {
  const has = truths.includes(column), wrong = has !== Boolean(predicted), threshold = of.thresholds[column];
  const word = wrong ? (has ? "missed" : "false alarm") : has ? "true" : "";
  const bar = make("span", { class: "score-bar", "aria-hidden": true, style: `--score:${score};--threshold:${threshold}` },
    make("i"), threshold === null ? "" : make("b"));
  return make("li", { class: (wrong ? "wrong" : "") + (has ? " has" : "") },
    make("span", {}, misses.labels[column] + (word && `, ${word}`)), of.probabilities ? bar : "",
    make("span", {}, spelt(of, score), make("span", { class: "hidden" }, threshold === null ? "" : `, threshold ${spelt(of, threshold)}`)));
}

/** Return a record's ECG on paper; it scrolls where the window is narrow. */
function ecg(place, name) {
  const known = misses.ecgs[place];
  if (!known?.length) return make("p", { class: "note" }, known ? "No ECG: its signals were not at hand or could not be read."
    : "No ECG: this page has room for the worst records alone; bench misses draws it.");
  const [rate, scale, samples, text] = known, { layout, headroom, row, pulse, step } = misses.paper;
  const steps = Int8Array.from(atob(text), (each) => each.charCodeAt(0));
  const width = pulse + 250, height = headroom + row * layout.length;
  const grid = (gap) => {
    let path = "";
    for (let x = 0; x <= width; x += gap) path += `M${x} 0V${height}`;
    for (let y = 0; y <= height; y += gap) path += `M0 ${y}H${width}`;
    return path;
  };
  const words = `${rate} Hz, 25 mm/s, ${scale} mm/mV; a large square is 0.2 s and ${+(5 / scale).toPrecision(3)} mV`;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `The 12 leads of ecg_id ${name}, raw, ${words}` },
    make("path", { class: "fine", d: grid(1) }), make("path", { class: "coarse", d: grid(5) }));
  let at = 0;
  layout.forEach((leads, line) => {
    const zero = headroom + (line + 0.5) * row;
    let path = `M1 ${zero}h1.5v-10h5v10h1.5`;
    leads.forEach((lead, part) => {
      const start = Math.floor(samples * part / leads.length), end = Math.floor(samples * (part + 1) / leads.length);
      const x = (sample) => pulse + sample / rate * 25;
      if (start) path += `M${x(start)} ${zero - 3}v6`;
      let level = 0, pen = "M";
      for (let sample = start; sample < end; sample++, at++) {
        if (steps[at] === -128) { pen = "M"; continue; }
        level += steps[at];
        path += `${pen}${+x(sample).toFixed(2)} ${+(zero - level * step).toFixed(2)}`;
        pen = "L";
      }
      svg.append(make("text", { x: x(start) + 1, y: zero - 10 }, lead));
    });
    svg.append(make("path", { class: "trace", d: path }));
  });
  return make("div", {},
    make("div", { class: "paper", tabindex: 0, role: "region", "aria-label": `ECG of ecg_id ${name}` }, svg),
    make("p", { class: "note" }, words));
}
