// The page frame: dialogs, keys that work everywhere, and plain words when a request fails.
const LETTERS_OFF = "dicomsys-letter-keys-off";

const remembered = (key) => {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
};

const remember = (key, value) => {
  try {
    localStorage.setItem(key, value);
  } catch {
    // a browser that keeps nothing
  }
};

const isTyping = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;

const openDialog = (id) => {
  const dialog = document.getElementById(id);
  if (dialog && !dialog.open) dialog.showModal();
};

const focusSearch = (event) => {
  const box = document.querySelector("[data-search-box]");
  if (!box) return;
  event.preventDefault();
  box.focus();
  box.select();
};

const notice = (text) => {
  const box = document.createElement("div");
  box.className = "alert alert-danger";
  box.setAttribute("role", "alert");
  box.textContent = text;
  document.getElementById("messages")?.replaceChildren(box);
};

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open-dialog]");
  if (opener) openDialog(opener.dataset.openDialog);
  const closer = event.target.closest("[data-close-dialog]");
  if (closer) closer.closest("dialog")?.close();
  if (event.target instanceof HTMLDialogElement) event.target.close(); // the backdrop
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  if (event.key === "Escape" && isTyping(event.target)) event.target.blur();
  if (isTyping(event.target) || remembered(LETTERS_OFF)) return;
  if (event.key === "?") openDialog("keys");
  if (event.key === "/") focusSearch(event);
});

for (const box of document.querySelectorAll("[data-letter-keys]")) {
  box.checked = !remembered(LETTERS_OFF);
  box.addEventListener("change", () => remember(LETTERS_OFF, box.checked ? "" : "1"));
}

document.addEventListener("htmx:responseError", (event) => {
  const status = event.detail.xhr.status;
  if (status === 403) notice("Your role does not include this, or you signed out in another window. Reload the page.");
  else notice("The server could not answer. Try again in a minute.");
});
document.addEventListener("htmx:sendError", () => notice("No connection to the server. Check the network and try again."));
document.addEventListener("htmx:timeout", () => notice("The server took too long. Try again."));

// --- "5 min ago" stays true while the page is open; the words are those of the template tag `ago`
const agoWords = (seconds) => {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes} min ago`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h ago` : `${Math.floor(minutes / 1440)} d ago`;
};

setInterval(() => {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    time.textContent = agoWords((Date.now() - Date.parse(time.dateTime)) / 1000);
  }
}, 30_000);
