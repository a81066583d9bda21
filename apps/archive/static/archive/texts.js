// Text repair: "all" ticks every study, and the page comes again while studies are in work.
const RELOAD_MS = 2000;
const form = document.querySelector("form[action$='/decide/']");
const everything = form?.querySelector("[data-everything]");

everything?.addEventListener("change", () => {
  for (const box of form.querySelectorAll("[name=doubt]:not(:disabled)")) {
    box.checked = everything.checked;
  }
});
form?.addEventListener("change", (event) => {
  if (everything && event.target.name === "doubt" && !event.target.checked) {
    everything.checked = false;
  }
});
if (form && "reload" in form.dataset) {
  const wait = setInterval(() => {
    if (!form.querySelector("[name=doubt]:checked")) {
      clearInterval(wait);
      location.reload();
    }
  }, RELOAD_MS);
}
