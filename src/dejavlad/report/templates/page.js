document.querySelectorAll("[data-list]").forEach(function (list) {
  var tools = document.getElementById(list.dataset.list), cards = list.children;
  var buttons = tools.querySelectorAll("button"), input = tools.querySelector("input");
  var seen = tools.querySelector(".seen"), state = "";
  function show() {
    var sought = input.value.toLowerCase(), shown = 0;
    for (var i = 0; i < cards.length; i++) {
      var card = cards[i].dataset;
      var fits = (!state || card.state === state) && card.name.toLowerCase().indexOf(sought) >= 0;
      cards[i].hidden = !fits;
      shown += fits ? 1 : 0;
    }
    seen.textContent = shown + " of " + cards.length + " shown";
  }
  buttons.forEach(function (button) {
    button.addEventListener("click", function () {
      state = button.value;
      buttons.forEach(function (other) { other.setAttribute("aria-pressed", other === button); });
      show();
    });
  });
  input.addEventListener("input", show);
  tools.hidden = false;
  window.addEventListener("hashchange", function () {
    var card = document.getElementById(location.hash.slice(1));
    if (!card || card.parentNode !== list || !card.hidden) return;
    input.value = "";
    buttons[0].click();
    card.scrollIntoView();
  });
  show();
});
