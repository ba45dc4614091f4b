// Moments in the text play the file from there; where there is no file, or the browser cannot play it, they stay text.
{
  const audio = document.querySelector("audio");
  if (audio) {
    const moments = [...document.querySelectorAll("[data-from]")];
    for (const moment of moments) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "open";
      button.title = "play from here";
      button.append(...moment.childNodes);
      button.addEventListener("click", () => { audio.currentTime = Number(moment.dataset.from); audio.play(); });
      moment.append(button);
    }
    audio.addEventListener("error", () => {
      audio.hidden = true;
      document.getElementById("silent").hidden = false;
      for (const moment of moments) moment.replaceChildren(...moment.firstChild.childNodes);
    });
  }
}
