// The "make film" page: presets fill in the grid, "All" and "None" tick the series.
const form = document.querySelector("[data-film-form]");

const changed = () => form.dispatchEvent(new Event("change", { bubbles: true }));

const showPreset = () => {
  for (const button of form.querySelectorAll("[data-columns]")) {
    const isChosen = button.dataset.columns === form.elements.columns.value && button.dataset.rows === form.elements.rows.value;
    button.classList.toggle("btn-primary", isChosen);
    button.setAttribute("aria-pressed", String(isChosen));
  }
};

const tick = (isTicked) => {
  for (const box of form.querySelectorAll('input[name="series"]')) box.checked = isTicked;
  changed();
};

if (form) {
  for (const hidden of form.querySelectorAll("[data-presets], [data-all-series], [data-no-series]")) hidden.hidden = false;
  form.addEventListener("click", (event) => {
    const preset = event.target.closest("[data-columns]");
    if (preset) {
      form.elements.columns.value = preset.dataset.columns;
      form.elements.rows.value = preset.dataset.rows;
      changed();
    }
    if (event.target.closest("[data-all-series]")) tick(true);
    if (event.target.closest("[data-no-series]")) tick(false);
  });
  form.addEventListener("change", showPreset);
  form.addEventListener("input", showPreset);
  showPreset();
}
