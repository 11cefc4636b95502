// Before anything is drawn: the theme that was chosen, and that scripts run.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.remove("no-script");
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  } catch {
    // Storage is switched off: the system's theme holds.
  }
})();
