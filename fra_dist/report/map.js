for (const map of document.querySelectorAll(".map")) {
  const {keys, tiles, colourings} = JSON.parse(map.querySelector("script").textContent);
  const points = [...map.querySelectorAll(".points use")];
  const legend = map.querySelector(".legend"), face = map.querySelector(".face"), words = map.querySelector(".words");
  let shown = 0, only = null, current = null;
  const hide = () => points.forEach((point, i) =>
    point.classList.toggle("away", only !== null && colourings[shown].of[i] !== only));
  const entry = (label, number) => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.className = "entry";
    button.setAttribute("aria-pressed", "false");
    button.innerHTML = `<svg viewBox="-7 -7 14 14" aria-hidden="true"><use href="#m-${label.shape}" class="${label.style}"/></svg>`;
    button.append(`${label.text} (${label.count})`);
    button.addEventListener("click", () => {
      only = only === number ? null : number;
      [...legend.querySelectorAll("button")].forEach((other, k) => other.setAttribute("aria-pressed", String(k === only)));
      hide();
    });
    item.append(button);
    return item;
  };
  const colour = number => {
    [shown, only] = [number, null];
    const {legend: labels, of} = colourings[number];
    points.forEach((point, i) => {
      const label = labels[of[i]];
      point.setAttribute("href", "#m-" + label.shape);
      point.setAttribute("class", label.style);
    });
    legend.replaceChildren(...labels.map(entry));
    if (current !== null) points[current].classList.add("now");
  };
  const show = i => {
    if (current !== null) points[current].classList.remove("now");
    current = i;
    points[i].classList.add("now");
    const {tile, across, rows} = map.dataset;
    face.style.display = tiles[i] < 0 ? "none" : "block";
    if (tiles[i] >= 0) {
      const share = (at, all) => all > 1 ? 100 * at / (all - 1) : 0;
      face.style.backgroundSize = `${100 * across}% ${100 * rows}%`;
      face.style.backgroundPosition = `${share(tiles[i] % across, across)}% ${share(Math.floor(tiles[i] / across), rows)}%`;
    }
    const name = document.createElement("b");
    name.textContent = keys[i];
    words.replaceChildren(name);
    const first = colourings[shown];
    for (const one of [first, ...colourings.filter(other => other !== first)].filter(Boolean)) {
      const line = document.createElement("div");
      line.textContent = `${one.name}: ${one.labels[i] || "not known"}`;
      words.append(line);
    }
  };
  const nearest = event => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(points[0].ownerSVGElement.getScreenCTM().inverse());
    let best = -1, least = 900;
    points.forEach((point, i) => {
      if (point.classList.contains("away")) return;
      const far = (point.x.baseVal.value - at.x) ** 2 + (point.y.baseVal.value - at.y) ** 2;
      if (far < least) [best, least] = [i, far];
    });
    if (best >= 0 && best !== current) show(best);
  };
  if (!points.length) continue;
  for (const kind of ["pointermove", "click"]) map.querySelector(".points").addEventListener(kind, nearest);
  if (colourings.length) colour(0);
  if (colourings.length > 1) {
    const choice = document.createElement("select");
    choice.setAttribute("aria-label", "Colour the points by");
    colourings.forEach(({name}, k) => choice.add(new Option(name, k)));
    choice.addEventListener("change", () => colour(Number(choice.value)));
    map.querySelector(".choice").replaceChildren(choice);
  }
}
