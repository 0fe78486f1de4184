// Sets light or dark before anything is drawn, and keeps what was chosen. Without a choice the page
// follows the system.
(function () {
  "use strict";
  var root = document.documentElement;
  function stored() {
    try { return localStorage.getItem("skyfill-theme"); } catch (error) { return null; }
  }
  function apply(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  }
  apply(stored());
  window.skyfillTheme = {
    isDark: function () {
      return root.dataset.theme
        ? root.dataset.theme === "dark"
        : matchMedia("(prefers-color-scheme: dark)").matches;
    },
    toggle: function () {
      var theme = this.isDark() ? "light" : "dark";
      apply(theme);
      try { localStorage.setItem("skyfill-theme", theme); } catch (error) { /* It is forgotten. */ }
    },
  };
})();
