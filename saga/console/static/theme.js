// Before the page is painted: the theme that was chosen here. Without a choice the system's holds.
(() => {
  try {
    const theme = localStorage.getItem("saga-theme");
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  } catch { /* no storage: the system's theme */ }
})();
