// The study page: one image large, next and previous by key or button.
const dialog = document.getElementById("large");
const picture = dialog.querySelector(".large-image");
const none = dialog.querySelector(".large-none");
const label = dialog.querySelector(".large-label");
const details = dialog.querySelector(".large-details");
let series = null;
let images = [];
let at = 0;
let frame = 1;

const frames = () => Number(images[at].dataset.frames);

const address = (image, number) => `${image.dataset.large}${Number(image.dataset.frames) > 1 ? `?frame=${number}` : ""}`;

const preload = (image, number) => {
  if (image?.dataset.large) new Image().src = address(image, number);
};

const show = () => {
  const image = images[at];
  const hasPixels = Boolean(image.dataset.large);
  picture.hidden = !hasPixels;
  none.hidden = hasPixels;
  const name = `${image.dataset.label}${frames() > 1 ? `, frame ${frame} of ${frames()}` : ""}`;
  label.textContent = `${name} (${at + 1} of ${Math.max(images.length, Number(series.dataset.total))})`;
  picture.alt = name;
  if (hasPixels) picture.src = address(image, frame);
  preload(frame < frames() ? image : images[at + 1], frame < frames() ? frame + 1 : 1);
};

const showDetails = () => window.htmx.ajax("GET", images[at].dataset.details, { target: details, swap: "innerHTML" });

const collect = () => {
  images = [...series.querySelectorAll("[data-image]")];
};

// The grid holds the first images of a long series: walking beyond them fetches more
const fetchMore = () => {
  const button = series.querySelector("[data-more-images]");
  if (!button || button.disabled) return;
  series.addEventListener(
    "htmx:afterSettle",
    () => {
      const before = images.length;
      collect();
      if (dialog.open && at === before - 1) step(1);
    },
    { once: true },
  );
  button.click();
};

const open = (image) => {
  series = image.closest("[data-series]");
  collect();
  at = images.indexOf(image);
  frame = Math.floor(frames() / 2) + 1;
  dialog.showModal();
  show();
  showDetails();
};

const step = (by) => {
  if (frame + by >= 1 && frame + by <= frames()) {
    frame += by;
    show();
    return;
  }
  if (at + by === images.length) fetchMore();
  if (!images[at + by]) return;
  at += by;
  frame = by > 0 ? 1 : frames();
  show();
  showDetails();
};

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

document.addEventListener("click", (event) => {
  const image = event.target.closest("[data-image]");
  if (image) open(image);
  const stepper = event.target.closest("[data-step]");
  if (stepper) step(Number(stepper.dataset.step));
});

dialog.addEventListener("keydown", (event) => {
  const by = STEPS[event.key];
  if (!by) return;
  event.preventDefault();
  step(by);
});

dialog.addEventListener("close", () => images[at]?.focus());
