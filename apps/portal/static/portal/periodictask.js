// Administration of periodic tasks: says in words what the chosen crontab means.
const words = JSON.parse(document.getElementById("readable-crontabs").textContent);
const choice = document.getElementById("id_crontab");
const row = document.querySelector(".field-crontab_translation .readonly");

const tell = () => {
  row.textContent = words[choice.value] || "-";
};

if (choice && row) {
  choice.addEventListener("change", tell);
  tell();
}
