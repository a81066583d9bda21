// The worklist: filters, rows by keyboard, and new studies without a reload.
const POLL_MS = 10_000;
const form = document.getElementById("filters");
const results = () => document.getElementById("results");
const rows = () => [...document.querySelectorAll("[data-row]")];
const lettersOff = () => {
  try {
    return Boolean(localStorage.getItem("dicomsys-letter-keys-off"));
  } catch {
    return false;
  }
};

const search = () => window.htmx.trigger(form, "submit");

const clear = () => {
  for (const field of form.elements) {
    if (field.type === "checkbox") field.checked = false;
    else if (field.type === "radio") field.checked = field.value === "";
    else if (field.name !== "csrfmiddlewaretoken" && field.name !== "order" && field.name) field.value = "";
  }
  showRange();
  search();
};

const showRange = () => {
  const range = form.querySelector("[data-range]");
  range.hidden = form.elements.day.value !== "range";
};

const sortBy = (order) => {
  form.elements.order.value = order;
  search();
};

// --- Rows by keyboard: the link in the row holds the focus, so Enter opens it
const move = (step) => {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement?.closest("[data-row]"));
  const next = all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + step))];
  next.querySelector("a").focus();
  next.scrollIntoView({ block: "nearest" });
};

const STEPS = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 };

document.addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  if (!step || event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const field = event.target.closest("input, select, textarea, button");
  const fromSearch = field?.matches("[data-search-box]") && event.key === "ArrowDown";
  if ((field && !fromSearch) || (event.key.length === 1 && lettersOff())) return;
  event.preventDefault();
  move(step);
});

// --- Clicks: a row is one target, unless text is being selected
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-clear]")) clear();
  if (event.target.closest("[data-refresh]")) search();
  const sorter = event.target.closest("[data-order]");
  if (sorter) sortBy(sorter.dataset.order);
  const row = event.target.closest("[data-row]");
  if (row && !event.target.closest("a, button") && !String(getSelection())) row.querySelector("a").click();
});

form.addEventListener("input", showRange);

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "results" && event.target.id !== "results") return;
  document.getElementById("hint").replaceChildren();
  form.querySelector("[data-clear]").hidden = Boolean(results().dataset.empty);
});

// --- New studies: the untouched first page renews itself, a page in use only gets a hint
const isUntouched = () => scrollY < 40 && !document.activeElement?.closest("[data-row], #filters") && rows().length <= 50;

const poll = () => {
  if (document.visibilityState !== "visible" || document.querySelector("dialog[open], .htmx-request")) return;
  const { poll: url, state, newest } = results().dataset;
  const quiet = isUntouched();
  window.htmx.ajax("POST", url, {
    source: form,
    values: { state, newest, quiet: quiet ? "1" : "" },
    target: quiet ? "#results" : "#hint",
    swap: quiet ? "outerHTML" : "innerHTML",
  });
};
setInterval(poll, POLL_MS);
document.addEventListener("visibilitychange", poll);
